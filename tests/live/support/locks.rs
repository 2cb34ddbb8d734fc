//! Short forms of what tests of locks do.

use std::time::Duration;

use tower_singleflight::{
    backend::{
        Fence,
        contract::{LockName, LockReplica},
    },
    protocol::{
        lease::Inbox,
        lock::{Acquire, Acquired, Place, Release},
    },
};

use super::{Server, calls::LONG};

/// Where a lock and its floor lie.
pub fn places(app: &str, name: &str) -> [String; 2] {
    let lock = format!("sf1:{app}:lock:{{{name}}}");
    [lock.clone(), lock + ":f"]
}

/// A lock as it lies in a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Laid {
    pub token: String,
    pub seq: u64,
    /// Nothing was there before, no floor either.
    pub first: bool,
    /// What the holder tells of itself.
    pub about: Option<String>,
    /// The tickets of those who wait, in order, and the tokens under which they do.
    pub places: Vec<(u64, String)>,
}

impl Laid {
    pub async fn read(server: &Server, name: &str) -> Option<Self> {
        let text: Option<Vec<u8>> = server.run(&["GET", name]).await;
        text.map(|text| Self::parse(&text))
    }

    fn parse(mut text: &[u8]) -> Self {
        let text = &mut text;
        assert_eq!(take(text, 4), b"sfl\x01");
        let (seq, _fence, first, count) = (number(text, 8), number(text, 8), number(text, 1) == 1, number(text, 4));
        let (token, about) = (counted(text, 4), counted(text, 4));
        let mut places = Vec::new();
        while !text.is_empty() {
            let ticket = String::from_utf8(take(text, 17).to_vec()).unwrap();
            let (_inbox, _seq, _lease, _life) = (take(text, 24), number(text, 8), counted(text, 1), counted(text, 1));
            let (token, _about) = (counted(text, 4), counted(text, 4));
            places.push((u64::from_str_radix(ticket.strip_prefix(':').unwrap(), 16).unwrap(), token));
        }
        assert_eq!(places.len() as u64, count);
        Self { token, seq, first, about: about.strip_prefix('=').map(str::to_owned), places }
    }

    /// The tickets of those who wait.
    pub fn tickets(&self) -> Vec<u64> {
        self.places.iter().map(|(ticket, _)| *ticket).collect()
    }
}

/// How many wait for a lock on a server.
pub async fn waiters(server: &Server, name: &str) -> usize {
    Laid::read(server, name).await.map_or(0, |laid| laid.places.len())
}

/// The floor of a lock, if it has one.
pub async fn floor_of(server: &Server, name: &str) -> Option<Fence> {
    let bytes: Option<[u8; 8]> = server.run(&["GET", name]).await;
    bytes.map(|bytes| Fence(u64::from_be_bytes(bytes)))
}

fn take<'a>(text: &mut &'a [u8], count: usize) -> &'a [u8] {
    text.split_off(..count).expect("it is whole")
}

fn number(text: &mut &[u8], bytes: usize) -> u64 {
    take(text, bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn counted(text: &mut &[u8], bytes: usize) -> String {
    let count = number(text, bytes);
    String::from_utf8(take(text, usize::try_from(count).unwrap()).to_vec()).unwrap()
}

/// Alone, and without a place.
pub fn ask(token: &str, ttl: Duration) -> Acquire<&str> {
    Acquire { token, seq: 1, ttl, place: None, sole: true, linger: Duration::ZERO }
}

/// Wherever the replica hears.
pub fn waiting(token: &str, ticket: u64) -> Acquire<&str> {
    Acquire { place: Some(Place { ticket, inbox: Inbox([0; 12]) }), ..ask(token, LONG) }
}

pub fn back(token: &str) -> Release<&str> {
    Release { token, seq: 1, undo: false, ticket: None }
}

pub async fn acquire(redis: &LockReplica, lock: &LockName, ask: Acquire<&str>) -> Acquired {
    redis.acquire(lock, ask, None).await.unwrap().0
}

pub async fn grant(redis: &LockReplica, lock: &LockName, ask: Acquire<&str>) -> Fence {
    match acquire(redis, lock, ask).await {
        Acquired::Granted(fence) => fence,
        other => panic!("expected to hold it, got {other:?}"),
    }
}
