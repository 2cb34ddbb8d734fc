//! What the store still keeps when a new response is made: the origin may confirm it, and it may stand in for an origin
//! that fails (RFC 9111 §4.3, RFC 5861 §4).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE},
    response::Parts,
};

use super::{
    policy::Terms,
    record::Stored,
    rules::{
        date,
        freshness::Plan,
        update::{confirms, updated},
    },
};
use crate::group::Copy;

/// A response that is kept, for a request that it was selected for.
pub(super) struct Previous {
    copy: Copy<Stored>,
    /// Its validators are sent along.
    asked: bool,
}

impl Previous {
    pub(super) fn of(copy: Option<Copy<Stored>>, request: &HeaderMap) -> Option<Self> {
        copy.filter(|copy| copy.value.serves(request)).map(|copy| Self { copy, asked: false })
    }

    /// Asks the origin whether it still holds, unless nobody wants that.
    pub(super) fn ask(&mut self, terms: &Terms, request: &mut HeaderMap) {
        if terms.revalidation().is_zero() {
            return;
        }
        for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            if let Some(line) = only_line(self.stored().headers(), &validator) {
                request.insert(condition, line.clone());
                self.asked = true;
            }
        }
    }

    /// Whether `head` is the answer to what was asked.
    pub(super) fn is_answered_by(&self, head: &Parts) -> bool {
        self.asked && head.status == StatusCode::NOT_MODIFIED
    }

    /// The head of the response that a 304 with this head confirms; `None` if it is about another one.
    pub(super) fn confirmed(&self, head: &Parts, now: SystemTime) -> Option<Parts> {
        let mut whole = head.clone();
        // What was made when is also what came when (RFC 9110 §6.6.1): else it would be as old as what it confirms.
        if !whole.headers.contains_key(DATE) {
            whole.headers.extend(date::format(now).map(|date| (DATE, date)));
        }
        confirms(&head.headers, self.stored().headers(), now).then(|| {
            whole.status = self.stored().status();
            whole.headers = updated(self.stored().headers(), &whole.headers);
            whole
        })
    }

    pub(super) fn stored(&self) -> &Stored {
        &self.copy.value
    }

    /// It is more than what those who waited have missed.
    pub(super) fn serves_others(&self) -> bool {
        !self.copy.for_waiters
    }

    /// Nobody may have it without the origin's word.
    pub(super) fn never_stale(&self) -> bool {
        self.stored().plan().never_stale
    }

    /// It as of now, and how old it is in the store, if it may stand in for an origin that fails. For `pause` it then
    /// serves everybody at once: an origin in trouble is not asked again by every request.
    pub(super) fn on_error(&self, pause: Duration) -> Option<(Stored, Duration)> {
        let resident = self.copy.landed.elapsed();
        let plan = self.stored().plan();
        // What was fresh for nobody may be older than a change.
        (plan.serves_on_error(resident) && !self.copy.for_waiters).then(|| {
            let age = plan.age.saturating_add(resident);
            let left = plan.lifetime.saturating_add(plan.stale_if_error).saturating_sub(age);
            let past = age.saturating_sub(plan.lifetime);
            let plan = Plan { age, stale_while_revalidate: past.saturating_add(left.min(pause)), ..plan.clone() };
            (self.stored().replanned(plan), resident)
        })
    }
}

/// Whether an origin that answers with this status failed (RFC 5861 §4).
pub(super) fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What a 304 holds for the one who asked alone.
pub(super) fn cookies(head: &Parts) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    head.headers.get_all(SET_COOKIE).iter().map(|line| (SET_COOKIE, line.clone()))
}

fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}
