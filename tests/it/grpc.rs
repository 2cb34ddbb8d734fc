//! Calls of gRPC, by hand: messages, metadata and trailers as they stand on the wire.

use std::convert::Infallible;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_singleflight::{Caller, Identity, Outcome, Overload, RequestBody, Why, backend::Memory, identity_fn};

use crate::{
    grpc_support::{
        METADATA, TRAILERS, boxed, burst, code, fields, fleet, layer, message, ok, request, response, say, seen, send,
        server, spawn, status,
    },
    http_support::{Calls, Then, led, outcome, secs, slow},
};

/// Fails if anything is added to what others get, or taken from it: an `Age`, a second line, what is binary.
#[tokio::test(start_paused = true)]
async fn equal_calls_are_one_with_its_message_metadata_and_trailers() {
    let calls = Calls::default();
    let fleet = fleet(
        |layer| layer.result_ttl(secs(60)),
        &calls,
        |_, body, call| ok(&format!("{call} {}", String::from_utf8_lossy(&body[5..]))),
    );
    let mut responses = burst(&fleet, 10, |_| say("ada")).await;
    assert_eq!((led(&responses), calls.count()), (1, 1));
    sleep(secs(7)).await;
    let hit = send(&fleet[1], say("ada")).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    responses.push(hit);
    for response in responses {
        assert_eq!(response.status(), 200);
        assert_eq!(seen(response).await, (fields(&METADATA), message("1 ada"), Some(fields(&TRAILERS))));
    }
    assert_eq!(seen(send(&fleet[0], say("bob")).await).await.1, message("2 bob"));
}

/// Fails if a flag is lost, if a list is split, or if bytes must be text.
#[tokio::test(start_paused = true)]
async fn what_is_compressed_or_no_text_comes_as_it_is() {
    const HEAD: [(&str, &str); 3] =
        [("content-type", "application/grpc+proto"), ("grpc-encoding", "gzip"), ("a-bin", "AAEC")];
    const LAST: [(&str, &str); 3] = [("grpc-status", "0"), ("b-bin", "AAEC,AQ=="), ("b-bin", "+/8")];
    let packed = Bytes::from_static(b"\x01\0\0\0\x02\x1f\x8b");
    let raw = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    let mut head = fields(&HEAD);
    head.append("x-raw", raw.clone());
    let (calls, answer) = (Calls::default(), packed.clone());
    let fleet = fleet(
        |layer| layer.result_ttl(secs(60)),
        &calls,
        move |_, _, _| {
            let mut response = response(&HEAD, answer.clone(), &LAST);
            response.headers_mut().append("x-raw", raw.clone());
            response
        },
    );
    let reading = |encodings| request(&[("grpc-accept-encoding", encodings)], message("ada"));
    let mut responses = burst(&fleet, 10, |_| reading("gzip,deflate")).await;
    responses.push(send(&fleet[1], reading("deflate , gzip")).await);
    for response in responses {
        assert_eq!(seen(response).await, (head.clone(), packed.clone(), Some(fields(&LAST))));
    }
    assert_eq!(calls.count(), 1);
}

/// Fails if others get what speaks of one request or one connection, or if they lack anything else because of its name.
#[tokio::test(start_paused = true)]
async fn metadata_is_replayed_that_is_not_of_one_request() {
    const OWN: [(&str, &str); 15] = [
        ("age", "42"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "7"),
        ("upgrade", "x"),
        ("proxy-status", "x"),
        ("proxy-authenticate", "x"),
        ("x-request-id", "1"),
        ("x-correlation-id", "1"),
        ("traceresponse", "1"),
        ("server-timing", "a"),
        ("traceparent", "1"),
        ("tracestate", "1"),
        ("x-trace-id", "1"),
        ("authentication-info", "x"),
    ];
    const SHARED: [(&str, &str); 7] = [
        ("content-type", "application/grpc"),
        ("date", "x"),
        ("etag", "\"a\""),
        ("last-modified", "x"),
        ("server", "a"),
        ("warning", "x"),
        ("x-user", "ada"),
    ];
    const LAST: [(&str, &str); 2] = [("grpc-status", "0"), ("x-user", "ada")];
    let head = [&SHARED[..], &OWN[..]].concat();
    let last = [&LAST[..], &[("age", "1"), ("x-request-id", "2"), ("server-timing", "b")]].concat();
    let (whole, ends) = (fields(&head), fields(&last));
    let calls = Calls::default();
    let app = server(&layer(&Memory::new()).result_ttl(secs(60)), &calls, move |_, _, _| {
        response(&head, message("a"), &last)
    });
    assert_eq!(seen(send(&app, say("ada")).await).await, (whole, message("a"), Some(ends)));
    let hit = send(&app, say("ada")).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }), "{}", outcome(&hit));
    assert_eq!(seen(hit).await, (fields(&SHARED), message("a"), Some(fields(&LAST))));
    assert_eq!(calls.count(), 1);
}

