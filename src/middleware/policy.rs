//! How long a response may be used, as the operator of the layer sets it.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::{
    SingleflightLayer,
    gate::{Class, is_personal},
    mode::Web,
};

/// What decides how long responses are used: [`SingleflightLayer::policy`](super::SingleflightLayer::policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The route vouches for its responses: they are shared with those who wait, whether they say anything or not, and
    /// kept for the layer's [result TTL](super::SingleflightLayer::result_ttl) or shorter, if they say so.
    #[default]
    Route,
    /// The response alone decides, by the rules for shared caches (RFC 9111): for reverse proxies and clients, where
    /// nobody vouches for what comes. What says nothing is shared with those who wait, and is no hit for anybody: no
    /// lifetime is guessed.
    Origin,
}

/// All that is set about it.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) policy: Policy,
    pub(super) result_ttl: Duration,
    pub(super) warmup_window: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) statuses: Vec<(StatusCode, Duration)>,
    pub(super) max_ttl: Duration,
    pub(super) max_stale: Duration,
    pub(super) revalidation: Option<Duration>,
    pub(super) targets: Vec<HeaderName>,
    pub(super) honors_requests: bool,
}

/// A missing page is not remembered longer than this, nor longer than a tenth of the result TTL, unless it is set.
const NEGATIVE: Duration = Duration::from_secs(5);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a response is worth a question to the origin whether it still holds.
const REVALIDATION: Duration = Duration::from_secs(3600);

impl Default for Terms {
    fn default() -> Self {
        Self {
            policy: Policy::Route,
            result_ttl: Duration::ZERO,
            warmup_window: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            negative_ttl: None,
            statuses: Vec::new(),
            max_ttl: DAY,
            max_stale: DAY,
            revalidation: None,
            targets: Vec::new(),
            honors_requests: false,
        }
    }
}

impl Terms {
    pub(super) fn negative_ttl(&self) -> Duration {
        self.negative_ttl.unwrap_or_else(|| NEGATIVE.min(self.result_ttl / 10))
    }

    /// The TTL that is set for one status.
    pub(super) fn status_ttl(&self, status: StatusCode) -> Option<Duration> {
        self.statuses.iter().find(|(known, _)| *known == status).map(|(_, ttl)| *ttl)
    }

    /// How long past its use a response is kept to be validated, if the origin can be asked.
    pub(super) fn revalidation(&self) -> Duration {
        self.revalidation.unwrap_or(match self.policy {
            Policy::Route => Duration::ZERO,
            Policy::Origin => REVALIDATION,
        })
    }

    /// How long a response may be of use at most, validation aside.
    pub(super) fn longest(&self) -> Duration {
        let stale = self.warmup_window.max(self.stale_if_error);
        match self.policy {
            Policy::Route => self.result_ttl.saturating_add(stale),
            Policy::Origin => self.max_ttl.saturating_add(self.max_stale),
        }
    }
}

/// How long responses are used.
impl<M> SingleflightLayer<M> {
    /// How long a response is a hit for everybody. Zero by default: nothing is kept.
    ///
    /// A response that declares a shorter life (`max-age`, `s-maxage`, `Expires`) has that one. Responses that say that
    /// nothing is there have their own [TTL](Self::negative_ttl). [`Policy::Origin`] does not ask for it.
    pub fn result_ttl(self, ttl: Duration) -> Self {
        self.terms(|terms| terms.result_ttl = ttl)
    }

    /// How long after its TTL a response is served stale while one caller in the fleet refreshes it. Zero by default.
    ///
    /// A response that says `stale-while-revalidate` has that window instead. It counts for nothing where the TTL is zero,
    /// nor for a response that says `must-revalidate`, `proxy-revalidate` or `s-maxage`. [`Policy::Origin`] goes by what
    /// responses say alone.
    pub fn warmup_window(self, window: Duration) -> Self {
        self.terms(|terms| terms.warmup_window = window)
    }

    fn terms(self, set: impl FnOnce(&mut Terms)) -> Self {
        self.set(|settings| set(&mut settings.terms))
    }
}

/// How long responses are used over HTTP.
impl<M: Web> SingleflightLayer<M> {
    /// What decides how long responses are used. By default the [route](Policy::Route).
    pub fn policy(self, policy: Policy) -> Self {
        self.terms(|terms| terms.policy = policy)
    }

