use http::Request;

use super::*;
use crate::key::Key;

/// Fails if a parameter may be empty or cross a slash, a catch-all may stand before the end, or an escaped brace opens one.
#[test]
fn paths_match_segment_by_segment() {
    type Captured = Option<&'static [(&'static str, &'static str)]>;
    let table: [(&str, &str, Captured); 40] = [
        ("/", "/", Some(&[])),
        ("/users", "/users", Some(&[])),
        ("/users", "/users/", None),
        ("/users", "/user", None),
        ("/users/", "/users", None),
        ("/Users", "/users", None),
        ("/users/{id}", "/users/7", Some(&[("id", "7")])),
        ("/users/{id}", "/users/%2e%2F ", Some(&[("id", "%2e%2F ")])),
        ("/users/{id}", "/users/a%2Fb", Some(&[("id", "a%2Fb")])),
        ("/users/{id}", "/users/{id}", Some(&[("id", "{id}")])),
        ("/users/{id}", "/users/", None),
        ("/users/{id}", "/users", None),
        ("/users/{id}", "/users/7/", None),
        ("/users/{id}", "/users/7/x", None),
        ("/users/{id}/", "/users/7/", Some(&[("id", "7")])),
        ("/{a}/x/{b}", "/1/x/2", Some(&[("a", "1"), ("b", "2")])),
        ("/{a}/{a}", "/1/2", Some(&[("a", "1"), ("a", "2")])),
        ("/{a}/x", "//x", None),
        ("/v{n}/x", "/v2/x", Some(&[("n", "2")])),
        ("/v{n}/x", "/v/x", None),
        ("/files/{*rest}", "/files/a/b", Some(&[("rest", "a/b")])),
        ("/files/{*rest}", "/files//", Some(&[("rest", "/")])),
        ("/files/{*rest}", "/files/", None),
        ("/files/{*rest}/x", "/files/a/x", None),
        ("/{{id}}", "/{id}", Some(&[])),
        ("/{{id}}", "/7", None),
        ("/{{{id}", "/{7", Some(&[("id", "7")])),
        ("/}}{id}", "/}7", Some(&[("id", "7")])),
        ("/{id}.png", "/7.png", None),
        ("/{id}{x}", "/7", None),
        ("/{id}{*rest}", "/7/x", None),
        ("/{}", "/7", None),
        ("/{*}", "/7", None),
        ("/{a{b}", "/7", None),
        ("/{a/b}", "/7", None),
        ("/{a*}", "/7", None),
        ("/{id", "/{id", None),
        ("/id}", "/id}", None),
        ("/{na}}me}", "/7", None),
        ("", "/", None),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(captures(pattern, path).as_deref(), expected, "{pattern} {path}");
    }
}

fn head(uri: &str) -> Parts {
    Request::get(uri).body(()).unwrap().into_parts().0
}

fn key(path: &str, params: &[&str]) -> Option<Key> {
    let head = head(&format!("http://a.test{path}"));
    params.iter().fold(RequestKey::of_pattern(&head, "/{a}/x/{b}")?, |key, name| key.path_param(name)).finish()
}

/// Fails if the path or its parameters count unasked, or one that is asked for does not.
#[test]
fn what_is_added_counts_and_nothing_else() {
    assert_eq!(key("/1/x/2", &[]), key("/3/x/4?y", &[]));
    assert_eq!(key("/1/x/2", &["a"]), key("/1/x/4", &["a"]));
    assert_ne!(key("/1/x/2", &["a"]), key("/3/x/2", &["a"]));
    assert_ne!(key("/1/x/1", &["a"]), key("/1/x/1", &["b"]));
    assert_ne!(key("/12/x/3", &["a", "b"]), key("/1/x/23", &["a", "b"]));
    assert_ne!(key("/1/x/2", &["b"]), key("/1/x/%32", &["b"]));
    assert_eq!(key("/1/y/2", &[]), None);
}

