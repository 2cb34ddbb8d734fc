use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    cache_status::CacheStatus,
    handle::Handle,
    identity::Identity,
    key::{KeyExtractor, Target},
    overload::{MAX_RECORDED, Overload, Recorded},
    policy::Terms,
    record::{Binary, Stored},
    rules::freshness::Plan,
    service::Singleflight,
    share::{Share, SharePolicy, share_fn},
    variants::Variants,
};
use crate::{
    backend::Backend,
    group::{Engine, Options, Tally},
    key::Key,
};

/// Applies [`Singleflight`] to services.
///
/// Clones share everything. Layers over clones of one backend handle also share their flights: requests with the same key
/// share a response wherever they came in, so routes with the same target need different [keys](Self::key).
#[derive(Clone)]
#[must_use]
pub struct SingleflightLayer(Arc<Settings>);

/// A variant is not counted for longer, however long its responses are kept.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the layer and all its services know.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) engine: Arc<Engine<Stored>>,
    pub(super) variants: Arc<Variants>,
    pub(super) options: Options,
    pub(super) terms: Terms,
    pub(super) max_body: u64,
    /// Bytes that are being recorded, of all layers over the handle.
    pub(super) recorded: Arc<Tally>,
    pub(super) max_recorded: usize,
    pub(super) overload: Overload,
    pub(super) body_idle_timeout: Duration,
    pub(super) stream_followers: bool,
    pub(super) scatter: Duration,
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) share: Arc<dyn SharePolicy>,
    pub(super) identity: Identity,
    pub(super) invalidates: bool,
    pub(super) conditions: bool,
    pub(super) ranges: bool,
    pub(super) share_errors: bool,
    pub(super) cache_status: Option<CacheStatus>,
}

impl SingleflightLayer {
    /// Coalesces only: a response goes to those who asked while its request was in the air, and is not kept.
    ///
    /// The backend is a handle such as [`Memory`](crate::backend::Memory); replicas that share a store share flights.
    pub fn new(backend: impl Backend) -> Self {
        let variants = backend.locals().get();
        let recorded = Arc::clone(&backend.locals().get::<Recorded>().0);
        Self(Arc::new(Settings {
            engine: Arc::new(Engine::new(Arc::new(backend), Arc::new(Binary))),
            variants,
            options: Options::default(),
            terms: Terms::default(),
            max_body: 1 << 20,
            recorded,
            max_recorded: MAX_RECORDED,
            overload: Overload::default(),
            body_idle_timeout: Duration::from_secs(5),
            stream_followers: false,
            scatter: Duration::from_secs(10),
            key: Arc::new(Target),
            share: Arc::new(share_fn(|_| Share::Default)),
            identity: Identity::new(),
            invalidates: true,
            conditions: true,
            ranges: true,
            share_errors: true,
            cache_status: None,
        }))
    }

    /// After how long without a sign of life a leader is replaced. Five seconds by default.
    ///
    /// A leader that lives renews its lease, however long the inner service takes.
    ///
    /// # Panics
    ///
    /// If `ttl` is shorter than 10 ms.
    pub fn lock_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.options.set_lock_ttl(ttl))
    }

    /// How long a request waits for the response of another before it calls the inner service itself. Ten seconds by
    /// default.
    ///
    /// A response whose body takes longer than this, once its head is there, is not shared: nobody waits for it any more.
    ///
    /// # Panics
    ///
    /// If `timeout` is zero.
    pub fn wait_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.options.set_wait_timeout(timeout))
    }

    /// How many bytes the body of a shared response may have. 1 MiB by default.
    ///
    /// A longer body, declared or not, goes to the client that led as it comes, and to nobody else.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    pub fn max_body(self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_body` must be more than zero");
        self.set(|settings| settings.max_body = bytes as u64)
    }

    /// How long the next piece of the body of a shared response may take. Five seconds by default.
    ///
    /// A body that pauses for longer goes to the client that led as it comes, and to nobody else: those who wait for it are
    /// released.
    ///
    /// # Panics
    ///
    /// If `timeout` is zero.
    pub fn body_idle_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`body_idle_timeout` must be more than zero");
        self.set(|settings| settings.body_idle_timeout = timeout)
    }

    /// Whether requests on the same replica follow a response while its body still comes, instead of waiting until it is
    /// complete. Off by default.
    ///
    /// They get it from its beginning, each at its own pace, and so do those who come while it runs. The price: who follows
    /// shares the fate of the response. If its body breaks off, turns out longer than [`max_body`](Self::max_body), pauses
    /// for longer than [`body_idle_timeout`](Self::body_idle_timeout), or takes longer than
    /// [`wait_timeout`](Self::wait_timeout) altogether, then the bodies of those who follow end in an error, where those who
    /// wait would be released to ask for themselves. A server error is not followed: it may be the first of two.
    ///
    /// The setting of the layer whose request leads counts.
    pub fn stream_followers(self, on: bool) -> Self {
        self.set(|settings| settings.stream_followers = on)
    }

    /// For how long the requests of one key go by themselves after a response that cannot be shared. Ten seconds by
    /// default, give or take a tenth.
    pub fn scatter(self, pause: Duration) -> Self {
        self.set(|settings| settings.scatter = pause)
    }

    /// Which requests are the same. By default those with equal [`RequestKey`](super::RequestKey)s.
    pub fn key(self, extractor: impl KeyExtractor) -> Self {
        self.set(|settings| settings.key = Arc::new(extractor))
    }

    /// Which responses are shared, and how long. By default as the [module](super) says.
    pub fn share(self, policy: impl SharePolicy) -> Self {
        self.set(|settings| settings.share = Arc::new(policy))
    }

    /// What says who asks, and so keeps a request from sharing responses with others.
    pub fn identity(self, identity: Identity) -> Self {
        self.set(|settings| settings.identity = identity)
    }

    /// Whether a request that may change its target (`POST`, `PUT`, `PATCH`, `DELETE`, and methods that nobody knows)
    /// invalidates it once it has succeeded. On by default.
    ///
    /// Before the response goes out, what is stored of the target is forgotten, fleet-wide and with all its variants, and
    /// a read that is still in the air neither stores nor serves those who come later. So is what the response names in
    /// `Location` and `Content-Location`, if it has the same authority. It takes one round of exchanges with the store, and
    /// no longer than its budget: what a store that is away keeps, lives on until its TTL.
    ///
    /// A request that ends in an error of the inner service, or whose client leaves, may have changed its target all the
    /// same, and counts.
    ///
    /// What is forgotten is what reads with the fields of this request get. An [extractor](Self::key) that adds fields to
    /// the key makes other keys of requests with other fields: forget those with the [handle](Self::handle).
    pub fn invalidate_on_change(self, on: bool) -> Self {
        self.set(|settings| settings.invalidates = on)
    }

    /// Whether `If-None-Match` and `If-Modified-Since` are answered on the way out. On by default; off, a request with one of
    /// them goes to the inner service by itself.
    pub fn answer_conditions(self, on: bool) -> Self {
        self.set(|settings| settings.conditions = on)
    }

    /// Whether a `Range` is cut out of what is stored. On by default; off, a request with one goes to the inner service by
    /// itself.
    pub fn answer_ranges(self, on: bool) -> Self {
        self.set(|settings| settings.ranges = on)
    }

    /// Whether the second 5xx in a row is given to all who wait. On by default; off, each of them calls the inner service
    /// himself, one at a time per replica.
    pub fn share_errors(self, on: bool) -> Self {
        self.set(|settings| settings.share_errors = on)
    }

    /// Reports in the `Cache-Status` field of every response (RFC 9211) but a [refusal](Self::overload), under this name. Off by
    /// default.
    ///
    /// # Panics
    ///
    /// If `name` is empty, or holds anything but visible ASCII and spaces.
    pub fn cache_status(self, name: &str) -> Self {
        let name = CacheStatus::new(name);
        assert!(name.is_some(), "`cache_status` must be a name of visible ASCII and spaces");
        self.set(|settings| settings.cache_status = name)
    }

    /// Invalidates what this layer has stored, for the application.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.0))
    }

    #[cfg(test)]
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0)
    }

    /// Settings are shared with services that were made already: those keep theirs.
    pub(super) fn set(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }
}

