use http::Request;

use super::*;

fn calls() -> Calls {
    Calls { methods: Vec::new(), metadata: vec!["x-tenant".parse().unwrap()], service: None, most: 99 }
}

const URI: &str = "http://a.test/hello.Greeter/Say";

fn head(uri: &str, lines: &[(&str, &str)]) -> Parts {
    let request = Request::post(uri).header("content-type", "application/grpc");
    lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(()).unwrap().into_parts().0
}

fn key(uri: &str, lines: &[(&str, &str)], message: &[u8]) -> Key {
    calls().key(Unary::default(), &head(uri, lines), message).unwrap()
}

/// Fails if a part is left out of the key, or runs into the next.
#[test]
fn what_tells_calls_apart() {
    let keys = [
        key(URI, &[], b"a"),
        key(URI, &[], b"b"),
        key(URI, &[], b""),
        key("http://b.test/hello.Greeter/Say", &[], b"a"),
        key("http://a.test/hello.Greeter/Said", &[], b"a"),
        key("http://a.test/hello.Greeter/Say?x", &[], b"a"),
        key(URI, &[("content-type", "application/grpc+json")], b"a"),
        key(URI, &[("grpc-encoding", "gzip")], b"a"),
        key(URI, &[("grpc-encoding", "")], b"a"),
        key(URI, &[("grpc-accept-encoding", "gzip")], b"a"),
        key(URI, &[("grpc-accept-encoding", "gzip,zstd")], b"a"),
        key(URI, &[("x-tenant", "gzip")], b"a"),
        key(URI, &[("x-tenant", "1"), ("x-tenant", "2")], b"a"),
        key(URI, &[("x-tenant", "2"), ("x-tenant", "1")], b"a"),
        key(URI, &[("x-tenant", "1,2")], b"a"),
    ];
    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[..place].contains(key), "{place}");
    }
}

#[test]
fn what_does_not() {
    let plain = key(URI, &[], b"a");
    for (name, line) in
        [("grpc-timeout", "5S"), ("user-agent", "tonic"), ("traceparent", "00-1"), ("te", "trailers"), ("x-other", "1")]
    {
        assert_eq!(key(URI, &[(name, line)], b"a"), plain, "{name}");
    }
    let accepting = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("grpc-accept-encoding", *line)).collect();
        key(URI, &lines, b"a")
    };
    assert_eq!(accepting(&["gzip, zstd"]), accepting(&["zstd,gzip"]));
    assert_eq!(accepting(&["gzip, zstd"]), accepting(&["zstd", "gzip,gzip, identity,"]));
    for nothing in [&[""][..], &["identity"], &["identity,"], &["", "identity"]] {
        assert_eq!(accepting(nothing), plain, "{nothing:?}");
    }
}

/// Fails if what one replica shares reaches those of another that does not.
#[test]
fn replicas_agree_on_the_codes_they_share() {
    let mut more = Unary::default();
    assert!(more.add(5));
    assert_ne!(calls().key(more, &head(URI, &[]), b"a"), calls().key(Unary::default(), &head(URI, &[]), b"a"));
}

/// Fails if a service and a host of one name are the same, or a call without either has a key.
#[test]
fn whoever_is_called_is_named() {
    let named = Calls { service: Some("a.test".into()), ..calls() };
    let key = named.key(Unary::default(), &head("http://10.0.0.7:5000/hello.Greeter/Say", &[]), b"a").unwrap();
    assert_eq!(Some(&key), named.key(Unary::default(), &head("/hello.Greeter/Say", &[]), b"a").as_ref());
    assert_ne!(key, calls().key(Unary::default(), &head(URI, &[]), b"a").unwrap());
    assert_eq!(calls().key(Unary::default(), &head("/hello.Greeter/Say", &[]), b"a"), None);
}

#[test]
fn patterns() {
    let matches = |pattern: &str, path: &str| Pattern::new(pattern).unwrap().matches(path);
    assert!(matches("/a.B/Get", "/a.B/Get") && matches("/a.B/Get*", "/a.B/GetAll") && matches("/a.B/*", "/a.B/Get"));
    assert!(matches("/a.B/Get*", "/a.B/Get"));
    assert!(
        !matches("/a.B/Get", "/a.B/GetAll") && !matches("/a.B/Get*", "/a.B/get") && !matches("/a.B/*", "/a.Bc/Get")
    );
    for pattern in ["", "*", "/*", "/a.B*", "/a.B", "/a.B/", "a.B/Get", "/a.B/*Get", "/a.B/G*t*", "//Get", "/a/b/c"] {
        assert!(Pattern::new(pattern).is_none(), "{pattern}");
    }
}

/// Fails if a call flies that nobody named, or whose messages are framed otherwise.
#[test]
fn only_what_is_named_flies() {
    let calls = Calls { methods: vec![Pattern::new("/hello.Greeter/Say*").unwrap()], ..calls() };
    let refuses = |method: &str, uri: &str, content_type: &str, line: (&str, &str)| {
        let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
        calls.refuses(&request.header(line.0, line.1).body(()).unwrap(), &Overrides::default(), &Identity::new())
    };
    let (grpc, none) = ("application/grpc", ("te", "trailers"));
    for content_type in [grpc, "application/grpc+proto", "application/grpc;charset=utf-8"] {
        assert_eq!(refuses("POST", URI, content_type, none), None);
    }
    for content_type in
        ["application/grpc-web", "application/grpc-web+proto", "application/grpcx", "application/json", ""]
    {
        assert_eq!(refuses("POST", URI, content_type, none), Some(Why::Content), "{content_type}");
    }
    assert_eq!(refuses("GET", URI, grpc, none), Some(Why::Method));
    for path in ["/hello.Greeter/Chat", "/grpc.health.v1.Health/Watch", "/hello.Greeter/"] {
        assert_eq!(refuses("POST", path, grpc, none), Some(Why::Method), "{path}");
    }
    for (line, why) in [
        (("authorization", "Bearer x"), Why::Identity),
        (("cookie", "a=b"), Why::Identity),
        (("cache-control", "no-store"), Why::NoStore),
        (("expect", "100-continue"), Why::Expect),
        (("content-type", grpc), Why::Content),
    ] {
        assert_eq!(refuses("POST", URI, grpc, line), Some(why), "{line:?}");
    }
    assert_eq!(refuses("POST", URI, grpc, ("content-length", "7")), None);
}