/// Fails if a field of HTTP decides over a call, or cuts what it gets.
#[tokio::test(start_paused = true)]
async fn conditions_and_ranges_mean_nothing() {
    const HEAD: [(&str, &str); 3] =
        [("content-type", "application/grpc"), ("etag", "\"a\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let calls = Calls::default();
    let app =
        server(&layer(&Memory::new()).result_ttl(secs(60)), &calls, |_, _, _| response(&HEAD, message("a"), &TRAILERS));
    for lines in [
        &[][..],
        &[("if-none-match", "\"a\"")],
        &[("if-none-match", "*"), ("grpc-timeout", "5S")],
        &[("if-modified-since", "Sun, 06 Nov 2094 08:49:37 GMT"), ("grpc-timeout", "5S")],
        &[("range", "bytes=0-1"), ("grpc-timeout", "5S")],
        &[("cache-control", "only-if-cached, no-cache")],
    ] {
        let response = send(&app, request(lines, message("ada"))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(seen(response).await, (fields(&HEAD), message("a"), Some(fields(&TRAILERS))));
    }
    assert_eq!(calls.count(), 1);
}

/// Fails if trailers alone come out as anything else, or live as long as a success.
#[tokio::test(start_paused = true)]
async fn codes_that_are_shared() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer.result_ttl(secs(30)).share_codes([5]), &calls, |_, _, _| status("5"));
    let responses = burst(&fleet, 10, |_| say("ada")).await;
    assert_eq!((led(&responses), calls.count()), (1, 1));
    sleep(secs(2)).await;
    let hit = send(&fleet[0], say("ada")).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    for response in responses.into_iter().chain([hit]) {
        assert!(http_body::Body::is_end_stream(response.body()), "a server makes trailers alone of it");
        let (headers, body, trailers) = seen(response).await;
        assert_eq!((headers, body.len(), trailers), (status("5").headers().clone(), 0, None));
    }
    sleep(secs(2)).await;
    assert_eq!(outcome(&send(&fleet[0], say("ada")).await), Outcome::Led, "a tenth of the TTL");
}

/// Fails if a layer gives out a code that it does not share, because another one does.
#[tokio::test(start_paused = true)]
async fn layers_that_share_other_codes_are_apart() {
    let calls = Calls::default();
    let memory = Memory::new();
    let sharing = |memory: &Memory, codes: &[u32]| {
        let layer = layer(memory).share_codes(codes.iter().copied()).result_ttl(secs(60));
        server(&layer, &calls, |_, _, _| status("5"))
    };
    let (one, same, more, none) = (
        sharing(&memory.replica(), &[5, 6]),
        sharing(&memory.replica(), &[6, 5]),
        sharing(&memory.replica(), &[5]),
        sharing(&memory, &[]),
    );
    for (app, count) in [(&one, 1), (&same, 1), (&more, 2), (&none, 3)] {
        assert_eq!(code(&send(app, say("ada")).await), "5");
        assert_eq!(calls.count(), count);
    }
}

#[test]
#[should_panic = "`share_codes`"]
fn a_code_that_is_never_shared() {
    let _ = layer(&Memory::new()).share_codes([5, 14]);
}

#[test]
#[should_panic = "`methods`"]
fn no_method() {
    let _ = layer(&Memory::new()).methods(["hello.Greeter/Say"]);
}

/// Fails if a call flies that is too long, or a message is shared that is.
#[tokio::test(start_paused = true)]
async fn long_calls_and_long_messages_are_their_callers_own() {
    let calls = Calls::default();
    let app = server(&layer(&Memory::new()).max_request_body(12), &calls, |_, _, _| ok("a"));
    assert_eq!(outcome(&send(&app, say("1234567")).await), Outcome::Led);
    assert_eq!(outcome(&send(&app, say("12345678")).await), Outcome::Bypassed(Why::Content));

    for (most, count) in [(9, 4), (10, 1)] {
        let calls = Calls::default();
        let app = server(&layer(&Memory::new()).max_body(most), &calls, |_, _, _| ok("hello"));
        for response in burst(&[app], 4, |_| say("ada")).await {
            assert_eq!(seen(response).await, (fields(&METADATA), message("hello"), Some(fields(&TRAILERS))));
        }
        assert_eq!(calls.count(), count);
    }
}

/// What makes a body, what is in it, and after how many milliseconds the handler has it.
type Sent<'a> = (fn() -> Body, &'a [u8], u64);

