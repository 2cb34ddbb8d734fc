//! What the scripts publish to an inbox.
//!
//! ```text
//!  0  kind    1  digest of the key    17  fence, or microseconds
//! ```
//!
//! or a small record as it is stored: it names its key and its fence, and its first byte is no kind. One kind concerns all
//! variants of the key whose digest it names. One grants the lock under that key: behind the fence come the number of the
//! request that waited and its ticket, which nobody else knows.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Fence, Notice,
    record::{self, Decoded},
};
use crate::{key::Digest, protocol::lock::Grant};

/// What an inbox is told.
#[derive(Debug)]
pub(super) enum Message {
    /// What became of the key with this digest.
    About(Digest, Notice),
    /// All variants of the key with this digest were invalidated.
    VariantsInvalidated(Digest),
    /// A record has landed; it names its key.
    Landed(Decoded),
    /// The lock under the key with this digest was granted to one who waited.
    Granted(Digest, Grant),
}

/// Reads a message. `None` if it is no message of this version.
///
/// Anyone who may publish can forge messages, and one lost message costs latency only: what cannot be read is dropped,
/// and a record of another key than that of the waiter is left out, so that the waiter fetches the real one.
pub(super) fn parse(message: &Bytes) -> Option<Message> {
    if let Some(record) = record::decode(message) {
        return Some(Message::Landed(record));
    }
    let (&kind, rest) = message.split_first()?;
    let (digest, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (digest, number) = (Digest(*digest), u64::from_be_bytes(*number));
    let notice = match kind {
        1 => Notice::Landed(Fence(number), None),
        2 => Notice::Retry,
        3 => Notice::Scatter(Duration::from_micros(number)),
        4 => Notice::Invalidated,
        5 => return Some(Message::VariantsInvalidated(digest)),
        6 => {
            let (seq, rest) = rest.split_first_chunk()?;
            let (seq, digits) = (u64::from_be_bytes(*seq), std::str::from_utf8(rest.first_chunk::<16>()?).ok()?);
            let ticket = u64::from_str_radix(digits, 16).ok()?;
            return Some(Message::Granted(digest, Grant { ticket, seq, fence: Fence(number) }));
        }
        _ => return None,
    };
    Some(Message::About(digest, notice))
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

    fn about(message: &Bytes) -> Option<(Digest, Notice)> {
        match parse(message)? {
            Message::About(digest, notice) => Some((digest, notice)),
            other => panic!("{other:?} is about more or less than a key"),
        }
    }

    #[test]
    fn every_kind_is_read() {
        let digest = key("a").digest();
        assert_eq!(about(&message(2, digest, 0, b"")), Some((digest, Notice::Retry)));
        assert_eq!(about(&message(4, digest, 0, b"")), Some((digest, Notice::Invalidated)));
        let scatter = Notice::Scatter(Duration::from_micros(9));
        assert_eq!(about(&message(3, digest, 9, b"")), Some((digest, scatter)));
        assert_eq!(about(&message(1, digest, 9, b"")), Some((digest, Notice::Landed(Fence(9), None))));
        assert_eq!(about(&message(7, digest, 0, b"")), None);
        let behind = [&8_u64.to_be_bytes()[..], b"00000000000000ff"].concat();
        let Some(Message::Granted(of, told)) = parse(&message(6, digest, 9, &behind)) else { panic!("a grant") };
        assert_eq!((of, told), (digest, Grant { ticket: 255, seq: 8, fence: Fence(9) }));
        for cut in [&b""[..], &behind[..23], &[&behind[..23], b"x"].concat()] {
            assert!(parse(&message(6, digest, 9, cut)).is_none());
        }
        let Some(Message::VariantsInvalidated(of)) = parse(&message(5, digest, 0, b"")) else {
            panic!("a message about variants");
        };
        assert_eq!(of, digest);
        let Some(Message::Landed(landed)) = parse(&record(&key("a"), Fence(9)).into()) else {
            panic!("a record is a message");
        };
        assert_eq!(landed.key(), key("a").canonical());
        let found = landed.into_found();
        assert_eq!((found.fence, &found.payload[..]), (Fence(9), &b"body"[..]));
    }

    #[test]
    fn a_record_speaks_of_its_own_key_alone() {
        for junk in [&b"sfr\x01junk"[..], b"sfr\x02", b""] {
            assert_eq!(about(&Bytes::copy_from_slice(junk)), None);
        }
        // What stands behind a kind is no record, whatever it looks like.
        let digest = key("a").digest();
        let behind = message(1, digest, 9, &record(&key("a"), Fence(9)));
        assert_eq!(about(&behind), Some((digest, Notice::Landed(Fence(9), None))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, kind in 0..8u8) {
            let _ = parse(&[&[kind][..], &bytes].concat().into());
        }
    }
}
