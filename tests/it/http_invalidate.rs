//! After a request that changed its target nobody gets what was there before.

use axum::{Router, extract::Request, response::IntoResponse};
use http::{Method, StatusCode, Uri, request::Parts};
use tokio::time::sleep;
use tower_singleflight::{Key, Outcome, SingleflightLayer, Why, backend::Memory, key_fn};

use crate::http_support::{Calls, app, get, get_with, outcome, secs, send, spawn, text};

const URI: &str = "http://a.test/item/7";

fn layer(memory: &Memory) -> SingleflightLayer {
    SingleflightLayer::new(memory.clone()).result_ttl(secs(60))
}

/// Two replicas that answer reads with the number of the call, vary on the language, and let every change succeed that is
/// not to fail.
fn fleet(calls: &Calls) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| app(&layer(&memory), calls, answer))
}

fn answer(request: &Request, call: usize) -> impl IntoResponse + use<> {
    let status = request.headers().get("x-status").map_or(200, |status| status.to_str().unwrap().parse().unwrap());
    let location = request.headers().get("x-location").cloned();
    let fields = [("vary", "accept-language".parse().unwrap()), ("location", location.unwrap_or("".parse().unwrap()))];
    (StatusCode::from_u16(status).unwrap(), fields, format!("call {call}"))
}

fn change(method: &str, uri: &str, lines: &[(&str, &str)]) -> Request {
    let request = Request::builder().method(method).uri(uri);
    let request = lines.iter().fold(request, |request, (name, line)| request.header(*name, *line));
    request.body("x".into()).unwrap()
}

/// The call whose response a read gets.
async fn read(app: &Router, uri: &str) -> String {
    text(send(app, get(uri)).await).await
}

