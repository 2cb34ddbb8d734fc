//! Beside axum's routers: keys from what they know of a request, and what handlers learn of theirs.

use std::convert::Infallible;

use axum::{
    Router,
    extract::{OriginalUri, Path, Request},
    response::IntoResponse,
    routing::{self, any},
};
use http::{Method, Uri, header::LOCATION};
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{Outcome, RequestKey, SingleflightLayer, Why, backend::Memory, key_fn};

use crate::http_support::{get, get_with, outcome, secs, send, spawn, text};

fn layer() -> SingleflightLayer {
    SingleflightLayer::new(Memory::new()).result_ttl(secs(60))
}

/// What says its own name at `/x` and for everything else.
fn named(name: &'static str) -> Router {
    Router::new().route("/x", routing::get(async move || name)).fallback(async move || format!("not {name}"))
}

/// Fails if a key is made of what a router has left of the path alone, or of what another one has left.
#[tokio::test(start_paused = true)]
async fn routers_with_equal_paths_are_apart_however_they_are_nested() {
    let layer = layer();
    let inside = |name| named(name).layer(layer.clone());
    let on_method = |name: &'static str| {
        let method: routing::MethodRouter = routing::get(async move || name).layer(layer.clone());
        Router::new().route("/x", method)
    };
    let plain = |name: &'static str| service_fn(async move |_: Request| Ok::<_, Infallible>(name.into_response()));
    let app = Router::new()
        .nest("/a", inside("a"))
        .nest("/b", inside("b"))
        .nest("/deep/a", Router::new().nest("/a", inside("deep aa")).nest("/b", inside("deep ab")))
        .nest("/deep/b", Router::new().nest("/a", inside("deep ba")).nest("/b", inside("deep bb")))
        .nest("/twice", Router::new().nest("/a", inside("twice a")).nest("/b", inside("twice b")).layer(layer.clone()))
        .nest("/method/a", on_method("method a"))
        .nest("/method/b", on_method("method b"))
        .nest_service("/service/a", inside("service a"))
        .nest_service("/service/b", inside("service b"))
        .nest_service("/plain/a", layer.layer(plain("plain a")))
        .nest_service("/plain/b", layer.layer(plain("plain b")))
        .nest(
            "/of/{name}",
            Router::new().route("/x", routing::get(async |Path(name): Path<String>| name)).layer(layer.clone()),
        )
        .merge(Router::new().nest("/merged/a", inside("merged a")))
        .merge(Router::new().nest("/merged/b", inside("merged b")))
        .merge(named("merged").layer(layer.clone()));
    let outside = Router::new().nest("/outside/a", named("outside a")).nest("/outside/b", named("outside b"));
    let outside = outside.layer(layer.clone());
    for _ in 0..2 {
        for (path, name) in [
            ("/x", "merged"),
            ("/y", "not merged"),
            ("/a/x", "a"),
            ("/b/x", "b"),
            ("/a/y", "not a"),
            ("/b/y", "not b"),
            ("/outside/a/x", "outside a"),
            ("/outside/b/x", "outside b"),
            ("/outside/a/y", "not outside a"),
            ("/outside/b/y", "not outside b"),
            ("/deep/a/a/x", "deep aa"),
            ("/deep/a/b/x", "deep ab"),
            ("/deep/b/a/x", "deep ba"),
            ("/deep/b/b/x", "deep bb"),
            ("/twice/a/x", "twice a"),
            ("/twice/b/x", "twice b"),
            ("/method/a/x", "method a"),
            ("/method/b/x", "method b"),
            ("/service/a/x", "service a"),
            ("/service/b/x", "service b"),
            ("/plain/a/x", "plain a"),
            ("/plain/b/x", "plain b"),
            ("/of/a/x", "a"),
            ("/of/b/x", "b"),
            ("/merged/a/x", "merged a"),
            ("/merged/b/x", "merged b"),
        ] {
            let app = if path.starts_with("/outside/") { &outside } else { &app };
            assert_eq!(text(send(app, get(&format!("http://a.test{path}"))).await).await, name, "{path}");
        }
    }
}

/// Fails if two requests share although a middleware tells routers apart by a prefix that the client does not send.
#[tokio::test(start_paused = true)]
async fn routers_behind_a_rewritten_prefix_are_apart() {
    let layer = layer();
    let inner = Router::new().nest("/a", named("a").layer(layer.clone())).nest("/b", named("b").layer(layer));
    let rewriting = service_fn(move |mut request: Request| {
        let prefix = request.headers()["x-prefix"].to_str().unwrap();
        *request.uri_mut() = format!("http://a.test/{prefix}{}", request.uri().path()).parse().unwrap();
        inner.clone().oneshot(request)
    });
    let app = Router::new().fallback_service(rewriting);
    for name in ["a", "b", "a", "b"] {
        assert_eq!(text(send(&app, get_with("http://a.test/x", "x-prefix", name)).await).await, name);
    }
}

