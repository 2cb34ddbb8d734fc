//! What HTTP says about storing and reusing responses: RFC 9111 (caching), RFC 9110 (dates, conditions, ranges),
//! RFC 5861 (stale content), RFC 9213 (targeted cache control).
//!
//! Everything here is a function of messages. Clocks, stores and settings come in as arguments, so that every rule is a
//! row of a table in its test. Where the text leaves a choice, the one that shares less is taken, and says so.

pub(in crate::middleware) mod cache_control;
pub(in crate::middleware) mod condition;
pub(in crate::middleware) mod date;
mod directive;
pub(in crate::middleware) mod freshness;
pub(in crate::middleware) mod range;
mod targeted;
pub(in crate::middleware) mod update;
mod validator;
pub(in crate::middleware) mod vary;