/// Fails if what was read of a call that does not fly is lost, or comes late: half of a message is waited for, nothing is
/// not.
#[tokio::test(start_paused = true)]
async fn what_is_not_one_message_reaches_the_handler_as_it_came() {
    let calls = Calls::default();
    let inner = service_fn(|request: Request<RequestBody<Body>>| async {
        Ok::<_, Infallible>(Response::new(Body::new(request.into_body())))
    });
    let app = boxed(&layer(&Memory::new()).max_request_body(12), inner);
    let twice = [message("ada"), message("bob")].concat();
    // Made when they are sent: their pieces come by the clock.
    let bodies: [Sent<'_>; 9] = [
        (|| [message("ada"), message("bob")].concat().into(), &twice, 0),
        (|| slow(&["\0\0\0\0\x01a", "\0\0\0\0\x01b"], Then::Ends), b"\0\0\0\0\x01a\0\0\0\0\x01b", 100),
        (|| slow(&["\0\0\0\0\x01a"], Then::Hangs), b"\0\0\0\0\x01a", 100),
        (|| slow(&["\0\0\0\0\x02a", "b"], Then::Hangs), b"\0\0\0\0\x02ab", 1100),
        (|| slow(&["\0\0\0\0\x02a"], Then::Hangs), b"\0\0\0\0\x02a", 5000),
        (|| slow(&["\0\0\0\0\x08a", "b"], Then::Ends), b"\0\0\0\0\x08ab", 0),
        (|| slow(&[], Then::Hangs), b"", 500),
        (|| Bytes::from_static(b"\0\0").into(), b"\0\0", 0),
        (Body::empty, b"", 0),
    ];
    for (body, content, millis) in bodies {
        let start = Instant::now();
        let mut response = send(&app, request(&[], body())).await;
        assert_eq!(start.elapsed().as_millis(), u128::from(millis), "{content:?}");
        assert_eq!(outcome(&response), Outcome::Bypassed(Why::Content));
        let mut echoed = Vec::new();
        while echoed.len() < content.len() {
            echoed.extend(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(echoed, content);
    }
    let untouched = server(&layer(&Memory::new()), &calls, |_, _, call| ok(&call.to_string()));
    for uri in ["http://a.test/hello.Greeter/Chat", "http://a.test/grpc.health.v1.Health/Watch"] {
        let mut other = say("ada");
        *other.uri_mut() = uri.parse().unwrap();
        assert_eq!(outcome(&send(&untouched, other).await), Outcome::Bypassed(Why::Method));
    }
}

/// Fails if who asks counts for nothing, or too much.
#[tokio::test(start_paused = true)]
async fn callers_share_with_their_kind() {
    let calls = Calls::default();
    let by_token = identity_fn(|head| match head.headers.get("authorization") {
        Some(token) => Caller::Partition(token.as_bytes().into()),
        None => Caller::Anybody,
    });
    let identity = Identity::new().by("hush-hush", by_token);
    let fleet = fleet(
        move |layer| layer.identity(identity.clone()).metadata(["x-tenant"]),
        &calls,
        |_, _, call| ok(&call.to_string()),
    );
    let mut flights = Vec::new();
    for lines in [&[][..], &[("authorization", "ada")], &[("authorization", "bob")], &[("x-tenant", "1")]] {
        flights.extend(fleet.each_ref().map(|app| spawn(app, request(lines, message("hi")))));
    }
    for flight in flights {
        assert_eq!(flight.await.unwrap().status(), 200);
    }
    assert_eq!(calls.count(), 4);
}

/// Fails if `identity`, which everybody can read, or an element without a name tells callers apart; or if a coding does not.
#[tokio::test(start_paused = true)]
async fn callers_share_who_can_read_the_same() {
    let calls = Calls::default();
    let app = server(&layer(&Memory::new()), &calls, |_, _, _| ok("a"));
    let lines: [&[(&str, &str)]; 7] = [
        &[],
        &[("grpc-accept-encoding", "identity")],
        &[("grpc-accept-encoding", "")],
        &[("grpc-accept-encoding", "identity,")],
        &[("grpc-accept-encoding", "gzip")],
        &[("grpc-accept-encoding", ",gzip , identity")],
        &[("grpc-accept-encoding", "identity"), ("grpc-accept-encoding", "gzip")],
    ];
    let responses = burst(&[app], 7, |number| request(lines[number], message("ada"))).await;
    assert_eq!((led(&responses), calls.count()), (2, 2));
}

/// Fails if a refusal is one of HTTP, which clients of gRPC do not read.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_trailers_alone() {
    let layer = layer(&Memory::new()).max_waiters_per_key(1).overload(Overload::Refuse { retry_after: secs(3) });
    let app = server(&layer, &Calls::default(), |_, _, _| ok("a"));
    let mut refused = burst(&[app], 4, |_| say("ada")).await;
    refused.retain(|response| outcome(response) == Outcome::Bypassed(Why::Overloaded));
    assert_eq!(refused.len(), 2);
    for response in refused {
        assert_eq!((response.status().as_u16(), code(&response)), (200, &HeaderValue::from_static("14")));
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let (_, body, trailers) = seen(response).await;
        assert_eq!((body.len(), trailers), (0, None));
    }
}
