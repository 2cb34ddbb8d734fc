use http::Request;

use super::*;

#[test]
fn a_service_is_one_whatever_its_hosts_are_called() {
    let of = |uri: &str| {
        let head = Request::get(uri).body(()).unwrap().into_parts().0;
        (RequestKey::of_service(&head, "shop").finish().unwrap(), RequestKey::new(&head).unwrap().finish().unwrap())
    };
    let (a, b) = (of("http://a.test/x?y=1"), of("http://b.test/x?y=1"));
    assert_eq!(a.0, b.0);
    assert_ne!(a.1, b.1);
    assert_ne!(a.0, of("http://a.test/x?y=2").0);
    assert_ne!(a.0, of("http://shop/x?y=1").1);
}

fn head(uri: &str, lines: &[(&str, &str)]) -> Parts {
    let request = lines.iter().fold(Request::get(uri), |request, (name, line)| request.header(*name, *line));
    request.body(()).unwrap().into_parts().0
}

fn key(uri: &str, lines: &[(&str, &str)]) -> Key {
    Target.key(&head(uri, lines)).unwrap()
}

#[test]
fn what_looks_alike_is_not_the_same() {
    let different = [
        ("http://a.test/a%2Fb", "http://a.test/a/b"),
        ("http://a.test/A", "http://a.test/a"),
        ("http://a.test/a", "http://a.test/a/"),
        ("http://a.test//a", "http://a.test/a"),
        ("http://a.test/?x=1&y=2", "http://a.test/?y=2&x=1"),
        ("http://a.test/?a=%1E", "http://a.test/?a=%1e"),
        ("http://a.test/", "http://a.test/?"),
        ("http://a.test/", "http://b.test/"),
        ("http://a.test/", "https://a.test/"),
        ("http://a.test/", "http://a.test:8080/"),
        ("http://ab/c", "http://a/b/c"),
        ("http://a.test/ab?c", "http://a.test/a?bc"),
    ];
    for (one, other) in different {
        assert_ne!(key(one, &[]), key(other, &[]), "{one} {other}");
    }
}

#[test]
fn the_same_target_is_the_same_however_it_is_addressed() {
    assert_eq!(key("http://a.test/x", &[]), key("http://A.TEST:80/x", &[("host", "a.test")]));
    assert_eq!(key("/x", &[("host", "a.test")]), key("/x", &[("Host", "A.test")]));
}

#[test]
fn the_method_is_part_of_it() {
    let mut request = head("http://a.test/", &[]);
    let get = Target.key(&request);
    request.method = http::Method::HEAD;
    assert_ne!(Target.key(&request), get);
}

#[test]
fn no_authority_no_key() {
    assert_eq!(Target.key(&head("/", &[])), None);
    assert_eq!(Target.key(&head("http://a.test/", &[("host", "b.test")])), None);
}

#[test]
fn forwarded_fields_are_part_of_it() {
    let plain = key("http://a.test/", &[]);
    let names = [
        "Forwarded",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Proto",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded-Uri",
        "Front-End-Https",
        "X-Envoy-Original-Path",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Original-Host",
        "X-Scheme",
        "X-Url-Scheme",
    ];
    for name in names {
        assert_ne!(key("http://a.test/", &[(name, "evil.test")]), plain, "{name}");
        assert_ne!(key("http://a.test/", &[(name, "")]), plain, "{name}");
    }
    let both = [("x-forwarded-host", "a"), ("x-forwarded-proto", "https")];
    assert_eq!(key("http://a.test/", &both), key("http://a.test/", &[both[1], both[0]]), "in any order");
    assert_eq!(key("http://a.test/", &[("x-forwarded-for", "1.2.3.4")]), plain);
    let twice = [("x-forwarded-host", "a"), ("x-forwarded-host", "b")];
    assert_ne!(key("http://a.test/", &twice), key("http://a.test/", &[("x-forwarded-host", "a, b")]));
    assert_ne!(
        key("http://a.test/", &[("x-forwarded-host", "a")]),
        key("http://a.test/", &[("x-forwarded-port", "a")])
    );
}

#[test]
fn other_fields_are_not() {
    assert_eq!(key("http://a.test/", &[("accept-language", "de")]), key("http://a.test/", &[]));
}

#[test]
fn a_header_that_is_asked_for_is() {
    let by_language = key_fn(|head| RequestKey::new(head)?.header("Accept-Language").finish());
    let key = |lines: &[_]| by_language.key(&head("http://a.test/", lines)).unwrap();
    let keys = [
        key(&[]),
        key(&[("accept-language", "")]),
        key(&[("accept-language", "de")]),
        key(&[("accept-language", "de"), ("accept-language", "en")]),
        key(&[("accept-language", "deen")]),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(!keys[at + 1..].contains(one), "{at}");
    }
    assert_eq!(keys[2], key(&[("ACCEPT-LANGUAGE", "de")]));
}

#[test]
fn an_impossible_header_makes_no_key() {
    let impossible = key_fn(|head| RequestKey::new(head)?.header("accept language").finish());
    assert_eq!(impossible.key(&head("http://a.test/", &[])), None);
}

#[test]
fn parameters_that_are_asked_for_are() {
    let by_page = key_fn(|head| RequestKey::without_query(head)?.query("page").finish());
    let key = |query: &str| by_page.key(&head(&format!("http://a.test/{query}"), &[])).unwrap();
    assert_eq!(key("?page=2&utm=x"), key("?utm=y&page=2"));
    assert_eq!(key("?%70a%67e=2"), key("?page=2"));
    assert_eq!(key("?%zzpage=2&pag%65x=1"), key(""));
    assert_ne!(key("?page=2"), key("?page=3"));
    assert_ne!(key("?page=2"), key("?page=2&page=3"));
    assert_ne!(key("?page=2&page=3"), key("?page=3&page=2"));
    assert_ne!(key(""), key("?page"));
    assert_ne!(key("?page"), key("?page="));
}

#[test]
fn parts_do_not_run_together() {
    let of = |parts: &[&str]| {
        let head = head("http://a.test/", &[]);
        parts.iter().fold(RequestKey::new(&head).unwrap(), RequestKey::part).finish().unwrap()
    };
    assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    assert_ne!(of(&["a"]), of(&["a", ""]));
}

/// Fails if a field that is trusted tells requests apart, or one that is not does not.
#[test]
fn what_a_trusted_proxy_says_does_not_count() {
    let head = |lines: &[(&str, &str)]| {
        let request = lines.iter().fold(Request::get("http://a.test/"), |to, (name, line)| to.header(*name, *line));
        request.body(()).unwrap().into_parts().0
    };
    let key = |lines: &[_]| RequestKey::trusting(&head(lines), &["X-Forwarded-Proto"]).unwrap().finish().unwrap();
    assert_eq!(key(&[("x-forwarded-proto", "https")]), key(&[]));
    assert_eq!(key(&[]), RequestKey::new(&head(&[])).unwrap().finish().unwrap());
    assert_ne!(key(&[("x-forwarded-host", "b.test")]), key(&[]));
}
