//! Messages on the wire: a flag, the length in four bytes, and so many bytes.

use std::fmt;

/// The flag and the length.
const PREFIX: usize = 5;

/// How long the first message of a body is, as far as that came.
#[derive(Clone, Copy, Default)]
pub(in crate::middleware) struct Prefix {
    bytes: [u8; PREFIX],
    seen: usize,
}

impl Prefix {
    /// What came next.
    pub(in crate::middleware) fn see(&mut self, piece: &[u8]) {
        let more = piece.len().min(PREFIX - self.seen);
        self.bytes[self.seen..][..more].copy_from_slice(&piece[..more]);
        self.seen += more;
    }

    pub(in crate::middleware) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        pieces.into_iter().fold(Self::default(), |mut prefix, piece| {
            prefix.see(piece);
            prefix
        })
    }

    /// The length of the message with its prefix, once that is known.
    pub(in crate::middleware) fn length(&self) -> Option<u64> {
        let [_, length @ ..] = self.bytes;
        (self.seen == PREFIX).then(|| PREFIX as u64 + u64::from(u32::from_be_bytes(length)))
    }
}

/// Whether a body is one message and nothing else.
pub(in crate::middleware) fn is_one(body: &[u8]) -> bool {
    // Other flags than "compressed" and "not compressed" mean nothing that is known, such as the trailers of gRPC-Web.
    Prefix::of([body]).length() == Some(body.len() as u64) && body[0] <= 1
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes[..self.seen].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let length = |pieces: &[&[u8]]| Prefix::of(pieces.iter().copied()).length();
        assert_eq!(length(&[&[0, 0, 0, 0]]), None);
        assert_eq!(length(&[&[0, 0, 0, 0, 0]]), Some(5));
        assert_eq!(length(&[&[], &[1, 0], &[0, 1, 2, 9], &[9]]), Some(5 + 258));
        assert_eq!(length(&[&[0, 255, 255, 255, 255]]), Some(5 + u64::from(u32::MAX)));
    }

    #[test]
    fn one_message_alone() {
        assert!(is_one(&[0, 0, 0, 0, 0]) && is_one(&[1, 0, 0, 0, 2, 7, 7]));
        for body in
            [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 0], &[128, 0, 0, 0, 0]]
        {
            assert!(!is_one(body), "{body:?}");
        }
    }
}