    /// How long a 404, 405, 410, 414 or 501 is a hit for everybody. By default a tenth of the
    /// [result TTL](Self::result_ttl), and five seconds at most. [`Policy::Origin`] does not ask for it.
    pub fn negative_ttl(self, ttl: Duration) -> Self {
        self.terms(|terms| terms.negative_ttl = Some(ttl))
    }

    /// How long a response with this status is a hit for everybody, instead of what is usual for it; a status without a
    /// rule of its own, such as 302, is then shared. [`Policy::Origin`] does not ask for it.
    ///
    /// # Panics
    ///
    /// If responses with this status are never kept: those about one user or one exchange (1xx, 206, 304, 401, 403, 407),
    /// those that refuse one request (400, 429, ...), and those of a server in trouble (5xx, save for 501).
    pub fn status_ttl(self, status: StatusCode, ttl: Duration) -> Self {
        let kept = !is_personal(status) && !matches!(Class::of(status), Class::Refusal | Class::Failure);
        assert!(kept, "`status_ttl` of {}: responses with this status are never kept", status.as_u16());
        self.terms(|terms| {
            terms.statuses.retain(|(known, _)| *known != status);
            terms.statuses.push((status, ttl));
        })
    }

    /// How long after its TTL a response stands in for an inner service that fails: with an error, or with 500, 502, 503 or
    /// 504. Zero by default.
    ///
    /// A response that says `stale-if-error` has that window instead; the exceptions are those of
    /// [`warmup_window`](Self::warmup_window). Once it has stood in it serves everybody at once for a
    /// [while](Self::scatter), and one caller in the fleet tries again.
    pub fn stale_if_error(self, window: Duration) -> Self {
        self.terms(|terms| terms.stale_if_error = window)
    }

    /// How long past its use a response with an `ETag` or a `Last-Modified` is kept, so that the next request that leads can
    /// ask whether it still holds: with `If-None-Match` and `If-Modified-Since`, and a 304 of the inner service gives it
    /// another life. By default one hour under [`Policy::Origin`], and zero under [`Policy::Route`], where the inner
    /// service then never sees a condition.
    pub fn revalidation_window(self, window: Duration) -> Self {
        self.terms(|terms| terms.revalidation = Some(window))
    }

    /// No response of an [origin](Policy::Origin) is fresh for longer, whatever it says. One day by default.
    pub fn max_ttl(self, ttl: Duration) -> Self {
        self.terms(|terms| terms.max_ttl = ttl)
    }

    /// No response is used for longer once it is stale, whatever it or a request says. One day by default. The windows
    /// of the layer's own are as long as they are set.
    pub fn max_stale(self, window: Duration) -> Self {
        self.terms(|terms| terms.max_stale = window)
    }

    /// Fields that replace `Cache-Control` for this layer where a response carries them (RFC 9213), the most specific
    /// first. None by default; a cache in a content delivery network names `CDN-Cache-Control`.
    ///
    /// They go on to clients as they came.
    ///
    /// # Panics
    ///
    /// If one of `names` is not the name of a field.
    pub fn targeted_fields<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let name = |name: &str| match HeaderName::try_from(name) {
            Ok(name) => name,
            Err(_) => panic!("`targeted_fields` holds {name:?}, which is not the name of a field"),
        };
        self.terms(|terms| terms.targets = names.into_iter().map(name).collect())
    }

    /// Whether requests decide as well what they get: `Cache-Control` with `no-cache`, `max-age`, `min-fresh` and
    /// `max-stale`, and `Pragma: no-cache` (RFC 9111 §5.2.1). Off by default.
    ///
    /// A request that takes nothing of what is stored goes to the inner service by itself, and what it gets is its own: only
    /// a flight can tell whether the target was changed meanwhile, so nothing else stores.
    ///
    /// Turn it on where the layer stands before a client of one's own. On a server any client could force any number of
    /// executions with it. `no-store` and `only-if-cached` are honoured always.
    pub fn honor_request_directives(self, on: bool) -> Self {
        self.terms(|terms| terms.honors_requests = on)
    }
}
