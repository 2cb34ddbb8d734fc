//! The stored record, as bytes.
//!
//! ```text
//!  0  magic "sfr"    4  fence       12  total ms    20  fresh ms    28  stale ms
//!  3  version 1     36  cost us     44  length of the key (32 bits)  48  key, then payload
//! ```
//!
//! Big-endian throughout. The scripts read the first 36 bytes and write the fence, nothing else.

use std::time::Duration;

use bytes::Bytes;

use super::{Fence, Found, Lifetimes, Record};
use crate::key::Key;

const MAGIC: [u8; 4] = *b"sfr\x01";

/// Bytes before the key.
const HEAD: usize = 48;

/// The greatest fence that is believed. Scripts calculate in doubles, which hold integers exactly up to twice as much: the
/// other half is room to grow in, whoever wrote this one.
const LAST_FENCE: u64 = 1 << 52;

/// The longest time the store is asked to keep anything, 34 years: more would overflow what a double holds exactly.
const LONGEST_MS: u64 = 1 << 40;

/// The longest time that is believed; in the scripts too.
const LONGEST_BELIEVED: Duration = Duration::from_millis(2 * LONGEST_MS);

/// Milliseconds for the store, rounded up: what is not zero never becomes zero.
pub(super) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    whole.min(LONGEST_MS)
}

/// Microseconds for the store, rounded up.
pub(super) fn micros(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    whole.min(LONGEST_MS * 1000)
}

/// How long the store keeps a record: never zero, never less than it may be used.
pub(super) fn total_millis(lifetimes: &Lifetimes) -> u64 {
    let usable = millis(lifetimes.fresh).saturating_add(millis(lifetimes.stale));
    millis(lifetimes.keep).max(usable).clamp(1, LONGEST_MS)
}

/// How many bytes the record takes.
pub(super) fn encoded_len(key: &Key, record: &Record) -> usize {
    HEAD + key.canonical().len() + record.payload.len()
}

/// The bytes of a record.
pub(super) fn encode(key: &Key, fence: Fence, record: &Record) -> Vec<u8> {
    let canonical = key.canonical();
    let cost = u64::try_from(record.cost.as_micros()).unwrap_or(u64::MAX);
    let length = u32::try_from(canonical.len()).expect("a key is shorter than 4 GiB");
    let mut bytes = Vec::with_capacity(encoded_len(key, record));
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&fence.0.to_be_bytes());
    bytes.extend_from_slice(&total_millis(&record.lifetimes).to_be_bytes());
    bytes.extend_from_slice(&millis(record.lifetimes.fresh).to_be_bytes());
    bytes.extend_from_slice(&millis(record.lifetimes.stale).to_be_bytes());
    bytes.extend_from_slice(&cost.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(canonical);
    bytes.extend_from_slice(&record.payload);
    bytes
}

/// A record whose key has not been compared yet.
#[derive(Debug)]
pub(super) struct Decoded {
    fence: Fence,
    lifetimes: Lifetimes,
    cost: Duration,
    key: Bytes,
    payload: Bytes,
}

impl Decoded {
    /// The canonical form of the key it was stored under.
    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }

    /// What it holds, if it is the record of `key`: names in the store are made of digests, and the key itself decides.
    pub(super) fn of(self, key: &Key) -> Option<Found> {
        (self.key == key.canonical()).then(|| self.into_found())
    }

    /// What it holds, to a caller that compares the key. Its age is zero until the caller sets it.
    pub(super) fn into_found(self) -> Found {
        let Self { fence, lifetimes, cost, payload, .. } = self;
        Found { fence, age: Duration::ZERO, lifetimes, cost, payload }
    }
}

/// Reads the record of `key` that the flight with this fence wrote; `None` if it is any other.
pub(super) fn read(bytes: &Bytes, key: &Key, fence: Fence) -> Option<Found> {
    decode(bytes)?.of(key).filter(|found| found.fence == fence)
}

/// Reads a record; `None` if it is none that this version knows. The payload is a slice of `bytes`, not a copy.
pub(super) fn decode(bytes: &Bytes) -> Option<Decoded> {
    let mut rest = bytes.strip_prefix(&MAGIC)?;
    let fence = number(&mut rest)?;
    let keep = Duration::from_millis(number(&mut rest)?);
    let fresh = Duration::from_millis(number(&mut rest)?);
    let stale = Duration::from_millis(number(&mut rest)?);
    let cost = Duration::from_micros(number(&mut rest)?);
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if length > rest.len() || !(1..=LAST_FENCE).contains(&fence) || keep.max(fresh).max(stale) > LONGEST_BELIEVED {
        return None;
    }
    let key = bytes.slice(HEAD..HEAD + length);
    let payload = bytes.slice(HEAD + length..);
    Some(Decoded { fence: Fence(fence), lifetimes: Lifetimes { fresh, stale, keep }, cost, key, payload })
}