/// Fails if a name that the pattern lacks adds nothing, and so shares more than was asked for.
#[test]
fn a_parameter_that_is_not_there_makes_no_key() {
    assert_eq!(key("/1/x/2", &["c"]), None);
    assert_eq!(key("/1/x/2", &["c", "a"]), None);
    let head = head("http://a.test/1/x/2");
    assert_eq!(RequestKey::new(&head).unwrap().path_param("a").finish(), None);
}

/// Fails if a pattern takes the place of the path as it is.
#[test]
fn a_pattern_is_no_path() {
    let head = head("http://a.test/{id}");
    let of_pattern = |pattern| RequestKey::of_pattern(&head, pattern).unwrap().finish();
    assert_ne!(of_pattern("/{id}"), RequestKey::without_query(&head).unwrap().finish());
    assert_ne!(of_pattern("/{id}"), of_pattern("/{name}"));
    assert_ne!(of_pattern("/{id}"), of_pattern("/{{id}}"));
}

/// Fails if a pattern covers less of a request than its path alone.
#[test]
fn what_is_not_the_path_still_counts() {
    let of = |uri: &str, lines: &[(&str, &str)]| {
        let request = lines.iter().fold(Request::get(uri), |request, (name, line)| request.header(*name, *line));
        let head = request.body(()).unwrap().into_parts().0;
        RequestKey::of_pattern(&head, "/{id}").and_then(RequestKey::finish)
    };
    let plain = of("http://a.test/7", &[]).unwrap();
    assert_ne!(of("http://b.test/7", &[]).unwrap(), plain);
    assert_ne!(of("https://a.test/7", &[]).unwrap(), plain);
    assert_ne!(of("http://a.test/7", &[("x-forwarded-host", "b.test")]).unwrap(), plain);
    assert_eq!(of("/7", &[]), None);
}

/// Fails if what a router has stripped counts although the pattern stands for it; if what another middleware has
/// written in its place does not; or if two routers that see the same of it share.
#[cfg(feature = "axum")]
#[tokio::test]
async fn what_was_rewritten_counts_unless_routers_alone_did_it() {
    use std::convert::Infallible;

    use axum::{Router, body::Body, extract::OriginalUri, response::Response};
    use tower::{ServiceExt, service_fn};

    /// The key of `http://a.test` and `path`, which a middleware has made `rewritten` before a router that is nested at
    /// `mount`.
    async fn key(path: &str, rewritten: &str, mount: Option<&str>) -> Key {
        let inner = service_fn(async |request: axum::extract::Request| {
            let key = RequestKey::of_pattern(&request.into_parts().0, "/{a}/{b}").and_then(RequestKey::finish);
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(key.unwrap());
            Ok::<_, Infallible>(response)
        });
        let app = match mount {
            Some(mount) => Router::new().nest_service(mount, inner),
            None => Router::new().fallback_service(inner),
        };
        let mut request = Request::get(format!("http://a.test{rewritten}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(OriginalUri(format!("http://a.test{path}").parse().unwrap()));
        app.oneshot(request).await.unwrap().extensions_mut().remove().unwrap()
    }

    let nested = key("/a/1", "/a/1", Some("/a")).await;
    assert_eq!(nested, key("/a/2", "/a/2", Some("/a")).await, "a parameter differs, and is not added");
    assert_ne!(nested, key("/b/1", "/b/1", Some("/b")).await, "another router");
    assert_ne!(nested, key("/a/1", "/a/1", None).await, "no router in between");
    assert_ne!(key("/a/1", "/one/1", None).await, key("/a/1", "/two/1", None).await, "rewritten");
    assert_ne!(key("/a/1", "/one/8", Some("/one")).await, key("/a/1", "/one/9", Some("/one")).await, "and stripped");
    let (one, two) = (key("/a/1", "/one/a/1", Some("/one")).await, key("/a/1", "/two/a/1", Some("/two")).await);
    assert_ne!(one, two, "what was written in front is stripped again");
}
