//! Connecting: what goes wrong says what to do.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use tower_singleflight::backend::{Backend, ErrorKind, Redis};

use crate::support::{
    Server,
    calls::{LONG, ask, hit, key, record, until_ok},
    server::free_port,
};

async fn refusal(url: &str, prefix: &str) -> (ErrorKind, String) {
    let error = Redis::builder(prefix).connect_timeout(Duration::from_millis(300)).connect(url).await.unwrap_err();
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_malformed_address_is_refused() {
    for url in ["", "127.0.0.1", "http://127.0.0.1/", "redis://", "redis://127.0.0.1/x", "redis://:secret@:x/"] {
        let (kind, text) = refusal(url, "shop").await;
        assert_eq!(kind, ErrorKind::Config, "{url}: {text}");
        assert!(text.contains("malformed") && text.contains("redis://user:password@host:6379/0"), "{url}: {text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(Redis::connect_lazy(url, "shop").unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn a_prefix_that_cannot_work_is_refused() {
    for prefix in ["", "a{b}", "a b", "shop:eu", "shop*"] {
        let (kind, text) = refusal("redis://127.0.0.1/", prefix).await;
        assert!(kind == ErrorKind::Config && text.contains("prefix") && text.contains("choose"), "{text}");
    }
}

/// Asking for what was not compiled in is not a mistake in writing.
#[tokio::test]
async fn an_address_that_needs_tls_says_so() {
    let (kind, text) = refusal("rediss://127.0.0.1/", "shop").await;
    assert!(kind == ErrorKind::Config && text.contains("TLS") && !text.contains("malformed"), "{text}");
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_named() {
    let server = Server::start_with(&["--maxclients", "1"]);
    let _only = server.connection().await;
    let (kind, text) = refusal(&server.url(), "shop").await;
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains("maxclients") && text.contains(&server.port().to_string()), "{text}");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_never_repeated() {
    let server = Server::start_with(&["--requirepass", "right"]);
    let address = format!("127.0.0.1:{}", server.port());
    let (kind, text) = refusal(&format!("redis://:secret@{address}/"), "shop").await;
    assert_eq!(kind, ErrorKind::Config, "{text}");
    assert!(text.contains("password") && text.contains("address") && !text.contains("secret"), "{text}");
    let (kind, text) = refusal(&format!("redis://{address}/"), "shop").await;
    assert!(kind == ErrorKind::Config && text.contains("asks for a password"), "{text}");
    let redis = Redis::connect(&format!("redis://:right@{address}/"), "shop").await.unwrap();
    redis.put(&key("a"), record("x", LONG)).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    let port = free_port();
    let (kind, text) = refusal(&format!("redis://127.0.0.1:{port}/"), "shop").await;
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains(&port.to_string()) && text.contains("nothing listens"), "{text}");
    // Accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let (kind, text) = refusal(&format!("redis://{}/", silent.local_addr().unwrap()), "shop").await;
    assert!(kind == ErrorKind::Unavailable && text.contains("did not answer in time"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn outside_a_runtime_it_says_so() {
    let error = Redis::connect_lazy("redis://127.0.0.1/", "shop").unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn a_lazy_handle_works_once_the_server_appears() {
    let mut server = Server::start();
    server.kill();
    let redis = Redis::connect_lazy(&server.url(), "lazy").unwrap();
    let start = Instant::now();
    let error = redis.begin(&key("a"), ask(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
    server.restart().await;
    until_ok(async || redis.put(&key("a"), record("x", LONG)).await).await;
    until_ok(async || redis.begin(&key("a"), ask(1)).await).await;
    assert_eq!(&hit(&redis, &key("a")).await.payload[..], b"x");
}

#[tokio::test]
async fn a_client_of_ones_own_is_accepted() {
    let server = Server::start();
    let client = redis::Client::open(server.url()).unwrap();
    let redis = Redis::builder("own").connect_with(client.get_connection_info().clone()).await.unwrap();
    redis.put(&key("a"), record("x", LONG)).await.unwrap();
    assert_eq!(&hit(&redis, &key("a")).await.payload[..], b"x");
}

#[test]
fn settings_that_cannot_work_are_refused_when_set() {
    type Setter = fn();
    let setters: [(&str, Setter); 8] = [
        ("connect_timeout", || drop(Redis::builder("a").connect_timeout(Duration::ZERO))),
        ("command_timeout", || drop(Redis::builder("a").command_timeout(Duration::ZERO))),
        ("body_timeout", || drop(Redis::builder("a").body_timeout(Duration::ZERO))),
        ("linger", || drop(Redis::builder("a").linger(Duration::ZERO))),
        ("inline_limit", || drop(Redis::builder("a").inline_limit(0))),
        ("breaker_errors", || drop(Redis::builder("a").breaker_errors(0))),
        ("breaker_timeouts", || drop(Redis::builder("a").breaker_timeouts(0))),
        ("breaker_rest", || drop(Redis::builder("a").breaker_rest(Duration::ZERO))),
    ];
    for (name, set) in setters {
        let panic = std::panic::catch_unwind(set).unwrap_err();
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|&s| s.into()));
        assert!(text.unwrap().starts_with(name));
    }
}

/// When the last clone is dropped, the server sees no connection of it any more.
#[tokio::test]
async fn a_dropped_handle_leaves_no_connection() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "dropped").await.unwrap();
    redis.put(&key("a"), record(vec![7; 100_000], LONG)).await.unwrap();
    let mut connection = server.connection().await;
    let mut clients = async || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        list.lines().count() - 1
    };
    assert_eq!(clients().await, 3);
    drop(redis);
    let start = Instant::now();
    while clients().await > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "connections are left");
        tokio::task::yield_now().await;
    }
}
