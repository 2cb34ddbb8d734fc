//! A user with exactly the rights that the documentation names.

use std::time::Duration;

use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        Backend, BackendError, Completed, ErrorKind, Fence, Notice, Owner, Reason, Redis,
        contract::{LockName, LockReplica},
    },
    protocol::lock::{Grant, Release},
};

use crate::support::{
    Server,
    calls::{LONG, PATIENCE, ask, follow, hit, key, lead, record, told},
    locks::{ask as alone, back, waiting},
};

/// The command in the documentation of `backend::redis`, up to its last word.
fn documented() -> Vec<String> {
    let page = include_str!("../../src/backend/redis/mod.rs");
    let lines = page.lines().map(|line| line.trim_start_matches("//!").trim());
    let block = lines.skip_while(|line| !line.starts_with("ACL SETUSER")).take_while(|line| *line != "```");
    block.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

async fn limited(server: &Server, rights: &[String]) -> String {
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let () = server.run(&rights).await;
    server.url().replace("redis://", "redis://shop:password@")
}

async fn everything(url: &str) -> Result<(), BackendError> {
    let builder = || Redis::builder("shop").command_timeout(Duration::from_millis(500));
    let (a, b) = (builder().connect(url).await?, builder().connect(url).await?);
    for (number, size) in [(1, 10), (2, 20_000), (3, 100_000)] {
        let key = key(&format!("rights {number}")).variant("one");
        a.begin(&key, ask(1)).await?;
        let (fence, _leading) = lead(&a, &key, 1).await;
        b.begin(&key, ask(2)).await?;
        let (_, mut watch) = follow(&b, &key, 2).await;
        a.renew(&key, Owner(1), LONG).await?;
        assert_eq!(a.complete(&key, Owner(1), fence, record(vec![1; size], LONG)).await?, Completed::Stored);
        assert!(matches!(told(&mut watch).await, Notice::Landed(..)));
        a.complete(&key, Owner(1), fence, record(vec![1; size], LONG)).await?;
        assert_eq!(hit(&b, &key).await.payload.len(), size);
        b.get(&key).await?;
        b.invalidate(&key).await?;
        b.put(&key, record(vec![1; size], LONG)).await?;
        b.invalidate(&key).await?;
        for reason in [Reason::Retry, Reason::Abandon, Reason::Scatter(Duration::from_micros(1))] {
            a.begin(&key, ask(3)).await?;
            a.abort(&key, Owner(3), reason).await?;
        }
    }
    locks([a.into(), b.into()]).await
}

async fn locks([a, b]: [LockReplica; 2]) -> Result<(), BackendError> {
    let lock = LockName::new("rights");
    let mut grants = b.grants(&lock);
    a.acquire(&lock, alone("a", LONG), None).await?;
    b.acquire(&lock, waiting("b", 1), None).await?;
    a.extend(&lock, "a", Some(1), LONG).await?;
    a.raise(&lock, "a", Fence(1)).await?;
    a.inspect(&lock).await?;
    a.release(&lock, back("a")).await?;
    let granted = timeout(PATIENCE, grants.next()).await.expect("it is granted");
    assert!(matches!(granted, Some(Grant { ticket: 1, .. })));
    b.release(&lock, Release { undo: true, ..back("b") }).await?;
    // Nobody acknowledges anything here, but it may be asked.
    let acknowledged = LockName::new("acknowledged").acknowledged_by(1, Duration::from_millis(1));
    match a.acquire(&acknowledged, alone("a", LONG), None).await {
        Err(error) if error.kind() != ErrorKind::Unknown => Err(error),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn the_documented_rights_suffice() {
    let server = Server::start();
    let rights = documented();
    assert!(rights.len() > 20, "{rights:?}");
    let url = limited(&server, &rights).await;
    everything(&url).await.unwrap();
    let denied: Vec<redis::Value> = server.run(&["ACL", "LOG"]).await;
    assert!(denied.is_empty(), "{denied:?}");
}

/// Each documented right is needed, and its lack is told as what it is.
#[tokio::test]
async fn no_documented_right_is_too_much() {
    let rights = documented();
    for (index, right) in rights.iter().enumerate().filter(|(_, right)| right.starts_with('+')) {
        let server = Server::start();
        let mut fewer = rights.clone();
        fewer.remove(index);
        let url = limited(&server, &fewer).await;
        let error = everything(&url).await.expect_err(right);
        assert_eq!(error.kind(), ErrorKind::Config, "{right}: {error}");
        assert!(error.to_string().contains("right"), "{right}: {error}");
    }
}

/// The rights end at the application's prefix.
#[tokio::test]
async fn another_application_is_out_of_reach() {
    let server = Server::start();
    let url = limited(&server, &documented()).await;
    let error = Redis::connect(&url, "other").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
