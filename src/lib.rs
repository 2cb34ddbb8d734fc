//! Distributed singleflight: identical work that is asked for at the same time, on whichever replica, runs once.
//!
//! When a hot key expires, every replica of a service computes it at once, and the database falls over. This crate
//! makes one caller in the fleet do the work while all others wait for its result, which reaches them by a message
//! within two network hops. It comes as a tower middleware for requests, [`SingleflightLayer`], and as [`Group`] for
//! anything else; and what must exclude other work has a [`Mutex`]. Replicas meet in a [backend](backend::Backend):
//! [`Redis`](backend::Redis), or [`Memory`](backend::Memory) within one process.
//!
//! A flight is neither a cache for everything nor a lock: nothing is kept unless you or the origin ask for it, and on a
//! failover of the store work can run twice.
//!
//! # A layer
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::time::Duration;
//!
//! use axum::{Router, body::Body, extract::Path, routing::get};
//! use tower::ServiceExt;
//! use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};
//!
//! let app = Router::new()
//!     .route("/report/{id}", get(async |Path(id): Path<u64>| format!("report {id}")))
//!     .layer(SingleflightLayer::new(Memory::new()).result_ttl(Duration::from_secs(5)));
//!
//! let request = || http::Request::get("http://shop.test/report/7").body(Body::empty()).unwrap();
//! let first = app.clone().oneshot(request()).await.unwrap();
//! assert_eq!(first.extensions().get(), Some(&Outcome::Led));
//! let second = app.oneshot(request()).await.unwrap();
//! assert!(matches!(second.extensions().get(), Some(Outcome::Hit { .. })));
//! # }
//! ```
//!
//! The [`middleware`] module tells what is shared and what is not.
//!
//! # A group
//!
//! ```
//! # #[cfg(feature = "json")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::{convert::Infallible, time::Duration};
//!
//! use tower_singleflight::{Group, backend::Memory};
//!
//! let users: Group<String> = Group::new(Memory::new(), "users").result_ttl(Duration::from_secs(30));
//! let user = users.work("user:7", || async { Ok::<_, Infallible>("Ada".to_owned()) }).await;
//! assert_eq!(user.unwrap(), "Ada");
//! # }
//! # #[cfg(not(feature = "json"))] fn main() {}
//! ```
//!
//! # A lock
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use tower_singleflight::{LockError, Mutex, backend::Memory};
//!
//! let mutex = Mutex::new(Memory::new(), "reports:nightly").metadata("worker 7");
//! let guard = mutex.lock().await.unwrap();
//! let Err(LockError::Taken(taken)) = mutex.try_lock().await else { panic!("it is held") };
//! assert_eq!(taken.holder.as_deref(), Some("worker 7"));
//! guard.unlock().await.unwrap();
//! # }
//! ```
//!
//! The [`mutex`] module tells what it promises, on one node and on several.
//!
//! # Vocabulary
//!
//! A **flight** is one shared execution of the work behind one **key**. A caller **leads** (its work runs), **joins**
//! (gets the result of somebody else's flight), gets a **hit** (a stored result) or a **stale** one (while somebody
//! refreshes it), runs **alone** (the outcome cannot be shared, or coordination failed), or **bypasses** (was never part
//! of it). A **lease** is the right to lead; it has a time limit, [`lock_ttl`](Group::lock_ttl), and is renewed while
//! the work runs.
//!
//! # Concurrent calls, as they happen
//!
//! ```text
//! replica A, caller 1   begin ─▶ leads ──── work ────▶ result ─▶ complete (in the background)
//! replica A, caller 2        joins 1's flight ────────▶ result        │
//! replica B, caller 3        begin ─▶ follows ─ ─ ─ ─ ─ ─ ─ ─ message ▶ result
//! replica B, caller 4             joins 3's flight ─ ─ ─ ─ ─ ─ ─ ─ ─ ▶ result
//! ```
//!
//! - Every caller can be dropped alone. Work that has started goes on for those who wait, and for the store.
//! - An error or a panic goes to the caller whose work it was; one of those who wait takes over.
//! - If a leader dies, its followers wait for what is left of its lease, and one of them takes over.
//! - If the store is away or slow, callers are coalesced within each process, and everything recovers by itself.
//!
//! [`docs`] holds the whole protocol and what happens when something fails, case by case.
//!
//! # Features
//!
//! `redis` (default) adds [`backend::Redis`]; `json` (default) adds [`codec::Json`], with which [`Group::new`] stores, and
//! [`BodyKey::json`]; `graphql` adds [`BodyKey::graphql`]; `axum` reads the target of a request as it was before nested routers
//! stripped prefixes, makes keys of the patterns of routes, and tells handlers their [`Outcome`]; `contract` adds the
//! [tests](backend::contract) that a backend of your own must pass; `full` is all of them. Features only add.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "full"),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation speaks of what features add")
)]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::disallowed_methods, clippy::unwrap_used)]

pub mod backend;
pub mod codec;
pub mod docs;
pub mod group;
mod key;
pub mod middleware;
pub mod mutex;
pub mod protocol;
pub use self::{
    group::Group,
    key::{Digest, Key, KeyBuilder},
    middleware::{
        BodyKey, BodyKeyExtractor, Caller, Identity, IdentityPolicy, KeyExtractor, Outcome, Overload, Policy,
        RequestBody, RequestKey, Share, SharePolicy, Singleflight, SingleflightLayer, Why, body_key_fn, identity_fn,
        key_fn, share_fn,
    },
    mutex::{LockError, Mutex, MutexGuard},
};
