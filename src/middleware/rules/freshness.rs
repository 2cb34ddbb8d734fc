//! Whether a response may be shared, by RFC 9111 alone, and for how long it is fresh: what a shared cache does that knows
//! nothing of the application. What such a cache would share and a careful one does not, such as `Set-Cookie`, is held
//! back elsewhere; so is what depends on `Vary`.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{AGE, DATE, EXPIRES},
    response,
};

use super::{
    cache_control::{RequestDirectives, ResponseDirectives, Scope},
    directive::delta_seconds,
    update::has_validator,
    validator::date_in,
};

/// Why a response is shared with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::middleware) enum NotShared {
    /// Other methods than GET and HEAD have rules of their own.
    Method,
    /// The status is not final, speaks of a part, or must be understood and is not.
    Status,
    /// The request or the response says `no-store`.
    NoStore,
    /// It must not be reused without validation, not even by those who wait.
    NoCache,
    /// It is meant for one user.
    Private,
    /// The request carries credentials, and the response does not say that others may have it.
    Authorization,
    /// Neither its status nor anything it says makes it cacheable.
    Silent,
}

/// What the operator of the cache sets.
#[derive(Clone, Copy, Debug)]
pub(in crate::middleware) struct Terms<'a> {
    /// Fields that replace `Cache-Control`, the most specific first.
    pub(in crate::middleware) targets: &'a [HeaderName],
    /// Nothing is fresh for longer, whatever it says.
    pub(in crate::middleware) max_fresh: Duration,
    /// Nothing is used for longer than this once it is stale.
    pub(in crate::middleware) max_stale: Duration,
}

/// The request that a response is the answer to, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(in crate::middleware) struct Asker<'a> {
    pub(in crate::middleware) method: &'a Method,
    pub(in crate::middleware) headers: &'a HeaderMap,
    /// It carries credentials, and is answered to one user.
    pub(in crate::middleware) credentials: bool,
}

/// How a response came.
#[derive(Clone, Copy, Debug)]
pub(in crate::middleware) struct Landed {
    /// The wall clock when its head was there.
    pub(in crate::middleware) now: SystemTime,
    /// The time since its request was sent.
    pub(in crate::middleware) delay: Duration,
}

/// What may be done with a response. Its time counts from when it landed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::middleware) struct Plan {
    /// Those who wait may have it. If not, it would have to be validated for each who asks.
    pub(in crate::middleware) for_waiters: bool,
    /// How old it was when it landed. What is sent later carries this and the time since as its `Age`.
    pub(in crate::middleware) age: Duration,
    /// The age beyond which it is stale.
    pub(in crate::middleware) lifetime: Duration,
    /// How long past its lifetime it serves while somebody refreshes it.
    pub(in crate::middleware) stale_while_revalidate: Duration,
    /// How long past its lifetime it serves when the origin fails.
    pub(in crate::middleware) stale_if_error: Duration,
    /// Nobody gets it stale, not even one who asks for that.
    pub(in crate::middleware) never_stale: bool,
    /// The origin can be asked whether it still holds, so that it is worth keeping beyond all of that.
    pub(in crate::middleware) validator: bool,
    /// Fields that others must not see.
    pub(in crate::middleware) stripped: Vec<HeaderName>,
}

impl Plan {
    /// How long it stays fresh.
    pub(in crate::middleware) fn fresh(&self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }

    /// No longer fresh than this, and then of no more use.
    pub(in crate::middleware) fn within(self, ttl: Duration) -> Self {
        let lifetime = self.lifetime.min(self.age.saturating_add(ttl));
        Self { lifetime, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::ZERO, ..self }
    }

    /// How long it serves after that while somebody refreshes it.
    pub(in crate::middleware) fn stale(&self) -> Duration {
        self.after(self.stale_while_revalidate)
    }

    /// How long it serves, once it is fresh no more, when the origin fails.
    pub(in crate::middleware) fn if_error(&self) -> Duration {
        self.after(self.stale_if_error)
    }

    /// What is left of a window behind the lifetime when it lands, counted from the end of its freshness.
    fn after(&self, window: Duration) -> Duration {
        self.lifetime.saturating_add(window).saturating_sub(self.age.max(self.lifetime))
    }

    /// Whether it serves `resident` after it landed if the origin fails.
    pub(in crate::middleware) fn serves_on_error(&self, resident: Duration) -> bool {
        resident < self.fresh().saturating_add(self.if_error())
    }
}

/// Whether the response to `request` may serve others (§3), and how (§4.2).
pub(in crate::middleware) fn plan(
    request: Asker<'_>,
    response: &response::Parts,
    terms: &Terms<'_>,
    landed: Landed,
) -> Result<Plan, NotShared> {
    let said = ResponseDirectives::of(&response.headers, terms.targets);
    if let Some(why) = refusal(request, response, &said) {
        return Err(why);
    }

    let age = initial_age(response, landed);
    let declared = declared_lifetime(response, &said, landed.now);
    let lifetime = declared.unwrap_or_default().min(age.saturating_add(terms.max_fresh));
    let never_stale = said.never_stale();
    let window = |window: Option<Duration>| match window {
        Some(window) if !never_stale => window.min(terms.max_stale),
        _ => Duration::ZERO,
    };
    let stale_while_revalidate = window(said.stale_while_revalidate);
    let past = age.saturating_sub(lifetime);
    Ok(Plan {
        // Without a declared lifetime a cache may choose one (§4.2.2). Here it chooses none, so that nothing lives on a
        // guess: the response serves those who asked before it was there, and is stored only to be validated. A response
        // that declares to be over serves nobody unasked. The cap is not asked: it is about what is kept.
        for_waiters: declared.is_none_or(|declared| declared > age) || past < stale_while_revalidate,
        age,
        lifetime,
        stale_while_revalidate,
        stale_if_error: window(said.stale_if_error),
        never_stale,
        validator: has_validator(&response.headers),
        stripped: said.stripped().cloned().collect(),
    })
}

