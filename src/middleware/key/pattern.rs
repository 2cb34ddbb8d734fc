//! Keys of paths that are the same but for their parameters.

use http::request::Parts;

#[cfg(feature = "axum")]
use super::super::nest::matched;
use super::{RequestKey, authority, original};

/// A pattern, and what the parameters in it stand for.
#[derive(Clone, Debug)]
pub(super) struct Matched<'a> {
    pub(super) pattern: &'a str,
    captured: Vec<(&'a str, &'a str)>,
}

impl<'a> RequestKey<'a> {
    /// Covers the target like [`without_query`](Self::without_query), with `pattern` in place of the path: add the
    /// parameters that count with [`path_param`](Self::path_param), and those of the query with [`query`](Self::query).
    ///
    /// **Requests that differ only in parameters that were not added share a response**: that is what this is for, and all
    /// that keeps `/users/7` and `/users/8` apart is what follows.
    ///
    /// A pattern knows nothing of other routes: `/users/{id}` matches `/users/me` too. Use it around the one route that
    /// it is the pattern of.
    ///
    /// A pattern is written as for axum's router: `{id}` stands for the rest of a segment, one character at least, and
    /// `{*rest}`, at the end, for the rest of the path; `{{` and `}}` for a brace. `None` if the path as the client sent it
    /// does not match, if `pattern` is not written like this, and like [`new`](Self::new).
    ///
    /// What does not match has no key to be forgotten by, either: a target that a response names in `Location`, or
    /// [`also_invalidate`](super::super::SingleflightLayer::also_invalidate), is left alone if it is of another pattern.
    ///
    /// The path is matched raw: `%2F` is no slash and parts no segments, `%61` is no `a`. Where a handler decodes its
    /// parameters, as axum's `Path` does, paths that it cannot tell apart make two keys, which costs an execution; two that
    /// it can tell apart never make one.
    ///
    /// ```
    /// use tower_singleflight::{RequestKey, key_fn};
    /// # use http::{Request, request::Parts};
    /// # use tower_singleflight::KeyExtractor;
    ///
    /// // The version is there for browsers: whichever is asked for, the newest is the answer.
    /// let by_user = key_fn(|head| RequestKey::of_pattern(head, "/users/{id}/avatar/{version}")?.path_param("id").finish());
    /// # let head = |path: &str| Request::get(format!("http://a.test{path}")).body(()).unwrap().into_parts().0;
    /// # let key = |path| by_user.key(&head(path));
    /// assert_eq!(key("/users/7/avatar/1"), key("/users/7/avatar/2"));
    /// assert_ne!(key("/users/7/avatar/1"), key("/users/8/avatar/1"));
    /// assert_eq!(key("/users/7"), None); // such requests bypass
    /// ```
    pub fn of_pattern(head: &'a Parts, pattern: &'a str) -> Option<Self> {
        let uri = original(head);
        let matched = Matched { pattern, captured: captures(pattern, uri.path())? };
        Some(Self::target(head, uri.scheme_str().unwrap_or_default(), &authority(head, uri)?, &[], Some(matched)))
    }

    /// Covers the target like [`of_pattern`](Self::of_pattern), with the pattern of the route that axum's routers have
    /// found.
    ///
    /// `None` where they have found none: around a whole router or a `nest_service`, and in a fallback. Where `nest_service`
    /// leads to a router, its pattern for `/` is not what the client has sent either, and makes no key.
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::Request, routing::get};
    /// use tower::ServiceExt;
    /// use tower_singleflight::{Outcome, RequestKey, SingleflightLayer, backend::Memory, key_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // Every route here has an `id`, and `?utm_source=x` does not count.
    /// let by_id = key_fn(|head| RequestKey::of_matched_path(head)?.path_param("id").finish());
    /// let layer = SingleflightLayer::new(Memory::new()).result_ttl(std::time::Duration::from_secs(5)).key(by_id);
    /// let users = Router::new().route("/{id}/avatar/{version}", get(async || "the newest")).layer(layer);
    /// let app = Router::new().nest("/users", users);
    ///
    /// let mut outcomes = Vec::new();
    /// for path in ["/users/7/avatar/1", "/users/7/avatar/2", "/users/8/avatar/1"] {
    ///     let request = Request::get(format!("http://a.test{path}")).body(Body::empty()).unwrap();
    ///     outcomes.push(*app.clone().oneshot(request).await.unwrap().extensions().get::<Outcome>().unwrap());
    /// }
    /// assert!(matches!(outcomes[..], [Outcome::Led, Outcome::Hit { .. }, Outcome::Led]));
    /// # }
    /// ```
    #[cfg(feature = "axum")]
    pub fn of_matched_path(head: &'a Parts) -> Option<Self> {
        Self::of_pattern(head, matched(head)?)
    }

    /// Adds what stands in the path for the parameter `name` of the [pattern](Self::of_pattern), as it came: `%20` differs
    /// from `+`, and `07` from `7`.
    ///
    /// A name that the pattern lacks makes no key.
    pub fn path_param(mut self, name: &str) -> Self {
        let captured = self.matched.take();
        let named = captured.iter().flat_map(|matched| &matched.captured).filter(|(known, _)| *known == name);
        let mut values = named.map(|(_, value)| value.as_bytes()).peekable();
        self.broken |= values.peek().is_none();
        let mut key = self.group("path parameter", name, values);
        key.matched = captured;
        key
    }
}

/// What the parameters of `pattern` stand for in `path`, in their order; `None` if it does not match, or is no pattern.
///
/// As the router of axum reads it, with two exceptions. It takes braces in the names of parameters and, between two slashes,
/// nothing for a parameter; neither is a pattern or a match here.
pub(in crate::middleware) fn captures<'p, 'v>(
    mut pattern: &'p str,
    mut path: &'v str,
) -> Option<Vec<(&'p str, &'v str)>> {
    let mut captured = Vec::new();
    while let Some(at) = pattern.find(['{', '}']) {
        path = path.strip_prefix(&pattern[..at])?;
        let (brace, after) = pattern[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            (pattern, path) = (after, path.strip_prefix(brace)?);
            continue;
        }
        let (name, after) = after.split_once('}').filter(|_| brace == "{")?;
        let (name, end) = match name.strip_prefix('*') {
            Some(name) => (name, path.len()),
            None => (name, path.find('/').unwrap_or(path.len())),
        };
        let (value, rest) = path.split_at(end);
        let ends = after.is_empty() || after.starts_with('/');
        if !ends || name.is_empty() || name.contains(['{', '*', '/']) || value.is_empty() {
            return None;
        }
        captured.push((name, value));
        (pattern, path) = (after, rest);
    }
    (pattern == path).then_some(captured)
}

#[cfg(test)]
mod tests;
