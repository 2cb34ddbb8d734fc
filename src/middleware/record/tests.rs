use http::Response;
use proptest::{collection::vec, option, prelude::*};

use super::*;

type Lines = Vec<(String, Vec<u8>)>;

fn map_of(lines: &Lines) -> HeaderMap {
    map(lines.iter().map(|(name, line)| (&**name, &**line)).collect()).unwrap()
}

fn stored(status: u16, fresh_ms: u64, headers: &Lines, trailers: Option<&Lines>, body: &[u8]) -> Stored {
    let status = StatusCode::from_u16(status).unwrap();
    let headers = map_of(headers);
    let plan = Plan {
        for_waiters: true,
        age: Duration::from_millis(fresh_ms / 2),
        lifetime: Duration::from_millis(fresh_ms),
        stale_while_revalidate: Duration::from_millis(1),
        never_stale: headers.contains_key("c"),
        validator: has_validator(&headers),
        ..Plan::default()
    };
    let names: Arc<[_]> = [HeaderName::from_static("accept")].into();
    let selection = headers.contains_key("b").then(|| Selection::of(names, &HeaderMap::new()));
    let targets = headers.keys().filter(|name| *name == "a").cloned().collect();
    let head = Head { status, plan, targets, selection, headers, trailers: trailers.map(map_of) };
    Stored { head: Arc::new(head), body: Bytes::copy_from_slice(body) }
}

fn any_lines() -> impl Strategy<Value = Lines> {
    let name = prop_oneof!["[a-c]", "[a-z][a-z0-9-]{0,12}"];
    let byte = prop_oneof![Just(b'\t'), 32..127_u8, 128..=255_u8];
    vec((name, vec(byte, 0..16)), 0..8)
}