/// The statuses whose meaning for caches is known, and all of them that are.
pub(in crate::middleware) fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The list of §3, in its order.
fn refusal(request: Asker<'_>, response: &response::Parts, said: &ResponseDirectives) -> Option<NotShared> {
    let status = response.status.as_u16();
    let understood = is_understood(response.status);
    // Once the status is understood, `must-understand` makes of `no-store` a word for other caches (§5.2.2.3).
    let no_store = said.no_store && !said.must_understand;
    let explicit = said.public || said.max_age.is_some() || said.s_maxage.is_some() || expires(response, said);
    let refusals = [
        (NotShared::Method, !matches!(*request.method, Method::GET | Method::HEAD)),
        // Parts are not put together here, and a 304 is an answer to a condition.
        (NotShared::Status, matches!(status, ..200 | 206 | 304) || said.must_understand && !understood),
        (NotShared::NoStore, no_store || RequestDirectives::of(request.headers).no_store),
        (NotShared::Private, said.private == Scope::Everything),
        (NotShared::Authorization, request.credentials && !said.authorized),
        // The statuses that are understood are those that are "heuristically cacheable" (RFC 9110 §15.1).
        (NotShared::Silent, !explicit && !understood),
        // §4 rather than §3: it could be stored, but every use of it would have to wait for the origin.
        (NotShared::NoCache, said.no_cache == Scope::Everything),
    ];
    refusals.into_iter().find_map(|(why, refused)| refused.then_some(why))
}

fn expires(response: &response::Parts, said: &ResponseDirectives) -> bool {
    !said.targeted && response.headers.contains_key(EXPIRES)
}

/// The lifetime that the response declares, by the first that is there (§4.2.1); `None` if it declares none.
pub(in crate::middleware) fn declared_lifetime(
    response: &response::Parts,
    said: &ResponseDirectives,
    now: SystemTime,
) -> Option<Duration> {
    let until = || {
        // "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a time in the
        // past" (§5.3). So are several.
        let end = date_in(&response.headers, &EXPIRES, now)?;
        end.duration_since(made(response, now)).ok()
    };
    let expires = || expires(response, said).then(|| until().unwrap_or_default());
    said.s_maxage.or(said.max_age).or_else(expires)
}

/// When the response was made; without a date that can be read, when it came (RFC 9110 §6.6.1).
fn made(response: &response::Parts, now: SystemTime) -> SystemTime {
    date_in(&response.headers, &DATE, now).unwrap_or(now)
}

/// The corrected initial age (§4.2.3), the more conservative of both.
pub(in crate::middleware) fn initial_age(response: &response::Parts, landed: Landed) -> Duration {
    // A date has whole seconds. Against a finer clock what was made just now would look up to a second old, and a
    // response for one second would be stale on arrival.
    let now = landed.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let apparent = now.duration_since(made(response, now)).unwrap_or_default();
    // "A cache encountering a message with a list-based Age field value SHOULD use the first member of the field value",
    // and ignore what is no number (§5.1).
    let first = response.headers.get(AGE).and_then(|line| line.as_bytes().split(|&byte| byte == b',').next());
    let told = first.and_then(|first| delta_seconds(first.trim_ascii())).unwrap_or_default();
    apparent.max(told.saturating_add(landed.delay))
}

/// How a stored response may serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::middleware) enum Reuse {
    Fresh,
    /// Stale, and somebody is to refresh it meanwhile.
    Stale,
    /// Only if the origin fails to answer.
    IfError,
    /// Only if the origin confirms it.
    Validated,
}

/// How a response may serve a request, `resident` after it landed (§4). A cache that does not honour what requests ask
/// for (§5.2.1) passes none: [`RequestDirectives::default`].
pub(in crate::middleware) fn reusable(plan: &Plan, resident: Duration, asked: &RequestDirectives) -> Reuse {
    let age = plan.age.saturating_add(resident);
    let too_old = asked.max_age.is_some_and(|most| age > most);
    if asked.no_cache || too_old {
        return Reuse::Validated;
    }
    if plan.lifetime > age {
        // "A response that will still be fresh for at least the specified number of seconds."
        let lasts = asked.min_fresh.is_none_or(|least| plan.lifetime >= age.saturating_add(least));
        return if lasts { Reuse::Fresh } else { Reuse::Validated };
    }
    // "Unless the max-stale request directive is also present, the client does not wish to receive a stale response."
    let wants_fresh = asked.min_fresh.is_some() || asked.max_age.is_some() && asked.max_stale.is_none();
    if plan.never_stale || wants_fresh {
        return Reuse::Validated;
    }
    let past = age - plan.lifetime;
    let on_error = plan.stale_if_error.max(asked.stale_if_error.unwrap_or_default());
    match asked.max_stale {
        Some(most) if past > most => Reuse::Validated,
        Some(_) => Reuse::Stale,
        None if past < plan.stale_while_revalidate => Reuse::Stale,
        None if past < on_error => Reuse::IfError,
        None => Reuse::Validated,
    }
}

#[cfg(test)]
mod tests;
