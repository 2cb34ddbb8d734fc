//! What stands between the clients and the layer.

use std::{convert::Infallible, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{COOKIE, HOST, TE},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use tower::ServiceExt;
use tower_singleflight::{Singleflight, middleware::ResponseBody};

use crate::{
    hop,
    upstream::{Answer, Upstream},
};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub type Proxy = Singleflight<Upstream>;

/// Answers a request.
///
/// In the upstream's stead only where a failure came through the layer as an error: the other failures are responses
/// already.
pub async fn answer(
    proxy: Proxy,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody<Answer>>, Infallible> {
    // A tunnel to where the client wants it is what a forward proxy is for.
    if request.method() == Method::CONNECT {
        return Ok(bare(StatusCode::NOT_IMPLEMENTED));
    }
    let (mut head, body) = request.into_parts();
    if admit(&mut head, client).is_none() {
        return Ok(bare(StatusCode::BAD_REQUEST));
    }
    Ok(proxy.oneshot(Request::from_parts(head, body)).await.unwrap_or_else(|failure| failure.answer()))
}

/// Makes the head what the layer and the upstream shall see; `None` if it is malformed.
///
/// Out here, so that both see the same. If a field named by `Connection` were taken out behind the layer, responses
/// selected for a request without that field would be stored for requests with it, and clients could choose which.
fn admit(head: &mut Parts, client: IpAddr) -> Option<()> {
    let authority = authority(head)?;
    let headers = &mut head.headers;
    let trailers = hop::elements(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    hop::strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // HTTP/2 may send each cookie by itself, and nobody else may (RFC 9113, section 8.2.3).
    if head.version == Version::HTTP_2 && headers.contains_key(COOKIE) {
        join(headers, &COOKIE, b"; ", None)?;
    }
    join(headers, &FORWARDED_FOR, b", ", Some(client.to_string().as_bytes()))?;
    hop::sign(headers, head.version);
    if let Some(authority) = authority {
        headers.insert(HOST, authority.as_str().try_into().ok()?);
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        // With HTTP/1 the authority stands in a field, and with HTTP/2 in the target. It is the same resource, so it has to
        // have the same key.
        head.uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().ok()?;
    }
    Some(())
}

/// Which host is asked for, of those that the upstream may have; `Some(None)` if HTTP/1.0 does not say.
fn authority(head: &Parts) -> Option<Option<Authority>> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let authority = match (head.uri.authority(), hosts.next(), hosts.next()) {
        // The target counts, whatever the field says (RFC 9112, section 3.2.2).
        (Some(authority), _, None) => authority.clone(),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok()?,
        (None, None, None) if head.version == Version::HTTP_10 => return Some(None),
        _ => return None,
    };
    (!authority.as_str().contains('@')).then_some(Some(authority))
}

/// Makes one line of all lines of a field, and of one more value.
fn join(headers: &mut HeaderMap, name: &HeaderName, with: &[u8], last: Option<&[u8]>) -> Option<()> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).chain(last).collect();
    let line = HeaderValue::from_bytes(&lines.join(with)).ok()?;
    headers.insert(name, line);
    Some(())
}

fn bare(status: StatusCode) -> Response<ResponseBody<Answer>> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = status;
    response
}
