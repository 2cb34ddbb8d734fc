//! What axum's routers leave of the target of a request, and what they took from it. Without the feature `axum` nobody
//! knows.

use std::iter;

use http::{Uri, request::Parts};

use super::key::captures;

/// The URI as the client sent it: routers strip prefixes from the one in the head.
#[cfg(feature = "axum")]
pub(super) fn original(head: &Parts) -> &Uri {
    head.extensions.get::<axum::extract::OriginalUri>().map_or(&head.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
pub(super) fn original(head: &Parts) -> &Uri {
    &head.uri
}

/// The pattern of the prefix that routers have stripped, if they have.
#[cfg(feature = "axum")]
pub(super) fn mount(head: &Parts) -> Option<&str> {
    head.extensions.get::<axum::extract::NestedPath>().map(axum::extract::NestedPath::as_str)
}

#[cfg(not(feature = "axum"))]
pub(super) fn mount(_: &Parts) -> Option<&str> {
    None
}

/// The pattern of the whole route, if routers have found one.
#[cfg(feature = "axum")]
pub(super) fn matched(head: &Parts) -> Option<&str> {
    head.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

/// What a router that is nested at `mount` sees of `path`; `None` if it never sees it.
fn below<'p>(mount: &str, path: &'p str) -> Option<&'p str> {
    let mount = mount.trim_end_matches('/');
    let end = path.match_indices('/').nth(mount.matches('/').count()).map_or(path.len(), |(end, _)| end);
    let (prefix, rest) = path.split_at(end);
    captures(mount, prefix)?;
    Some(if rest.is_empty() { "/" } else { rest })
}

/// Whether routers that are nested at `mount` leave `left` of `uri`.
pub(super) fn strips(mount: &str, uri: &Uri, left: &Uri) -> bool {
    let same = uri.scheme() == left.scheme() && uri.authority() == left.authority() && uri.query() == left.query();
    same && below(mount, uri.path()) == Some(left.path())
}

/// The same request for `uri`: as the client would have sent it, and as the routers would have left it through which `head`
/// came, if it comes through them.
pub(super) fn retargeted(mut head: Parts, uri: Uri) -> Vec<Parts> {
    #[cfg(feature = "axum")]
    let nested = nested(head.clone(), &uri);
    #[cfg(not(feature = "axum"))]
    let nested = None;
    head.uri = uri;
    #[cfg(feature = "axum")]
    {
        head.extensions.remove::<axum::extract::OriginalUri>();
        head.extensions.remove::<axum::extract::NestedPath>();
    }
    iter::once(head).chain(nested).collect()
}

#[cfg(feature = "axum")]
fn nested(mut head: Parts, uri: &Uri) -> Option<Parts> {
    let path = below(mount(&head)?, uri.path())?;
    let path = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    head.uri = Uri::from_parts(parts).ok()?;
    head.extensions.insert(axum::extract::OriginalUri(uri.clone()));
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if a prefix is compared by bytes instead of segments, or its parameters are compared at all.
    #[test]
    fn a_nested_router_sees_what_is_below_it() {
        for (mount, path, seen) in [
            ("/api", "/api/items/7", Some("/items/7")),
            ("/api", "/api/", Some("/")),
            ("/api", "/api", Some("/")),
            ("/api/", "/api/items", Some("/items")),
            ("/api/{tenant}", "/api/acme/items", Some("/items")),
            ("/api/{tenant}", "/api/acme", Some("/")),
            ("/api/{tenant}", "/api", None),
            ("/api/{tenant}", "/api//items", None),
            ("/api", "/apis/items", None),
            ("/api", "/ap", None),
            ("/api", "", None),
        ] {
            assert_eq!(below(mount, path), seen, "{mount} {path}");
        }
    }
}
