use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    cache_status::CacheStatus,
    collect::Extent,
    grpc::unary::Unary,
    identity::Identity,
    invalidate::Also,
    key::{KeyExtractor, Target},
    mode::Http,
    overload::{MAX_RECORDED, Overload, Recorded},
    overrides::Overrides,
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
///
/// `M` is what it is for, and need not be named: [`Http`], which is meant where nothing is said, or
/// [`Bodies`](super::Bodies) for reads that are told apart by their content.
#[derive(Clone)]
#[must_use]
pub struct SingleflightLayer<M = Http> {
    pub(super) settings: Arc<Settings>,
    mode: M,
}

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
    pub(super) overrides: Overrides,
    pub(super) identity: Identity,
    pub(super) invalidates: bool,
    pub(super) also: Option<Arc<Also>>,
    pub(super) conditions: bool,
    pub(super) ranges: bool,
    pub(super) share_errors: bool,
    pub(super) cache_status: Option<CacheStatus>,
    /// Responses are those of calls of gRPC.
    pub(super) unary: Option<Unary>,
}

impl SingleflightLayer {
    /// Coalesces only: a response goes to those who asked while its request was in the air, and is not kept.
    ///
    /// The backend is a handle such as [`Memory`](crate::backend::Memory); replicas that share a store share flights.
    pub fn new(backend: impl Backend) -> Self {
        Self::with(backend, Http::default())
    }
}

impl<M> SingleflightLayer<M> {
    pub(super) fn with(backend: impl Backend, mode: M) -> Self {
        let variants = backend.locals().get();
        let recorded = Arc::clone(&backend.locals().get::<Recorded>().0);
        let settings = Settings {
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
            overrides: Overrides::default(),
            identity: Identity::new(),
            invalidates: true,
            also: None,
            conditions: true,
            ranges: true,
            share_errors: true,
            cache_status: None,
            unary: None,
        };
        Self { settings: Arc::new(settings), mode }
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

    /// For how long the requests of one key go by themselves after a response that cannot be shared. Ten seconds by
    /// default, give or take a tenth.
    pub fn scatter(self, pause: Duration) -> Self {
        self.set(|settings| settings.scatter = pause)
    }

    /// Which responses are shared, and how long. By default as the [module](super) says.
    pub fn share(self, policy: impl SharePolicy) -> Self {
        self.set(|settings| settings.share = Arc::new(policy))
    }

    /// What says who asks, and so keeps a request from sharing responses with others.
    pub fn identity(self, identity: Identity) -> Self {
        self.set(|settings| settings.identity = identity)
    }

    /// Reports in the `Cache-Status` field of every response (RFC 9211) but a [refusal](Self::overload), under this
    /// name. Off by default.
    ///
    /// # Panics
    ///
    /// If `name` is empty, or holds anything but visible ASCII and spaces.
    pub fn cache_status(self, name: &str) -> Self {
        let name = CacheStatus::new(name);
        assert!(name.is_some(), "`cache_status` must be a name of visible ASCII and spaces");
        self.set(|settings| settings.cache_status = name)
    }

    #[cfg(test)]
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    pub(super) fn into_mode<N>(self, mode: N) -> SingleflightLayer<N> {
        SingleflightLayer { settings: self.settings, mode }
    }

    pub(super) fn mode_mut(&mut self) -> &mut M {
        &mut self.mode
    }

    /// Settings are shared with services that were made already: those keep theirs.
    pub(super) fn set(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Settings {
    /// How much of a response is recorded.
    pub(super) fn extent(&self) -> Extent {
        match self.unary {
            Some(_) => Extent::Message(self.max_body),
            None => Extent::Bytes(self.max_body),
        }
    }

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

impl<S, M: Clone> Layer<S> for SingleflightLayer<M> {
    type Service = Singleflight<S, M>;

    fn layer(&self, inner: S) -> Singleflight<S, M> {
        Singleflight::new(inner, Arc::clone(&self.settings), self.mode.clone())
    }
}

impl<M> fmt::Debug for SingleflightLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
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
        assert_eq!(one.settings.terms.result_ttl, Duration::ZERO);
        assert_eq!(other.settings.terms.result_ttl, Duration::from_secs(5));
        assert!(Arc::ptr_eq(&one.settings.engine, &other.settings.engine));
    }
}
