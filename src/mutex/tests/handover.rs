//! A lock that goes from one process to another.

use super::{
    super::Token,
    faulty::{Faulty, Mode, elsewhere},
    *,
};
use crate::backend::{Memory, lock::Locks};

#[tokio::test(start_paused = true)]
async fn a_lock_is_handed_over_with_its_token() {
    let nodes = Faulty::three();
    let (here, there) = (Mutex::new(nodes.clone(), "job"), Mutex::new(elsewhere(&nodes), "job"));
    let guard = here.lock().await.unwrap();
    let fence = guard.fence().await.unwrap();
    let text = guard.into_token().to_string();
    tokio::time::advance(TTL / 2).await;
    assert!(is_taken(there.try_lock().await), "it was not released");
    let guard = there.from_token(text.parse().unwrap()).await.unwrap();
    assert_eq!(guard.fence().await.unwrap(), fence);
    assert_eq!(guard.until() - Instant::now(), SURE);
    tokio::time::advance(TTL / 2 + MS).await;
    guard.extend().await.unwrap();
    guard.unlock().await.unwrap();
    assert!(!here.is_locked().await.unwrap());
}

/// Fails if a place is left for a token whose holder no longer knows of it.
#[tokio::test(start_paused = true)]
async fn what_is_handed_over_leaves_no_place_behind() {
    let nodes = Faulty::three();
    let other = Mutex::new(nodes[2].replica(), "job");
    let stranger = other.lock().await.unwrap();
    let mutex = Mutex::new(nodes.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    let token = guard.into_token();
    settle().await;
    let adopted = Mutex::new(elsewhere(&nodes), "job").from_token(token).await.unwrap();
    adopted.unlock().await.unwrap();
    stranger.unlock().await.unwrap();
    assert!(!other.is_locked().await.unwrap());
}

/// An extension that was sent before a lock was handed over, and arrives after it was adopted.
/// Fails if it shortens the lease of who went on with the lock: two are sure of it then.
#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_hand_over_takes_nothing_from_who_goes_on() {
    let memory = Memory::new();
    let (slow, quick) = (Faulty::on(memory.replica()), Faulty::on(memory.replica()));
    let guard = Mutex::new(slow.clone(), "job").lock().await.unwrap();
    slow.set(Mode::Late(100 * MS));
    // Given up, and still on its way; so is a renewal that a guard with `auto_renew` had sent.
    let given_up = tokio::time::timeout(10 * MS, guard.extend()).await;
    assert!(given_up.is_err());
    let token = guard.into_token();
    let there = Mutex::new(quick, "job").ttl(Duration::from_secs(60));
    let guard = there.from_token(token).await.unwrap();
    tokio::time::sleep(TTL + 200 * MS).await;
    let third = Mutex::new(memory.replica(), "job").try_lock().await;
    assert!(guard.until() > Instant::now());
    assert!(third.is_err(), "two hold it");
}

/// Fails if what a node said late to who adopted a lock keeps the release from counting there.
#[tokio::test(start_paused = true)]
async fn an_adopted_lock_is_released_on_nodes_that_answered_late() {
    let nodes = Faulty::three();
    let mutex = Mutex::new(nodes.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    settle().await;
    // The last extension of the process before reached this node alone, and that process had sent more than this one.
    nodes[2].memory.extend(&mutex.config.key, guard.token().text(), Some(1 << 40), TTL).await.unwrap();
    let token = guard.into_token();
    nodes[2].set(Mode::Late(5 * MS));
    let guard = Mutex::new(elsewhere(&nodes), "job").from_token(token).await.unwrap();
    nodes[2].set(Mode::Up);
    guard.unlock().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!Mutex::new(nodes[2].clone(), "job").is_locked().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_nobody_is_refused() {
    let mutex = Mutex::new(Faulty::three(), "job");
    assert!(matches!(mutex.from_token(Token::random()).await, Err(LockError::NotHeld)));
    let guard = mutex.lock().await.unwrap();
    assert!(matches!(mutex.from_token(Token::random()).await, Err(LockError::NotHeld)));
    let token = guard.into_token();
    tokio::time::advance(TTL).await;
    assert!(matches!(mutex.from_token(token).await, Err(LockError::NotHeld)));
}

#[test]
fn a_token_is_text_and_does_not_show_in_logs() {
    let token = Token::random();
    assert_eq!((token.as_str().len(), token.to_string().parse().unwrap()), (32, token.clone()));
    assert!(!format!("{token:?}").contains(&token.as_str()[4..]));
    assert_eq!("".parse::<Token>().unwrap_err().to_string(), "a token is empty; use one that nobody else uses");
    let long = "x".repeat(257).parse::<Token>().unwrap_err();
    assert_eq!(long.to_string(), "a token has 257 bytes; 256 are the most");
    assert!("x".repeat(256).parse::<Token>().is_ok());
}
