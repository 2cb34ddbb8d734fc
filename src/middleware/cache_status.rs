//! The `Cache-Status` field (RFC 9211).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::outcome::{Outcome, Why};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Under which name the layer reports what it did.
#[derive(Clone, Debug)]
pub(super) struct CacheStatus(Arc<str>);

impl CacheStatus {
    /// `None` if the name is empty or holds anything but visible ASCII and spaces.
    pub(super) fn new(name: &str) -> Option<Self> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            None
        } else if name.bytes().all(token) && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        {
            Some(Self(name.into()))
        } else {
            Some(Self(format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")).into()))
        }
    }

    /// Adds this layer's member behind those of caches that are nearer to the origin. `fresh` is how long the response is
    /// fresh, counted from when it was stored: zero if it was not.
    pub(super) fn append(&self, headers: &mut HeaderMap, outcome: Outcome, fresh: Duration) {
        let name = &self.0;
        let member = match outcome {
            Outcome::Led if fresh.is_zero() => format!("{name}; fwd=uri-miss"),
            Outcome::Led => format!("{name}; fwd=uri-miss; stored"),
            Outcome::Joined { .. } => format!("{name}; fwd=uri-miss; collapsed"),
            Outcome::Hit { age } | Outcome::Stale { age } => format!("{name}; hit; ttl={}", left(fresh, age)),
            Outcome::Bypassed(why) => format!("{name}; fwd={}", reason(why)),
        };
        headers.append(CACHE_STATUS, HeaderValue::try_from(member).expect("the name holds visible ASCII and spaces"));
    }
}

/// Whole seconds, rounded down; negative once stale.
fn left(fresh: Duration, age: Duration) -> i64 {
    (fresh.as_secs_f64() - age.as_secs_f64()).floor() as i64
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Method => "method",
        Why::NoStore | Why::Directive => "request",
        Why::Unshareable
        | Why::Variants
        | Why::WaitTimeout
        | Why::StoreUnavailable
        | Why::Poisoned
        | Why::Superseded
        | Why::Deadline
        | Why::Overloaded => "uri-miss",
        _ => "bypass",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, outcome: Outcome, fresh: u64) -> String {
        let mut headers = HeaderMap::new();
        CacheStatus::new(name).unwrap().append(&mut headers, outcome, Duration::from_secs(fresh));
        headers[CACHE_STATUS].to_str().unwrap().to_owned()
    }

    #[test]
    fn outcomes() {
        let age = Duration::from_millis(1500);
        assert_eq!(shown("shop", Outcome::Led, 0), "shop; fwd=uri-miss");
        assert_eq!(shown("shop", Outcome::Led, 5), "shop; fwd=uri-miss; stored");
        assert_eq!(shown("shop", Outcome::Joined { elsewhere: true }, 5), "shop; fwd=uri-miss; collapsed");
        assert_eq!(shown("shop", Outcome::Hit { age }, 5), "shop; hit; ttl=3");
        assert_eq!(shown("shop", Outcome::Stale { age }, 1), "shop; hit; ttl=-1");
        assert_eq!(shown("shop", Outcome::Bypassed(Why::Method), 0), "shop; fwd=method");
        assert_eq!(shown("shop", Outcome::Bypassed(Why::NoStore), 0), "shop; fwd=request");
        assert_eq!(shown("shop", Outcome::Bypassed(Why::Identity), 0), "shop; fwd=bypass");
        assert_eq!(shown("shop", Outcome::Bypassed(Why::WaitTimeout), 0), "shop; fwd=uri-miss");
        assert_eq!(shown("shop", Outcome::Bypassed(Why::Overloaded), 0), "shop; fwd=uri-miss");
    }

    #[test]
    fn names_that_are_no_token_are_quoted() {
        assert_eq!(shown("my shop", Outcome::Led, 0), "\"my shop\"; fwd=uri-miss");
        assert_eq!(shown("1\"\\", Outcome::Led, 0), "\"1\\\"\\\\\"; fwd=uri-miss");
        assert!(CacheStatus::new("").is_none());
        assert!(CacheStatus::new("a\r\nb").is_none());
        assert!(CacheStatus::new("ü").is_none());
    }
}
