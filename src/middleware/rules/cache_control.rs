//! What the directives of `Cache-Control` say (RFC 9111 §5.2, RFC 5861).
//!
//! What cannot be understood errs on the safe side: what restricts counts, whatever argument it carries; what loosens
//! counts only as the text has it. Where directives contradict each other, the most restrictive one is honoured (§4.2.1).

use std::time::Duration;

use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::{
    directive::{Argument, read},
    targeted,
};

/// What a directive with or without a list of fields covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::middleware) enum Scope {
    #[default]
    Nothing,
    /// These fields, and not the rest of the response.
    Fields(Vec<HeaderName>),
    Everything,
}

impl Scope {
    fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::Everything => &[],
        }
    }

    /// A list that names nothing, or what is no field, covers everything: so do caches that know no lists.
    fn widen(&mut self, argument: &Argument<'_>) {
        *self = match (std::mem::take(self), argument.names()) {
            (Self::Everything, _) | (_, None) => Self::Everything,
            (Self::Nothing, Some(names)) => Self::Fields(names),
            (Self::Fields(mut known), Some(names)) => {
                // In place: whoever writes a field can repeat a directive thousands of times.
                known.extend(names);
                Self::Fields(known)
            }
        };
    }
}

/// What a response says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::middleware) struct ResponseDirectives {
    pub(in crate::middleware) no_store: bool,
    pub(in crate::middleware) no_cache: Scope,
    pub(in crate::middleware) private: Scope,
    pub(in crate::middleware) public: bool,
    /// Zero if it cannot be understood.
    pub(in crate::middleware) max_age: Option<Duration>,
    /// Zero if it cannot be understood.
    pub(in crate::middleware) s_maxage: Option<Duration>,
    pub(in crate::middleware) must_revalidate: bool,
    pub(in crate::middleware) proxy_revalidate: bool,
    pub(in crate::middleware) must_understand: bool,
    pub(in crate::middleware) stale_while_revalidate: Option<Duration>,
    pub(in crate::middleware) stale_if_error: Option<Duration>,
    /// A directive allows to share a response to a request with `Authorization` (§3.5). `s-maxage` and `must-revalidate`
    /// loosen in that and restrict in everything else, so they can be set without this.
    pub(in crate::middleware) authorized: bool,
    /// `Expires` does not count: a targeted field took the place of both.
    pub(in crate::middleware) targeted: bool,
}

impl ResponseDirectives {
    /// Reads `Cache-Control`, or instead of it the first of the fields `targets` that is there and can be read (RFC 9213
    /// §2.2). A cache lists the fields that are meant for caches of its kind, such as `CDN-Cache-Control`.
    pub(in crate::middleware) fn of(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        let mut said = Self::default();
        if let Some(members) = targets.iter().find_map(|target| targeted::members(headers, target)) {
            said.targeted = true;
            members.iter().for_each(|member| said.note(member.name(), &member.argument()));
            return said;
        }
        each(headers, &CACHE_CONTROL, |name, argument| said.note(name, argument));
        said
    }

    /// Nobody may get it stale (§4.2.4).
    pub(in crate::middleware) fn never_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }

    /// The fields that others must not see: `private="x"`, `no-cache="x"`.
    pub(in crate::middleware) fn stripped(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.private, &self.no_cache].into_iter().flat_map(Scope::fields)
    }

    /// Names that are unknown are ignored (§5.2.3).
    fn note(&mut self, name: &[u8], argument: &Argument<'_>) {
        match name {
            // It can lift `no-store` (§5.2.2.3); what only looks like it must not.
            b"must-understand" if *argument == Argument::Absent => self.must_understand = true,
            b"no-store" | b"must-understand" => self.no_store = true,
            b"no-cache" => self.no_cache.widen(argument),
            b"private" => self.private.widen(argument),
            b"max-age" => agree(&mut self.max_age, argument.seconds()),
            b"s-maxage" => agree(&mut self.s_maxage, argument.seconds()),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"stale-while-revalidate" => agree(&mut self.stale_while_revalidate, argument.seconds()),
            b"stale-if-error" => agree(&mut self.stale_if_error, argument.seconds()),
            b"public" => self.public |= *argument == Argument::Absent,
            _ => {}
        }
        self.authorized |= match name {
            b"public" | b"must-revalidate" => *argument == Argument::Absent,
            b"s-maxage" => argument.seconds().is_some(),
            _ => false,
        };
    }
}

/// What a request asks for (§5.2.1). A cache need not honour it, save for `no_store`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::middleware) struct RequestDirectives {
    pub(in crate::middleware) no_store: bool,
    pub(in crate::middleware) no_cache: bool,
    pub(in crate::middleware) max_age: Option<Duration>,
    /// [`Duration::MAX`] without an argument: any staleness will do.
    pub(in crate::middleware) max_stale: Option<Duration>,
    pub(in crate::middleware) min_fresh: Option<Duration>,
    pub(in crate::middleware) only_if_cached: bool,
    pub(in crate::middleware) stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// Reads `Cache-Control`; without any, `Pragma: no-cache` is taken for `no-cache` (§5.4).
    pub(in crate::middleware) fn of(headers: &HeaderMap) -> Self {
        let mut asked = Self::default();
        each(headers, &CACHE_CONTROL, |name, argument| asked.note(name, argument));
        if !headers.contains_key(CACHE_CONTROL) {
            each(headers, &PRAGMA, |name, _| asked.no_cache |= name == b"no-cache");
        }
        asked
    }

    fn note(&mut self, name: &[u8], argument: &Argument<'_>) {
        match name {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"max-age" => agree(&mut self.max_age, argument.seconds()),
            b"max-stale" if *argument == Argument::Absent => agree(&mut self.max_stale, Some(Duration::MAX)),
            b"max-stale" => agree(&mut self.max_stale, argument.seconds()),
            b"min-fresh" => {
                // The longer it must last, the stricter.
                let asked = argument.seconds().unwrap_or(Duration::MAX);
                self.min_fresh = self.min_fresh.max(Some(asked));
            }
            b"only-if-cached" => self.only_if_cached |= *argument == Argument::Absent,
            b"stale-if-error" => agree(&mut self.stale_if_error, argument.seconds()),
            _ => {}
        }
    }
}

/// The directives of all lines of `field`, their names in lower case.
fn each(headers: &HeaderMap, field: &HeaderName, mut take: impl FnMut(&[u8], &Argument<'_>)) {
    for (name, argument) in headers.get_all(field).iter().flat_map(|line| read(line.as_bytes())) {
        take(&name.to_ascii_lowercase(), &argument);
    }
}

/// Takes a number of seconds. One that cannot be read, or that differs from what was said before, is zero: of several
/// values "either the first occurrence should be used or the response should be considered stale" (§4.2.1), and the
/// first is not the safe one when it is the longer.
fn agree(so_far: &mut Option<Duration>, said: Option<Duration>) {
    let said = said.unwrap_or(Duration::ZERO);
    *so_far = Some(if so_far.is_none_or(|so_far| so_far == said) { said } else { Duration::ZERO });
}

#[cfg(test)]
mod tests;
