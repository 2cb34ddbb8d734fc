//! What the scripts publish to an inbox.
//!
//! ```text
//!  0  kind    1  digest of the key    17  fence, or microseconds    25  the record, if it is small
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::{Fence, Notice, record};
use crate::key::Digest;

/// Whom a message is about, and what it says. `None` if it is no message of this version.
///
/// Anyone who may publish can forge messages, and one lost message costs latency only: what cannot be read is dropped,
/// and a record that is not what the message says it is is left out, so that the waiter fetches the real one.
pub(super) fn parse(message: &Bytes) -> Option<(Digest, Notice)> {
    let (&kind, rest) = message.split_first()?;
    let (digest, rest) = rest.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    let (digest, number) = (Digest(*digest), u64::from_be_bytes(*number));
    let notice = match kind {
        1 => {
            let fence = Fence(number);
            let record = record::decode(&message.slice(25..)).filter(|record| Digest::of(record.key()) == digest);
            Notice::Landed(fence, record.map(record::Decoded::trusted).filter(|found| found.fence == fence))
        }
        2 => Notice::Retry,
        3 => Notice::Scatter(Duration::from_micros(number)),
        4 => Notice::Invalidated,
        _ => return None,
    };
    Some((digest, notice))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Record, *};
    use crate::key::Key;

    fn key(part: &str) -> Key {
        Key::builder("test").part(part).finish()
    }

    fn message(kind: u8, digest: Digest, number: u64, record: &[u8]) -> Bytes {
        [&[kind][..], &digest.0, &number.to_be_bytes(), record].concat().into()
    }

    fn record(of: &Key, fence: Fence) -> Vec<u8> {
        let record =
            Record { lifetimes: Default::default(), cost: Duration::ZERO, payload: Bytes::from_static(b"body") };
        record::encode(of, fence, &record)
    }

    #[test]
    fn every_kind_is_read() {
        let digest = key("a").digest();
        assert_eq!(parse(&message(2, digest, 0, b"")), Some((digest, Notice::Retry)));
        assert_eq!(parse(&message(4, digest, 0, b"")), Some((digest, Notice::Invalidated)));
        let scatter = Notice::Scatter(Duration::from_micros(9));
        assert_eq!(parse(&message(3, digest, 9, b"")), Some((digest, scatter)));
        assert_eq!(parse(&message(1, digest, 9, b"")), Some((digest, Notice::Landed(Fence(9), None))));
        assert_eq!(parse(&message(5, digest, 0, b"")), None);
        let Some((_, Notice::Landed(Fence(9), Some(found)))) =
            parse(&message(1, digest, 9, &record(&key("a"), Fence(9))))
        else {
            panic!("the record came with the message");
        };
        assert_eq!(&found.payload[..], b"body");
    }

    #[test]
    fn a_record_of_another_key_or_flight_is_left_out() {
        let digest = key("a").digest();
        for record in [record(&key("b"), Fence(9)), record(&key("a"), Fence(8)), b"sfr\x01junk".to_vec()] {
            assert_eq!(parse(&message(1, digest, 9, &record)), Some((digest, Notice::Landed(Fence(9), None))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, kind in 0..6u8) {
            let _ = parse(&[&[kind][..], &bytes].concat().into());
        }
    }
}
