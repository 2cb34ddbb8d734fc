//! The promises of a lock, checked over every interleaving of two contenders and one, two or three nodes.
//!
//! Every node is a real [`Lock`](super::lock::Lock) with a clock of its own; every contender drives real
//! [`Round`](super::quorum::Round)s and a real [`Hold`](super::quorum::Hold) as the driver does: an attempt asks all nodes,
//! one that failed is undone on all that did not refuse it, whoever holds extends, shortens and releases, one round at a
//! time. A contender keeps its token over all its attempts, which is the worst case for what comes late.
//!
//! Whoever is refused and waits has a place where it was refused. A release grants the lock to the place, and the
//! message of that comes whenever it likes, before and behind any other, or never; nobody hears it who has stopped
//! waiting, and an inbox may be deaf when the lock comes to it. A quorum of messages for the last attempt, of nodes
//! where that is not being undone, is held as from when the attempt was sent. What comes during an attempt counts
//! together with its answers, or comes behind it. Who waits may ask again, or stop, whenever it likes.
//!
//! A connection keeps the order of its requests. One that is later than a tick is one of a connection that was replaced:
//! it comes whenever it likes, after any number of younger ones. Every configuration is explored completely; bounded are
//! the faults, the attempts, the extensions and the ticks until nobody tries any more. A lease takes three ticks, of which
//! one is taken off for drift, and one clock may go one tick too fast: all the drift that is allowed.
//!
//! The checker keeps a book of its own and compares it with every step:
//!
//! | promise | broken when |
//! |---|---|
//! | L1 | two are sure at the same time that they hold the lock |
//! | L2 | the fence of a holder is not above that of an earlier one: on one node always, on several once the earlier one had written it back while it was sure |
//! | L3 | a release, an undo or an extension takes from another what it holds; or a request takes something from a hold that a younger one of the same holder changed |
//! | L4 | a hold that had ended holds again, or one begins after its end |
//! | L5 | what is free is held again, and nobody acquired it |
//! | L6 | where nothing can happen any more, a contender is stuck; a node is held though nothing went wrong; or, once leases and lingers are over, a node remembers anything or a newcomer is not granted a quorum |
//!
//! Assumed are that clocks drift by no more than what is taken off, and that a node does not lose what it granted.

mod contender;
mod event;
mod mutants;
mod node;
mod runs;
mod step;
mod waiter;
mod world;