pub(super) fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(part: &[u8]) -> Key {
        Key::builder("test").part(part).finish()
    }

    fn record(payload: &'static [u8]) -> Record {
        let lifetimes =
            Lifetimes { fresh: Duration::from_secs(2), stale: Duration::from_secs(1), ..Lifetimes::default() };
        Record { lifetimes, cost: Duration::from_micros(1500), payload: Bytes::from_static(payload) }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = Bytes::from(encode(&key(b"a"), Fence(7), &record(b"body")));
        let found = decode(&bytes).unwrap().of(&key(b"a")).unwrap();
        let keep = Duration::from_secs(3);
        assert_eq!(found.fence, Fence(7));
        assert_eq!(found.lifetimes, Lifetimes { keep, ..record(b"").lifetimes });
        assert_eq!((found.cost, &found.payload[..]), (Duration::from_micros(1500), &b"body"[..]));
    }

    #[test]
    fn the_payload_is_not_copied() {
        let bytes = Bytes::from(encode(&key(b"a"), Fence(7), &record(b"body")));
        let found = decode(&bytes).unwrap().of(&key(b"a")).unwrap();
        assert!(bytes.as_ptr_range().contains(&found.payload.as_ptr()));
    }

    #[test]
    fn the_record_of_another_key_is_a_miss() {
        let bytes = Bytes::from(encode(&key(b"a"), Fence(7), &record(b"body")));
        assert!(decode(&bytes).unwrap().of(&key(b"b")).is_none());
    }

    #[test]
    fn the_record_of_another_flight_is_not_the_one_that_was_asked_for() {
        let bytes = Bytes::from(encode(&key(b"a"), Fence(7), &record(b"body")));
        assert!(read(&bytes, &key(b"a"), Fence(7)).is_some());
        for fence in [6, 8] {
            assert!(read(&bytes, &key(b"a"), Fence(fence)).is_none());
        }
    }

    #[test]
    fn another_version_or_magic_is_a_miss() {
        for index in 0..4 {
            let mut bytes = encode(&key(b"a"), Fence(7), &record(b"body"));
            bytes[index] ^= 1;
            assert!(decode(&bytes.into()).is_none());
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_a_miss() {
        for length in [u32::MAX, u32::MAX / 2, 64] {
            let mut bytes = encode(&key(b"a"), Fence(7), &record(b"body"));
            bytes[44..48].copy_from_slice(&length.to_be_bytes());
            assert!(decode(&bytes.into()).is_none_or(|decoded| decoded.of(&key(b"a")).is_none()));
        }
    }

    #[test]
    fn a_record_cut_short_before_its_payload_is_a_miss() {
        let whole = Bytes::from(encode(&key(b"a"), Fence(7), &record(b"")));
        for length in 0..whole.len() {
            assert!(decode(&whole.slice(..length)).is_none(), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_fence_that_scripts_cannot_hold_is_a_miss() {
        for fence in [0, LAST_FENCE + 1, u64::MAX] {
            assert!(decode(&encode(&key(b"a"), Fence(fence), &record(b"")).into()).is_none());
        }
    }

    #[test]
    fn a_time_beyond_all_is_a_miss() {
        let longest = 2 * LONGEST_MS;
        for index in [12, 20, 28] {
            for (ms, believed) in [(longest, true), (longest + 1, false), (u64::MAX, false)] {
                let mut bytes = encode(&key(b"a"), Fence(7), &record(b"body"));
                bytes[index..index + 8].copy_from_slice(&ms.to_be_bytes());
                assert_eq!(decode(&bytes.into()).is_some(), believed, "{ms} ms at {index}");
            }
        }
    }

    #[test]
    fn what_is_not_zero_never_becomes_zero() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1001)), 2);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::MAX), LONGEST_MS);
        assert_eq!(total_millis(&Lifetimes::default()), 1);
        let all = Lifetimes { fresh: Duration::MAX, stale: Duration::MAX, keep: Duration::MAX };
        assert_eq!(total_millis(&all), LONGEST_MS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, head: bool) {
            let bytes = if head { [&MAGIC[..], &bytes].concat() } else { bytes };
            let _ = decode(&bytes.into()).map(|decoded| decoded.of(&key(b"a")));
        }

        #[test]
        fn any_record_comes_back(part: Vec<u8>, payload: Vec<u8>, fence in 1..=LAST_FENCE, fresh: u32, stale: u32, keep: u32) {
            let [fresh, stale, keep] = [fresh, stale, keep].map(|ms| Duration::from_millis(ms.into()));
            let lifetimes = Lifetimes { fresh, stale, keep };
            let record = Record { lifetimes, cost: fresh, payload: payload.into() };
            let bytes = Bytes::from(encode(&key(&part), Fence(fence), &record));
            let found = decode(&bytes).unwrap().of(&key(&part)).unwrap();
            let kept = Lifetimes { keep: lifetimes.total(), ..lifetimes };
            prop_assert_eq!(found.lifetimes, kept);
            prop_assert_eq!((found.fence, found.payload, found.cost), (Fence(fence), record.payload, fresh));
        }
    }
}
