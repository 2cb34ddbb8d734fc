//! The one gate: which responses may serve other requests, and how long.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING},
    response::Parts,
};

use super::{
    fields::{digits, names},
    policy::{Policy, Terms},
    rules::{
        cache_control::{ResponseDirectives, Scope},
        freshness::{self, Asker, Landed, Plan, declared_lifetime, initial_age, is_understood},
        update::has_validator,
        vary::Varies,
    },
    share::{Share, SharePolicy},
};

/// What becomes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// For whom waits, and then for as long as it says; `None` for nobody else.
    pub(super) shared: Option<Plan>,
    /// It says nothing about a response that is stored.
    pub(super) passing: bool,
    /// It tells that the work failed.
    pub(super) failed: bool,
    /// It says nothing about the next response: if it is not shared, the next one may be.
    pub(super) once: bool,
}

impl Verdict {
    /// Whether the origin shares with nobody any more what it did before. What speaks of one request does not say that.
    pub(super) fn withdraws(&self) -> bool {
        self.shared.is_none() && !self.once
    }
}

/// Whether the response with this head may serve others than `asker`, asked before its body is read.
pub(super) fn shareable(
    terms: &Terms,
    asker: Asker<'_>,
    head: &Parts,
    landed: Landed,
    policy: &dyn SharePolicy,
) -> Verdict {
    let class = Class::of(head.status);
    let said = ResponseDirectives::of(&head.headers, &terms.targets);
    // What a request with credentials gets is the affair of one, unless the response says otherwise (RFC 9111 §3.5).
    let withheld = asker.credentials && !said.authorized;
    let asked = if withheld || guarded(head.status, &head.headers, &said) { Share::No } else { policy.share(head) };
    let shared = match terms.policy {
        _ if asked == Share::No => None,
        Policy::Origin if asked == Share::Default && !matches!(class, Class::Refusal | Class::Failure) => {
            let terms =
                freshness::Terms { targets: &terms.targets, max_fresh: terms.max_ttl, max_stale: terms.max_stale };
            freshness::plan(asker, head, &terms, landed).ok().filter(|plan| plan.for_waiters)
        }
        _ => vouched(terms, class, asked, head, &said, landed),
    };
    Verdict {
        shared,
        passing: asked == Share::WaitersOnly || class == Class::Refusal,
        failed: class == Class::Failure,
        // What is withheld from one says nothing about what others get: whoever makes up credentials could scatter them all.
        once: withheld || matches!(class, Class::Refusal | Class::Failure) && !is_personal(head.status),
    }
}

/// What a status says about the life of its response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Speaks of the target.
    Usual,
    /// Speaks of what is not there, which may change any moment.
    Negative,
    /// Speaks of this request, or of who sent it: too large a field, too many requests. Shared only when a policy says so.
    Refusal,
    /// Speaks of a server in trouble.
    Failure,
    /// Shared only when a policy says so.
    Unruled,
}

impl Class {
    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200 | 203 | 204 | 300 | 301 | 308 => Self::Usual,
            404 | 405 | 410 | 414 | 501 => Self::Negative,
            400..=499 => Self::Refusal,
            500..=599 => Self::Failure,
            _ => Self::Unruled,
        }
    }
}

/// Whether a response with this status is about one user or one exchange.
pub(super) fn is_personal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 206 | 304 | 401 | 403 | 407)
}

/// What nobody else may see, whatever a policy says. Asked again of what comes out of the store: a replica with other
/// rules, or nobody of ours, may have put it there.
pub(super) fn guarded(status: StatusCode, headers: &HeaderMap, said: &ResponseDirectives) -> bool {
    let minted = headers.contains_key(SET_COOKIE) && !said.stripped().any(|name| *name == SET_COOKIE);
    let told = said.private == Scope::Everything
        || said.no_cache == Scope::Everything
        || said.no_store && !(said.must_understand && is_understood(status));
    let varies = Varies::of(headers) == Varies::OnEverything;
    // A body in a coding that belongs to the connection, whose name does not go into a copy.
    let coded = headers.get_all(TRANSFER_ENCODING).iter().any(|line| !line.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let endless = ["text/event-stream", "multipart/x-mixed-replace"];
    is_personal(status)
        || minted
        || told
        || varies
        || coded
        || endless.iter().any(|media_type| names(headers, CONTENT_TYPE, media_type))
}

/// The life of a response for which the route or a policy vouches.
fn vouched(
    terms: &Terms,
    class: Class,
    asked: Share,
    head: &Parts,
    said: &ResponseDirectives,
    landed: Landed,
) -> Option<Plan> {
    // The time that the work took does not count: it is the route that made the response, and now.
    let age = initial_age(head, Landed { delay: Duration::ZERO, ..landed });
    let declared = declared_lifetime(head, said, landed.now).map(|lifetime| lifetime.saturating_sub(age));
    let usual = terms.status_ttl(head.status).or(match class {
        Class::Usual => Some(terms.result_ttl),
        Class::Negative => Some(terms.negative_ttl()),
        _ => None,
    });
    let fresh = match (class, asked, usual) {
        (_, Share::No, _) => return None,
        (Class::Refusal | Class::Unruled, Share::Default, None) => return None,
        (Class::Refusal | Class::Failure, ..) | (_, Share::WaitersOnly, _) => Duration::ZERO,
        (_, Share::For(fresh), _) => fresh,
        (_, Share::Default, usual) => usual.unwrap_or_default().min(declared.unwrap_or(Duration::MAX)),
    };
    let never_stale = said.never_stale();
    let window = |declared: Option<Duration>, usual: Duration| {
        // What was fresh for nobody is stale for nobody.
        let no = never_stale || fresh.is_zero() || class == Class::Negative;
        if no { Duration::ZERO } else { declared.map_or(usual, |declared| declared.min(terms.max_stale)) }
    };
    Some(Plan {
        for_waiters: true,
        age,
        lifetime: age.saturating_add(fresh),
        stale_while_revalidate: window(said.stale_while_revalidate, terms.warmup_window),
        stale_if_error: window(said.stale_if_error, terms.stale_if_error),
        never_stale,
        validator: !fresh.is_zero() && has_validator(&head.headers),
        stripped: said.stripped().cloned().collect(),
    })
}

/// The length of the body, if the head tells one; an error if it tells several.
pub(super) fn declared_length(head: &Parts) -> Result<Option<u64>, Inconsistent> {
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let length = digits(length.as_bytes());
    if lengths.next().is_some() || length.is_none() { Err(Inconsistent) } else { Ok(length) }
}

/// The head contradicts itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inconsistent;

#[cfg(test)]
mod tests;