/// Fails if two requests share although what tells them apart stood where a nest has a parameter, and is no longer there.
#[tokio::test(start_paused = true)]
async fn what_a_nest_took_out_of_a_rewritten_path_makes_no_key() {
    let of_tenant = Router::new().route("/x", routing::get(async |Path(tenant): Path<String>| tenant)).layer(layer());
    let inner = Router::new().nest("/{tenant}", of_tenant);
    let rewriting = service_fn(move |mut request: Request| {
        if let Some(tenant) = request.headers().get("x-tenant") {
            let uri = format!("http://a.test/{}{}", tenant.to_str().unwrap(), request.uri().path());
            *request.uri_mut() = uri.parse().unwrap();
        }
        inner.clone().oneshot(request)
    });
    let app = Router::new().fallback_service(rewriting);
    for tenant in ["ada", "bob", "ada"] {
        let response = send(&app, get_with("http://a.test/x", "x-tenant", tenant)).await;
        assert_eq!(outcome(&response), Outcome::Bypassed(Why::NoKey));
        assert_eq!(text(response).await, tenant);
    }
    // What the client itself has sent is still known.
    assert_eq!(hits(&app, &["/ada/x", "/bob/x", "/ada/x"]).await, [false, false, true].map(Some));
}

/// Which of the requests for these paths, one after the other, hits what an earlier one has stored; `None` for one that
/// has no key, or does not reach the layer.
async fn hits(app: &Router, paths: &[&str]) -> Vec<Option<bool>> {
    let mut hits = Vec::new();
    for path in paths {
        let response = send(app, get(&format!("http://a.test{path}"))).await;
        hits.push(match response.extensions().get() {
            Some(Outcome::Led) => Some(false),
            Some(Outcome::Hit { .. }) => Some(true),
            None | Some(Outcome::Bypassed(Why::NoKey)) => None,
            Some(other) => panic!("{path}: {other}"),
        });
    }
    hits
}

/// Fails if the pattern is that of the inner router alone, if the path counts besides, or if a route without a pattern gets
/// that of another.
#[tokio::test(start_paused = true)]
async fn keys_hold_the_pattern_of_the_whole_route() {
    let by_id = || layer().key(key_fn(|head| RequestKey::of_matched_path(head)?.path_param("id").finish()));
    let item = || Router::new().route("/{id}/of/{tag}", any(async || ())).fallback(async || ());
    let (led, hit) = (Some(false), Some(true));
    let paths = ["/7/of/a", "/7/of/b", "/8/of/a", "/7/of/a?x", "/a%2Fb/of/c", "/7/of", "/7/of/a/"];
    let expected = [led, hit, led, hit, led, None, None];
    let below = |prefix: &str| paths.map(|path| format!("{prefix}{path}"));
    for (app, prefix) in [
        (item().layer(by_id()), ""),
        (Router::new().nest("/items", item()).layer(by_id()), "/items"),
        (Router::new().nest("/items", item().layer(by_id())), "/items"),
        (Router::new().nest("/v1", Router::new().nest("/items", item().layer(by_id()))), "/v1/items"),
        (Router::new().nest("/v1/{kind}", item().layer(by_id())), "/v1/items"),
        (Router::new().nest_service("/items", item().layer(by_id())), "/items"),
    ] {
        let paths = below(prefix);
        assert_eq!(hits(&app, &paths.each_ref().map(String::as_str)).await, expected, "{prefix}");
    }

    let of_route = key_fn(|head| RequestKey::of_matched_path(head)?.finish());
    let layer = layer().key(of_route);
    let ok = service_fn(async |_: Request| Ok::<_, Infallible>(().into_response()));
    let app = Router::new()
        .nest("/a", Router::new().route("/{id}", any(async || ())).route("/me", any(async || ())).layer(layer.clone()))
        .nest("/b", Router::new().route("/{id}", any(async || ())).layer(layer.clone()))
        .nest_service("/whole", layer.layer(ok))
        .route("/files/{*path}", any(async || ()).layer(layer.clone()))
        .route("/{{id}}/{x}", any(async || ()).layer(layer.clone()))
        .route("/v{x}", any(async || ()).layer(layer));
    let paths =
        ["/a/1", "/a/2", "/a/me", "/b/1", "/whole/1", "/files/1", "/files/2/3", "/{id}/1", "/{id}/2", "/v1", "/v2"];
    assert_eq!(hits(&app, &paths).await, [led, hit, led, led, None, led, hit, led, hit, led, hit]);
}

/// Says what it is told, to its caller alone if that asks for it.
async fn told(outcome: Option<Outcome>, request: Request) -> impl IntoResponse {
    let own = request.headers().contains_key("x-own").then_some([("set-cookie", "a=b")]);
    tokio::time::sleep(secs(2)).await;
    (own, outcome.map_or("nothing".into(), |outcome| outcome.to_string()))
}

