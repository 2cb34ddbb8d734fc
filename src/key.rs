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
    /// The key that this one is a variant of.
    primary: Option<Key>,
}

/// Stands where a part would begin, and is the length of none: what follows tells a variant from its primary.
const VARIANT: u32 = u32::MAX;

impl Key {
    /// Starts a key in the domain `domain`, which separates keys of different kinds.
    pub fn builder(domain: impl AsRef<[u8]>) -> KeyBuilder {
        KeyBuilder { canonical: Vec::with_capacity(128) }.part(domain)
    }

    /// A key of its own that goes when this one goes: one of the forms in which the work behind this key comes, such as
    /// a page in one of its languages.
    ///
    /// `values` tell the variants of a key apart. Each has its own results and flights; invalidating the key they
    /// are variants of, their *primary*, invalidates them all, and invalidating one of them leaves the others alone. A
    /// family is flat: the variant of a variant is one more variant of the same primary, told apart by both values.
    ///
    /// ```
    /// use tower_singleflight::Key;
    ///
    /// let page = Key::builder("page").part("/news").finish();
    /// let (german, danish) = (page.variant("de"), page.variant("da"));
    /// assert_ne!(german, danish);
    /// assert_ne!(german, page);
    /// assert_eq!(german.primary(), &page);
    /// assert_eq!(german.variant("gzip").primary(), &page);
    /// ```
    ///
    /// # Panics
    ///
    /// If the values take 4 GiB or more.
    #[must_use]
    pub fn variant(&self, values: impl AsRef<[u8]>) -> Self {
        let mut builder = KeyBuilder { canonical: self.canonical().to_vec() };
        if !self.is_variant() {
            // No other key has this canonical form: read from its beginning, part by part, it has something here that
            // is not the length of a part.
            builder.canonical.extend_from_slice(&VARIANT.to_be_bytes());
        }
        builder.part(values).of(Some(self.primary().clone()))
    }

    /// The key that this one is a variant of, or this key itself.
    pub fn primary(&self) -> &Self {
        self.0.primary.as_ref().unwrap_or(self)
    }

    /// Whether this key is a [variant](Self::variant) of another one.
    pub fn is_variant(&self) -> bool {
        self.0.primary.is_some()
    }

    /// The parts with their lengths (32 bits, big-endian, before each part). A variant begins with the canonical form of
    /// its primary, then come 32 bits that are the length of no part, and its values in the same way.
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

    /// The digest of the [primary](Self::primary): the same for all variants of a key.
    pub fn primary_digest(&self) -> Digest {
        self.primary().digest()
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
    /// If the part is 4 GiB (less one byte) or longer.
    pub fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        let length = u32::try_from(part.len()).ok().filter(|length| *length != VARIANT);
        let length = length.expect("a part of a key is shorter than 4 GiB");
        self.canonical.extend_from_slice(&length.to_be_bytes());
        self.canonical.extend_from_slice(part);
        self
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        self.of(None)
    }

    fn of(self, primary: Option<Key>) -> Key {
        Key(Arc::new(Inner { canonical: self.canonical.into(), digest: OnceLock::new(), primary }))
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(parts: &[&str]) -> Key {
        parts.iter().fold(Key::builder("test"), KeyBuilder::part).finish()
    }

    #[test]
    fn variants_are_keys_of_their_own_with_one_primary() {
        let page = key(&["page"]);
        let keys = [
            page.clone(),
            page.variant(""),
            page.variant("a"),
            page.variant("b"),
            page.variant("ab"),
            page.variant("a").variant("b"),
            page.variant("b").variant("a"),
            key(&["page", ""]),
            key(&["page", "a"]),
            key(&["page", "a"]).variant("b"),
            key(&["page\0\0\0\x01a"]),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(keys.iter().map(Key::digest).collect::<HashSet<_>>().len(), keys.len());
        for variant in &keys[1..7] {
            assert!(variant.is_variant() && !variant.primary().is_variant());
            assert_eq!((variant.primary(), variant.primary_digest()), (&page, page.digest()));
            assert_eq!(variant.clone().primary(), key(&["page"]).variant("a").primary());
        }
        assert_eq!((page.primary(), page.primary_digest()), (&page, page.digest()));
        assert_eq!(page.variant("a"), key(&["page"]).variant(b"a"));
    }

    /// What a key without variant looks like can be read from its beginning; what a variant looks like cannot.
    #[test]
    fn no_part_can_pass_for_a_variant() {
        fn is_a_list(mut rest: &[u8]) -> bool {
            while let Some((length, after)) = rest.split_first_chunk() {
                let Some(after) = after.get(u32::from_be_bytes(*length) as usize..) else { return false };
                rest = after;
            }
            rest.is_empty()
        }
        let page = key(&["page"]);
        let variant = page.variant("a");
        let tail = &variant.canonical()[page.canonical().len()..];
        assert!(is_a_list(page.canonical()) && !is_a_list(variant.canonical()));
        let forged = Key::builder("test").part("page").part(tail).finish();
        assert!(is_a_list(forged.canonical()) && forged != variant);
    }
}