fn any_stored() -> impl Strategy<Value = Stored> {
    let status = prop_oneof![200..206_u16, 300..304_u16, 404..407_u16, 408..1000_u16];
    (status, any::<u64>(), any_lines(), option::of(any_lines()), vec(any::<u8>(), 0..64)).prop_map(
        |(status, fresh_ms, headers, trailers, body)| stored(status, fresh_ms, &headers, trailers.as_ref(), &body),
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(stored in any_stored()) {
        let payload = Binary.encode(&stored).unwrap();
        prop_assert_eq!(Binary.decode(payload).unwrap(), stored);
    }

    #[test]
    fn a_cut_or_longer_record_is_no_record(stored in any_stored(), more in any::<u8>()) {
        let payload = Binary.encode(&stored).unwrap();
        for length in 0..payload.len() {
            prop_assert!(Binary.decode(payload.slice(..length)).is_err(), "{}", length);
        }
        let longer: Bytes = payload.iter().copied().chain([more]).collect();
        prop_assert!(Binary.decode(longer).is_err());
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in vec(any::<u8>(), 0..64), head in vec(any::<u8>(), 0..64)) {
        let _ = Binary.decode(bytes.into());
        let framed: Vec<u8> = [VERSION].into_iter().chain((head.len() as u32).to_be_bytes()).chain(head).collect();
        let _ = Binary.decode(framed.into());
    }

    #[test]
    fn one_wrong_byte_never_panics(stored in any_stored(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = Binary.encode(&stored).unwrap().to_vec();
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = Binary.decode(payload.into());
    }
}

#[test]
fn the_format_is_this_one() {
    let headers = vec![("a".into(), b"1".to_vec()), ("a".into(), b"\xff".to_vec())];
    let stored = stored(200, 300, &headers, None, b"hi");
    let payload = Binary.encode(&stored).unwrap();
    let head = [200, 1, 150, 1, 172, 2, 1, 0, 0, 2, 1, 1, b'a', 0, 2, 1, b'a', 1, b'1', 1, b'a', 1, 0xff, 0];
    let expected = [&[VERSION, 0, 0, 0, head.len() as u8], &head[..], b"hi"].concat();
    assert_eq!(payload, expected);
}

#[test]
fn another_version_is_no_record() {
    let payload = Binary.encode(&stored(200, 0, &vec![], None, b"")).unwrap();
    let other: Bytes = [VERSION + 1].into_iter().chain(payload[1..].iter().copied()).collect();
    assert!(Binary.decode(other).is_err());
}

#[test]
fn what_nobody_else_may_see_is_no_record() {
    let with = |status, name: &str, line: &str| {
        let headers = vec![(name.to_owned(), line.as_bytes().to_vec())];
        Binary.decode(Binary.encode(&stored(status, 0, &headers, None, b"")).unwrap())
    };
    assert!(with(200, "etag", "a").is_ok());
    for status in [101, 206, 304, 401, 403, 407] {
        assert!(with(status, "etag", "a").is_err(), "{status}");
    }
    for (name, line) in [("set-cookie", "a=b"), ("cache-control", "private"), ("vary", "*")] {
        assert!(with(200, name, line).is_err(), "{name}");
    }
}

fn empty(headers: Fields<'_>) -> Wire<'_> {
    let (times_ms, targets) = ([0; 4], vec![]);
    Wire { status: 200, times_ms, never_stale: false, body: 0, targets, selection: None, headers, trailers: None }
}

#[test]
fn a_head_that_holds_more_than_a_head_is_no_record() {
    let mut head = postcard::to_stdvec(&empty(vec![])).unwrap();
    let framed = |head: &[u8]| [&[VERSION][..], &(head.len() as u32).to_be_bytes(), head].concat();
    assert!(Binary.decode(framed(&head).into()).is_ok());
    head.push(0);
    assert!(Binary.decode(framed(&head).into()).is_err());
}

#[test]
fn huge_lengths_are_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x7f];
    // Status, times, flag and the length of the body; then the lists, each after empty ones.
    let start = [200, 1, 0, 0, 0, 0, 0, 0];
    let heads: [&[u8]; 5] = [
        &[&start[..], &huge].concat(),
        &[&start[..], &[0, 1], &huge].concat(),
        &[&start[..], &[0, 0], &huge].concat(),
        &[&start[..], &[0, 0, 1], &huge].concat(),
        &[&start[..], &[0, 0, 0, 1], &huge].concat(),
    ];
    for head in heads {
        let payload = [&[VERSION][..], &(head.len() as u32).to_be_bytes(), head].concat();
        assert!(Binary.decode(payload.into()).is_err());
    }
    assert!(Binary.decode(Bytes::from_static(&[VERSION, 0xff, 0xff, 0xff, 0xff, 0])).is_err());
}

#[test]
fn more_lines_than_a_map_can_hold_are_refused() {
    let names: Vec<String> = (0..40_000).map(|n| format!("n{n}")).collect();
    let headers = names.iter().map(|name| (&**name, &b""[..])).collect();
    let head = postcard::to_stdvec(&empty(headers)).unwrap();
    let payload = [&[VERSION][..], &(head.len() as u32).to_be_bytes(), &head].concat();
    assert!(Binary.decode(payload.into()).is_err());
}

#[test]
fn the_body_is_a_slice_of_the_payload() {
    let payload = Binary.encode(&stored(200, 0, &vec![], None, &[7; 512])).unwrap();
    let body = Binary.decode(payload.clone()).unwrap().body;
    assert!(payload.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn fields_of_one_exchange_are_not_shared() {
    let (head, ()) = Response::builder()
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("connection", "close, X-Hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("link", "</a>")
        .header("proxy-authenticate", "Basic")
        .header("te", "trailers")
        .header("transfer-encoding", "chunked")
        .header("x-request-id", "1")
        .header("traceparent", "00-0-0-0")
        .header("tracestate", "a=b")
        .header("server-timing", "db;dur=5")
        .header("upgrade", "h2c")
        .header("traceresponse", "00-0-0-0")
        .header("x-amzn-trace-id", "1")
        .header("x-cloud-trace-context", "1")
        .header("x-correlation-id", "1")
        .header("x-trace-id", "1")
        .header("link", "</b>")
        .header("etag", "\"a\"")
        .header("trailer", "x-sum")
        .body(())
        .unwrap()
        .into_parts();
    let stored = Stored::new(&head, Plan::default(), &[], None, Bytes::new(), Some(head.headers.clone()));
    assert_eq!(stored.head.trailers.as_ref(), Some(&stored.head.headers), "in trailers as well");
    let kept: Vec<_> = stored.head.headers.iter().map(|(name, line)| (name.as_str(), line.to_str().unwrap())).collect();
    let expected = [
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("link", "</a>"),
        ("link", "</b>"),
        ("etag", "\"a\""),
        ("trailer", "x-sum"),
    ];
    assert_eq!(kept, expected);
}

#[test]
fn a_cookie_in_the_trailers_is_not_shared() {
    let trailers = HeaderMap::from_iter([(http::header::SET_COOKIE, HeaderValue::from_static("a=b"))]);
    let (head, ()) = Response::new(()).into_parts();
    let stored = Stored::new(&head, Plan::default(), &[], None, Bytes::new(), Some(trailers));
    assert!(stored.head.trailers.as_ref().unwrap().is_empty());
}

#[test]
fn as_many_lines_as_a_map_can_hold_are_stored() {
    let (mut head, ()) = Response::new(()).into_parts();
    for number in 0..30_000 {
        head.headers.append("link", HeaderValue::from(number));
    }
    assert_eq!(Stored::new(&head, Plan::default(), &[], None, Bytes::new(), None).head.headers.len(), 30_000);
}