#[tokio::test(start_paused = true)]
async fn whatever_may_change_its_target_invalidates_it_everywhere() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "FROBNICATE"] {
        let calls = Calls::default();
        let [here, there] = fleet(&calls);
        assert_eq!((&*read(&here, URI).await, &*read(&there, URI).await), ("call 1", "call 1"));
        let changed = send(&here, change(method, URI, &[])).await;
        assert_eq!(outcome(&changed), Outcome::Bypassed(Why::Method));
        assert_eq!((&*read(&there, URI).await, &*read(&here, URI).await), ("call 3", "call 3"), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_reads_or_fails_leaves_it() {
    let failing = [("POST", "400"), ("PUT", "500"), ("DELETE", "404")];
    let reading = [("OPTIONS", "200"), ("QUERY", "200"), ("PROPFIND", "207"), ("TRACE", "200")];
    for (method, status) in failing.into_iter().chain(reading) {
        let [here, there] = fleet(&Calls::default());
        read(&here, URI).await;
        send(&here, change(method, URI, &[("x-status", status)])).await;
        assert_eq!(read(&there, URI).await, "call 1", "{method} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_target_is_left_alone() {
    let [here, there] = fleet(&Calls::default());
    read(&here, URI).await;
    for uri in ["http://a.test/item/8", "http://b.test/item/7", "http://a.test/item/7?x"] {
        send(&here, change("PUT", uri, &[])).await;
    }
    assert_eq!(read(&there, URI).await, "call 1");
}

/// Fails if a change invalidates nothing.
#[tokio::test(start_paused = true)]
async fn a_read_in_the_air_neither_stores_nor_serves_those_who_come_after_a_change() {
    for (changed, reads) in [(0, 1), (0, 0), (1, 0)] {
        let fleet = fleet(&Calls::default());
        let old = spawn(&fleet[reads], get(URI));
        sleep(secs(1) / 2).await;
        // Takes a second itself: the read ends in between, and is stored; or begins again with the other.
        let changing = spawn(&fleet[changed], change("PUT", URI, &[]));
        sleep(secs(1) / 4).await;
        assert_eq!(text(old.await.unwrap()).await, "call 1", "it asked before");
        let during = spawn(&fleet[reads], get(URI));
        changing.await.unwrap();
        let during = text(during.await.unwrap()).await;
        assert_eq!(during, "call 1", "a hit, from before the change");
        for app in &fleet {
            assert_eq!(read(app, URI).await, "call 3");
        }
    }
    for other in [0, 1] {
        let fleet = fleet(&Calls::default());
        let changing = spawn(&fleet[other], change("PUT", URI, &[]));
        sleep(secs(1) / 2).await;
        let old = spawn(&fleet[0], get(URI));
        changing.await.unwrap();
        // The read is in the air, and began before the change was through.
        for app in &fleet {
            assert_eq!(read(app, URI).await, "call 3", "{other}");
        }
        assert_eq!(text(old.await.unwrap()).await, "call 2");
        assert_eq!(read(&fleet[1], URI).await, "call 3", "the older one is not stored over it");
    }
}

#[tokio::test(start_paused = true)]
async fn variants_and_heads_go_along() {
    let calls = Calls::default();
    let [here, there] = fleet(&calls);
    let reads = || {
        let mut head = get(URI);
        *head.method_mut() = Method::HEAD;
        [head, get(URI), get_with(URI, "accept-language", "de"), get_with(URI, "accept-language", "da")]
    };
    for (round, expected) in [(1, 4), (2, 4)] {
        for app in [&here, &there] {
            for request in reads() {
                send(app, request).await;
            }
        }
        assert_eq!(calls.count(), expected, "in round {round}");
    }
    send(&there, change("PUT", URI, &[])).await;
    for request in reads() {
        assert_eq!(outcome(&send(&here, request).await), Outcome::Led);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_response_names_goes_along_if_it_is_the_same_authoritys() {
    let named = "http://a.test/list";
    for (location, gone) in [("/list", true), ("http://a.test/list", true), ("http://b.test/list", false)] {
        let [here, there] = fleet(&Calls::default());
        assert_eq!(read(&there, named).await, "call 1");
        send(&here, change("POST", URI, &[("host", "a.test"), ("x-location", location)])).await;
        assert_eq!(read(&there, named).await, if gone { "call 3" } else { "call 1" }, "{location}");
    }
}

/// The list that an item is in, and its page on another host.
fn lists(head: &Parts) -> Vec<Uri> {
    let list = head.uri.path().rsplit_once('/').unwrap().0;
    vec![format!("{list}?all").parse().unwrap(), format!("https://www.b.test{list}").parse().unwrap()]
}

/// Fails if such targets stay, if only one spelling of them goes, or if they are asked for after a failure.
#[tokio::test(start_paused = true)]
async fn what_the_application_names_goes_along() {
    let read = || get_with("/item?all", "host", "a.test");
    let elsewhere = || [get_with("/item", "host", "www.b.test"), get("http://www.b.test/item")];
    let reads =
        || elsewhere().into_iter().chain([get("http://a.test/item?all"), get("https://a.test/item?all"), read()]);
    let memory = Memory::new();
    let app = app(&layer(&memory).also_invalidate(lists), &Calls::default(), answer);
    let over_1 = || change("PUT", "/item/7", &[("host", "a.test")]);
    let failing = || change("PUT", "/item/7", &[("host", "a.test"), ("x-status", "500")]);
    for (changing, goes) in [(over_1(), true), (change("PUT", URI, &[]), true), (failing(), false)] {
        for request in reads() {
            send(&app, request).await;
        }
        let other = spawn(&app, get("http://b.test/item?all")).await.unwrap();
        send(&app, changing).await;
        for request in reads() {
            assert_eq!(outcome(&send(&app, request).await) == Outcome::Led, goes);
        }
        let now = send(&app, get("http://b.test/item?all")).await;
        assert_eq!(text(now).await, text(other).await, "another authority's, which nobody named");
    }
}

/// Fails if a client that leaves takes what the application names with it.
#[tokio::test(start_paused = true)]
async fn what_the_application_names_goes_though_the_client_leaves() {
    let app = app(&layer(&Memory::new()).also_invalidate(lists), &Calls::default(), answer);
    let list = "http://a.test/item?all";
    read(&app, list).await;
    let changing = spawn(&app, change("PUT", URI, &[]));
    sleep(secs(1) / 2).await;
    changing.abort();
    assert!(changing.await.unwrap_err().is_cancelled());
    sleep(secs(1)).await;
    assert_eq!(outcome(&send(&app, get(list)).await), Outcome::Led);
}

/// Fails if a panic of the closure takes the response or the request's own target with it, or if, while the request's
/// own panic is under way, it ends the process.
#[tokio::test(start_paused = true)]
async fn a_panic_about_further_targets_costs_those_alone() {
    let layer = layer(&Memory::new()).also_invalidate(|_| -> Option<Uri> { panic!("no idea") });
    let app = app(&layer, &Calls::default(), |request, call| {
        assert!(!request.headers().contains_key("x-panic"), "panics itself");
        answer(request, call)
    });
    for (line, panics) in [("x-none", false), ("x-panic", true)] {
        let before = read(&app, URI).await;
        let changed = spawn(&app, change("PUT", URI, &[(line, "")])).await;
        assert_eq!(changed.is_err(), panics);
        sleep(secs(1)).await;
        assert_ne!(read(&app, URI).await, before, "{line}");
    }
}

/// Fails if an extractor that panics at what it has never seen takes the response or the request's own target with it,
/// or if, while the request's own panic is under way, it ends the process.
#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_made_of_a_further_target_costs_that_alone() {
    let of_items = key_fn(|head| {
        let id = head.uri.path().strip_prefix("/item/").expect("the route matched");
        Some(Key::builder("item").part(id).finish())
    });
    let layer = layer(&Memory::new())
        .key(of_items)
        .also_invalidate(|_| ["/item", "/item/8"].map(|path| path.parse::<Uri>().unwrap()));
    let app = app(&layer, &Calls::default(), |request, call| {
        assert!(!request.headers().contains_key("x-panic"), "panics itself");
        answer(request, call)
    });
    for (line, panics) in [("x-none", false), ("x-panic", true)] {
        let before = [read(&app, URI).await, read(&app, "http://a.test/item/8").await];
        let changed = spawn(&app, change("PUT", URI, &[(line, "")])).await;
        assert_eq!(changed.is_err(), panics);
        sleep(secs(1)).await;
        let after = [read(&app, URI).await, read(&app, "http://a.test/item/8").await];
        assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{line}: {before:?} {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off() {
    let layer = layer(&Memory::new()).also_invalidate(lists).invalidate_on_change(false);
    let app = app(&layer, &Calls::default(), answer);
    read(&app, URI).await;
    read(&app, "http://a.test/item?all").await;
    send(&app, change("PUT", URI, &[])).await;
    assert_eq!(read(&app, URI).await, "call 1");
    assert_eq!(read(&app, "http://a.test/item?all").await, "call 2");
}

#[tokio::test(start_paused = true)]
async fn applications_invalidate_by_uri_and_by_key() {
    let memory = Memory::new();
    let (handle, calls) = (layer(&memory).handle(), Calls::default());
    let app = app(&layer(&memory), &calls, answer);
    let forms = || [get(URI), get_with("/item/7", "host", "a.test"), get_with(URI, "accept-language", "de")];
    for round in 0..2 {
        for request in forms() {
            assert_eq!(outcome(&send(&app, request).await), Outcome::Led, "in round {round}");
        }
        handle.invalidate_uri(&URI.parse().unwrap()).await.unwrap();
    }
    let refused = handle.invalidate_uri(&"/item/7".parse().unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("names no authority"), "{refused}");
}
