//! Who a request is addressed to.

use http::{
    header::HOST,
    request::Parts,
    uri::{Authority, Scheme, Uri},
};

/// The authority of a request, in lower case and without a default port.
///
/// It stands in the URI (HTTP/2, absolute form), in `Host` (HTTP/1), or in both. `None` where a handler and this layer
/// might read it differently: there is none, there are several, the two disagree, or it carries user information.
pub(super) fn authority(head: &Parts, uri: &Uri) -> Option<String> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, several) = (hosts.next(), hosts.next().is_some());
    if several {
        return None;
    }
    let host = match host {
        Some(line) => Some(normal(&Authority::try_from(line.as_bytes()).ok()?, uri.scheme())?),
        None => None,
    };
    let target = match uri.authority() {
        Some(authority) => Some(normal(authority, uri.scheme())?),
        None => None,
    };
    match (target, host) {
        (Some(target), Some(host)) if target != host => None,
        (target, host) => target.or(host),
    }
}

/// Without a scheme, which an HTTP/1 server does not see, nobody knows the default port: it then stays.
fn normal(authority: &Authority, scheme: Option<&Scheme>) -> Option<String> {
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let mut normal = authority.host().to_ascii_lowercase();
    // What follows the host is kept as it came, rather than as a number: a port that is none must not vanish.
    let port = &authority.as_str()[normal.len()..];
    let default = match scheme {
        Some(scheme) if *scheme == Scheme::HTTP => ":80",
        Some(scheme) if *scheme == Scheme::HTTPS => ":443",
        _ => ":",
    };
    if !matches!(port, "" | ":") && port != default {
        normal.push_str(port);
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(uri: &str, hosts: &[&str]) -> Option<String> {
        let request = hosts.iter().fold(Request::get(uri), |request, host| request.header("host", *host));
        let (head, ()) = request.body(()).unwrap().into_parts();
        authority(&head, &head.uri)
    }

    #[test]
    fn from_the_uri_or_from_host() {
        assert_eq!(read("http://a.test/", &[]).unwrap(), "a.test");
        assert_eq!(read("/", &["a.test"]).unwrap(), "a.test");
        assert_eq!(read("http://a.test/", &["a.test"]).unwrap(), "a.test");
    }

    #[test]
    fn in_lower_case() {
        assert_eq!(read("http://A.Test/", &["a.tEST"]).unwrap(), "a.test");
    }

    #[test]
    fn without_the_default_port_of_a_known_scheme() {
        assert_eq!(read("http://a.test:80/", &["a.test"]).unwrap(), "a.test");
        assert_eq!(read("https://a.test/", &["a.test:443"]).unwrap(), "a.test");
        assert_eq!(read("http://[::1]:80/", &["[::1]"]).unwrap(), "[::1]");
        assert_eq!(read("/", &["a.test:"]).unwrap(), "a.test");
    }

    #[test]
    fn with_any_other_port() {
        assert_eq!(read("https://a.test:80/", &[]).unwrap(), "a.test:80");
        assert_eq!(read("http://a.test:443/", &[]).unwrap(), "a.test:443");
        assert_eq!(read("/", &["a.test:8080"]).unwrap(), "a.test:8080");
        assert_eq!(read("/", &["a.test:80"]).unwrap(), "a.test:80");
        assert_eq!(read("/", &["[::1]:8080"]).unwrap(), "[::1]:8080");
    }

    #[test]
    fn nobody_or_more_than_one() {
        assert_eq!(read("/", &[]), None);
        assert_eq!(read("/", &[""]), None);
        assert_eq!(read("/", &["a.test", "a.test"]), None);
        assert_eq!(read("/", &["a.test, b.test"]), None);
        assert_eq!(read("http://a.test/", &["b.test"]), None);
        assert_eq!(read("http://a.test/", &["a.test:8080"]), None);
        assert_eq!(read("http://a.test/", &["a.test", "b.test"]), None);
        assert_eq!(read("/", &["me@a.test"]), None);
        assert_eq!(read("http://me@a.test/", &[]), None);
    }
}