/// Fails if a handler is told nothing of its flight, of why it goes alone, or anything where there is no flight.
#[tokio::test(start_paused = true)]
async fn handlers_learn_what_is_known_of_their_request() {
    let layer = layer().wait_timeout(secs(1));
    let app = Router::new().route("/{id}", any(told)).layer(layer);
    let said = async |request| text(send(&app, request).await).await;

    let (first, second) = (spawn(&app, get("http://a.test/1")), spawn(&app, get("http://a.test/1")));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(outcome(&second), Outcome::Bypassed(Why::WaitTimeout));
    assert_eq!((&*text(first).await, &*text(second).await), ("led", "bypassed: wait timeout"));

    assert_eq!(said(get_with("http://a.test/2", "x-own", "")).await, "led");
    assert_eq!(said(get_with("http://a.test/2", "x-own", "")).await, "bypassed: unshareable");
    assert_eq!(said(get_with("http://a.test/3", "range", "bytes=0-1")).await, "bypassed: range");

    assert_eq!(said(get_with("http://a.test/4", "authorization", "x")).await, "nothing");
    let mut post = get("http://a.test/4");
    *post.method_mut() = Method::POST;
    assert_eq!(said(post).await, "nothing");
    assert_eq!(said(get("/4")).await, "nothing");
}

/// Fails if what is named is forgotten under the keys of reads that come through other routers, or none.
#[tokio::test(start_paused = true)]
async fn below_a_router_what_a_change_names_goes_along() {
    let layer = layer().also_invalidate(|head| {
        let path = head.extensions.get::<OriginalUri>().unwrap().path();
        path.rsplit_once('/').and_then(|(list, _)| list.parse::<Uri>().ok())
    });
    let change = routing::put(async |OriginalUri(uri): OriginalUri| [(LOCATION, format!("{}/log", uri.path()))]);
    let items = Router::new()
        .route("/items", routing::get(async || ()))
        .route("/items/{id}", change)
        .route("/items/{id}/log", routing::get(async || ()))
        .layer(layer);
    let app = Router::new().nest("/api/{tenant}", Router::new().nest("/v1", items));
    let reads = ["/api/a/v1/items", "/api/a/v1/items/7/log", "/api/b/v1/items"];
    let read = |path: &str, host: bool| match host {
        true => get_with(path, "host", "a.test"),
        false => get(&format!("https://a.test{path}")),
    };
    for (reads_host, changes_host) in [(true, true), (true, false), (false, true)] {
        for path in reads {
            send(&app, read(path, reads_host)).await;
        }
        let mut put = read("/api/a/v1/items/7", changes_host);
        *put.method_mut() = Method::PUT;
        assert!(send(&app, put).await.status().is_success());
        let mut led = Vec::new();
        for path in reads {
            led.push(outcome(&send(&app, read(path, reads_host)).await) == Outcome::Led);
        }
        assert_eq!(led, [true, true, false], "{reads_host} {changes_host}");
    }
}

/// Fails if a read keeps a key that only changes below the same router find.
#[tokio::test(start_paused = true)]
async fn what_a_change_names_goes_along_whichever_routers_it_is_below() {
    let list = "/items/list";
    let changing = |layer: &SingleflightLayer| routing::put(async || "changed").layer(layer.clone());
    for (named, change) in [
        (list, "/orders/7"),
        (list, "/orders/of/ada/7"),
        (list, "/order"),
        (list, "/items/7"),
        ("/list", "/orders/7"),
        ("/list", "/order"),
        ("/of/ada/list", "/orders/of/bob/7"),
        ("/of/ada/list", "/order"),
    ] {
        let layer = layer().also_invalidate(move |_| [named.parse::<Uri>().unwrap()]);
        let lists = || Router::new().route("/list", routing::get(async || "all")).layer(layer.clone());
        let app = Router::new()
            .nest("/items", lists().route("/{id}", changing(&layer)))
            .nest("/of/{name}", lists())
            .nest("/orders", Router::new().route("/{id}", changing(&layer)).route("/of/{name}/{id}", changing(&layer)))
            .merge(lists())
            .route("/order", changing(&layer));
        for spelled in [false, true] {
            let at = |path: &str| match spelled {
                true => get(&format!("https://a.test{path}")),
                false => get_with(path, "host", "a.test"),
            };
            send(&app, at(named)).await;
            assert!(matches!(outcome(&send(&app, at(named)).await), Outcome::Hit { .. }));
            let mut put = at(change);
            *put.method_mut() = Method::PUT;
            assert_eq!(send(&app, put).await.status(), 200);
            assert_eq!(outcome(&send(&app, at(named)).await), Outcome::Led, "{change} changes {named}");
        }
    }
}
