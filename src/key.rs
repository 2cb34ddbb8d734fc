//! [`Key`]: what makes two pieces of work the same.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use sha2::{Digest as _, Sha256};

/// What makes two pieces of work the same: a list of parts, each prefixed with its length.
///
/// Because every part carries its length, `["ab", "c"]` and `["a", "bc"]` are different keys, and no delimiter
/// can be smuggled in. Any bytes may stand in a part, and a part may be empty. Cloning is cheap.
///
/// ```
/// use tower_singleflight::Key;
///
/// let key = Key::builder("shop").part("ab").part("c").finish();
/// assert_ne!(key, Key::builder("shop").part("a").part("bc").finish());
/// assert_eq!(key, Key::builder("shop").part(b"ab").part([b'c']).finish());
/// ```
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    canonical: Box<[u8]>,
    digest: OnceLock<Digest>,
}

impl Key {
    /// Starts a key in the domain `domain`, which separates keys of different kinds.
    pub fn builder(domain: impl AsRef<[u8]>) -> KeyBuilder {
        KeyBuilder { canonical: Vec::with_capacity(128) }.part(domain)
    }

    /// The parts with their lengths (32 bits, big-endian, before each part).
    pub fn canonical(&self) -> &[u8] {
        &self.0.canonical
    }

    /// The first 128 bits of the SHA-256 of the canonical form; computed once per key.
    ///
    /// Names in the store are made of it. It is not what decides whether a record fits: every record carries the
    /// canonical key, and a reader compares that.
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| Digest::of(&self.0.canonical))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.canonical == other.0.canonical
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.canonical.hash(state);
    }
}

impl fmt::Debug for Key {
    /// Shows the digest alone: keys may hold what should not stand in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.digest())
    }
}

/// Builds a [`Key`] part by part.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyBuilder {
    canonical: Vec<u8>,
}

impl KeyBuilder {
    /// Adds a part. Order matters.
    ///
    /// # Panics
    ///
    /// If the part is 4 GiB or longer.
    pub fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        let length = u32::try_from(part.len()).expect("a part of a key is shorter than 4 GiB");
        self.canonical.extend_from_slice(&length.to_be_bytes());
        self.canonical.extend_from_slice(part);
        self
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        Key(Arc::new(Inner { canonical: self.canonical.into(), digest: OnceLock::new() }))
    }
}

/// A digest of a [`Key`], shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest of the key with this canonical form.
    pub(crate) fn of(canonical: &[u8]) -> Self {
        let hash = Sha256::digest(canonical);
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Self(first)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
