//! What axum's routers leave of the target of a request, and what they took from it. Without the feature `axum` nobody knows.

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

/// What a router that is nested at `mount` sees of `path`; `None` if it never sees it.
pub(super) fn below<'p>(mount: &str, path: &'p str) -> Option<&'p str> {
    let mount = mount.trim_end_matches('/');
    let end = path.match_indices('/').nth(mount.matches('/').count()).map_or(path.len(), |(end, _)| end);
    let (prefix, rest) = path.split_at(end);
    captures(mount, prefix)?;
    Some(if rest.is_empty() { "/" } else { rest })
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
