//! Fields that replace `Cache-Control` for caches of one kind, such as `CDN-Cache-Control` (RFC 9213).
//!
//! They look like `Cache-Control` and are not: they are dictionaries of structured fields (RFC 8941), where `max-age="5"`
//! is no number, the last of several members counts, and one mistake voids the whole field.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, Key, ListEntry, Parser, Version};

use super::directive::Argument;

/// A directive of a targeted field.
pub(super) struct Member {
    name: Key,
    value: ListEntry,
}

impl Member {
    pub(super) fn name(&self) -> &[u8] {
        self.name.as_str().as_bytes()
    }

    /// Parameters are ignored (RFC 9213 §2.1).
    pub(super) fn argument(&self) -> Argument<'_> {
        let ListEntry::Item(item) = &self.value else { return Argument::Unknown };
        match &item.bare_item {
            BareItem::Boolean(true) => Argument::Absent,
            BareItem::Integer(integer) => Argument::Integer((*integer).into()),
            BareItem::String(string) => Argument::String(string.as_str()),
            BareItem::Token(token) => Argument::String(token.as_str()),
            _ => Argument::Unknown,
        }
    }
}

/// The members of the field `target`; `None` if it is missing, empty or invalid, which all mean the same (§2.1).
pub(super) fn members(headers: &HeaderMap, target: &HeaderName) -> Option<Vec<Member>> {
    let lines: Vec<_> = headers.get_all(target).iter().map(HeaderValue::as_bytes).collect();
    // One dictionary may be spread over several lines.
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).with_version(Version::Rfc8941).parse().ok()?;
    (!members.is_empty()).then(|| members.into_iter().map(|(name, value)| Member { name, value }).collect())
}
