//! The promises of the protocol, checked over every interleaving of a small fleet.
//!
//! The world is one [`Slot`](super::store::Slot), two replicas with as many [`Flight`](super::flight::Flight)s as they
//! open, two or three callers, and the air between them: requests, replies and messages, which arrive in any order and
//! as late as they like. A driver does what the real one does, and decides nothing. Every configuration is explored
//! completely, faults within a budget; afterwards nobody comes, nothing goes wrong, and everything has to end.
//!
//! The checker keeps a book of its own (who leads until when, who was promised a message, which work a value came from)
//! and compares it with every step:
//!
//! | promise | broken when |
//! |---|---|
//! | I1 | a record is stored, or refused, against the owner and fence in the book |
//! | I2 | `renew`, `complete` or `abort` by one who is not in the book changes the slot, or is told so |
//! | I3 | `begin` grants a lease while another one in the book runs |
//! | I4 | where nothing can happen any more, a caller waits or a flight flies; or a world can be reached from itself; or, while no request is late, a living leader is taken for dead |
//! | I5 | a record that is not fresh reaches one who asked after it landed, save for the time the answer was on its way, or the message that told of it |
//! | I6 | I4, with every message lost (`deaf`) |
//! | I7 | work runs twice, `Ran` reaches another caller, somebody is refused, scattered or poisoned without a reason |
//! | I9 | a fence is handed out twice, or the fence of the record falls |
//! | epoch | a result of work older than an invalidation is kept, or reaches one who came after the message was heard |
//! | told | an operation tells anyone but those who were promised a message |
//! | once, value, strict | two answers; a value no work produced; a strict caller sent away to run, another one refused |
//!
//! I8 is the compiler's: the two clocks are two types.

mod driver;
mod event;
mod mutants;
mod mutation;
mod runs;
mod step;
mod store;
mod world;