impl Settings {
    /// How long a variant counts before its response is there.
    pub(super) fn variant_life(&self) -> Duration {
        self.terms.longest().max(self.options.keep()).min(LONGEST)
    }

    /// Takes note of what selected the response that was found under `key`, and of how long it is kept.
    pub(super) fn learn(&self, base: &Key, key: &Key, stored: &Stored) {
        let Some(selection) = stored.selection() else { return };
        let life = self.kept(stored.plan()).max(self.options.keep()).min(LONGEST);
        self.variants.learn(base, key, selection, Instant::now() + life);
    }

    /// How long a response by this plan is kept, one way or the other.
    pub(super) fn kept(&self, plan: &Plan) -> Duration {
        let revalidation = if plan.validator { self.terms.revalidation() } else { Duration::ZERO };
        let used = plan.fresh().saturating_add(plan.stale());
        used.saturating_add(plan.if_error().saturating_sub(plan.stale()).max(revalidation))
    }
}

impl<S> Layer<S> for SingleflightLayer {
    type Service = Singleflight<S>;

    fn layer(&self, inner: S) -> Singleflight<S> {
        Singleflight::new(inner, Arc::clone(&self.0))
    }
}

impl fmt::Debug for SingleflightLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleflightLayer")
            .field("terms", &self.terms)
            .field("lock_ttl", &self.options.lock_ttl)
            .field("wait_timeout", &self.options.wait_timeout)
            .field("max_body", &self.max_body)
            .field("overload", &self.overload)
            .field("body_idle_timeout", &self.body_idle_timeout)
            .field("stream_followers", &self.stream_followers)
            .field("scatter", &self.scatter)
            .field("cache_status", &self.cache_status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;

    fn layer() -> SingleflightLayer {
        SingleflightLayer::new(Memory::new())
    }

    #[test]
    #[should_panic = "`lock_ttl`"]
    fn no_lock_ttl() {
        let _ = layer().lock_ttl(Duration::ZERO);
    }

    #[test]
    #[should_panic = "`wait_timeout`"]
    fn no_wait_timeout() {
        let _ = layer().wait_timeout(Duration::ZERO);
    }

    #[test]
    #[should_panic = "`max_body`"]
    fn no_body() {
        let _ = layer().max_body(0);
    }

    #[test]
    #[should_panic = "`body_idle_timeout`"]
    fn no_idle_timeout() {
        let _ = layer().body_idle_timeout(Duration::ZERO);
    }

    #[test]
    #[should_panic = "`cache_status`"]
    fn no_name() {
        let _ = layer().cache_status("");
    }

    #[test]
    fn a_clone_that_is_set_leaves_the_others_alone() {
        let one = layer();
        let other = one.clone().result_ttl(Duration::from_secs(5));
        assert_eq!(one.0.terms.result_ttl, Duration::ZERO);
        assert_eq!(other.0.terms.result_ttl, Duration::from_secs(5));
        assert!(Arc::ptr_eq(&one.0.engine, &other.0.engine));
    }
}
