//! Which responses an application wants to be shared.

use std::{fmt, time::Duration};

use http::response::Parts;

/// What a [`SharePolicy`] says of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Share {
    /// What the layer would do without a policy.
    #[default]
    Default,
    /// Share it with those who wait, and keep it this long, instead of the result TTL and of what the response says.
    For(Duration),
    /// Share it with those who wait, and keep nothing.
    WaitersOnly,
    /// Share it with nobody.
    No,
}

/// Decides about responses: [`SingleflightLayer::share`](super::SingleflightLayer::share).
///
/// A policy restricts, sets lifetimes, and admits statuses that have no rule of their own, such as 302. It is not asked
/// about responses that the guards hold back: a response with `Set-Cookie` is shared with nobody, whatever the policy.
/// See [`share_fn`] for closures.
pub trait SharePolicy: Send + Sync + 'static {
    /// What to do with a response.
    fn share(&self, head: &Parts) -> Share;
}

/// A [`SharePolicy`] from a closure.
///
/// ```
/// use std::time::Duration;
///
/// use http::StatusCode;
/// use tower_singleflight::{Share, share_fn};
///
/// let only_success = share_fn(|head| match head.status {
///     StatusCode::OK => Share::For(Duration::from_secs(5)),
///     _ => Share::No,
/// });
/// # let _: &dyn tower_singleflight::SharePolicy = &only_success;
/// ```
pub fn share_fn<F>(share: F) -> ShareFn<F>
where
    F: Fn(&Parts) -> Share + Send + Sync + 'static,
{
    ShareFn(share)
}

/// The policy that [`share_fn`] makes.
#[derive(Clone, Copy)]
pub struct ShareFn<F>(F);

impl<F> SharePolicy for ShareFn<F>
where
    F: Fn(&Parts) -> Share + Send + Sync + 'static,
{
    fn share(&self, head: &Parts) -> Share {
        (self.0)(head)
    }
}

impl<F> fmt::Debug for ShareFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareFn").finish_non_exhaustive()
    }
}
