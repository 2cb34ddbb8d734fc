//! What the scripts publish to an inbox.
//!
//! ```text
//!  0  kind    1  digest of the key    17  fence, or microseconds
//! ```
//!
//! or a small record as it is stored: it names its key and its fence, and its first byte is no kind. One kind concerns all
//! variants of the key whose digest it names.

use std::time::Duration;

use bytes::Bytes;

use super::{Fence, Notice, record};
use crate::key::Digest;

/// Whom a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The key with this digest.
    Key(Digest),
    /// All variants of the key with this digest.
    VariantsOf(Digest),
}

/// Whom a message is about, and what it says. `None` if it is no message of this version.
///
/// Anyone who may publish can forge messages, and one lost message costs latency only: what cannot be read is dropped,
/// and a record that is not what the message says it is is left out, so that the waiter fetches the real one.
pub(super) fn parse(message: &Bytes) -> Option<(About, Notice)> {
    if let Some(record) = record::decode(message) {
        let digest = Digest::of(record.key());
        let found = record.trusted();
        return Some((About::Key(digest), Notice::Landed(found.fence, Some(found))));
    }
    let (&kind, rest) = message.split_first()?;
    let (digest, rest) = rest.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    let (digest, number) = (Digest(*digest), u64::from_be_bytes(*number));
    let notice = match kind {
        1 => Notice::Landed(Fence(number), None),
        2 => Notice::Retry,
        3 => Notice::Scatter(Duration::from_micros(number)),
        4 | 5 => Notice::Invalidated,
        _ => return None,
    };
    let about = if kind == 5 { About::VariantsOf(digest) } else { About::Key(digest) };
    Some((about, notice))
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
        let about = About::Key(digest);
        assert_eq!(parse(&message(2, digest, 0, b"")), Some((about, Notice::Retry)));
        assert_eq!(parse(&message(4, digest, 0, b"")), Some((about, Notice::Invalidated)));
        assert_eq!(parse(&message(5, digest, 0, b"")), Some((About::VariantsOf(digest), Notice::Invalidated)));
        let scatter = Notice::Scatter(Duration::from_micros(9));
        assert_eq!(parse(&message(3, digest, 9, b"")), Some((about, scatter)));
        assert_eq!(parse(&message(1, digest, 9, b"")), Some((about, Notice::Landed(Fence(9), None))));
        assert_eq!(parse(&message(6, digest, 0, b"")), None);
        let Some((of, Notice::Landed(Fence(9), Some(found)))) = parse(&record(&key("a"), Fence(9)).into()) else {
            panic!("a record is a message");
        };
        assert_eq!((of, &found.payload[..]), (about, &b"body"[..]));
    }

    #[test]
    fn a_record_speaks_of_its_own_key_alone() {
        for junk in [&b"sfr\x01junk"[..], b"sfr\x02", b""] {
            assert_eq!(parse(&Bytes::copy_from_slice(junk)), None);
        }
        // What stands behind a kind is no record, whatever it looks like.
        let digest = key("a").digest();
        let behind = message(1, digest, 9, &record(&key("a"), Fence(9)));
        assert_eq!(parse(&behind), Some((About::Key(digest), Notice::Landed(Fence(9), None))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, kind in 0..7u8) {
            let _ = parse(&[&[kind][..], &bytes].concat().into());
        }
    }
}
