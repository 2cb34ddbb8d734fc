use std::{fmt, sync::Arc, time::Duration};

use crate::protocol::backoff::Backoff;

/// How long to wait before another attempt, after one that failed because of its nodes.
///
/// It does not slow down who waits for a holder: that one is woken by the release.
///
/// ```
/// use std::time::Duration;
/// use tower_singleflight::mutex::Retry;
///
/// let steady = Retry::fixed(Duration::from_millis(200)).jittered(0.5);
/// let five = Retry::custom(|failures| (failures < 5).then_some(Duration::from_millis(100)));
/// # let _ = (steady, five);
/// ```
#[derive(Clone)]
pub struct Retry {
    delay: Delay,
    jitter: f64,
}

#[derive(Clone)]
enum Delay {
    Backoff(Backoff),
    Custom(Arc<dyn Fn(u32) -> Option<Duration> + Send + Sync>),
}

impl Retry {
    /// Always the same delay.
    pub fn fixed(delay: Duration) -> Self {
        Self::of(Backoff::Fixed(delay))
    }

    /// One `step` more after every failure in a row, up to `max`.
    pub fn linear(step: Duration, max: Duration) -> Self {
        Self::of(Backoff::Linear { step, max })
    }

    /// `first`, and then twice as long after every further failure in a row, up to `max`.
    pub fn exponential(first: Duration, max: Duration) -> Self {
        Self::of(Backoff::Exponential { first, max })
    }

    /// What `delay` says for the number of failures in a row, which begins at one. `None` gives up.
    pub fn custom(delay: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { delay: Delay::Custom(Arc::new(delay)), jitter: 0.0 }
    }

    /// Takes a random share off each delay, of at most `share` of it, so that contenders do not come back in step.
    ///
    /// # Panics
    ///
    /// If `share` is not between 0 and 1.
    #[must_use]
    pub fn jittered(self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "jittered is {share}: set a share between 0 and 1");
        Self { jitter: share, ..self }
    }

    fn of(backoff: Backoff) -> Self {
        Self { delay: Delay::Backoff(backoff), jitter: 0.0 }
    }

    /// The delay after so many failures in a row; `None` to give up.
    #[expect(clippy::disallowed_methods, reason = "jitter is chance")]
    pub(super) fn after(&self, failures: u32) -> Option<Duration> {
        let delay = match &self.delay {
            Delay::Backoff(backoff) => backoff.after(failures),
            Delay::Custom(delay) => delay(failures)?,
        };
        let off = rand::random_range(0.0..=self.jitter);
        // A delay without an end has no share that could be told from it.
        Some(delay.saturating_sub(Duration::try_from_secs_f64(delay.as_secs_f64() * off).unwrap_or(delay)))
    }
}

/// From 50 ms up to a second, of which up to a half is taken off.
impl Default for Retry {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(1)).jittered(0.5)
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Retry");
        match &self.delay {
            Delay::Backoff(backoff) => debug.field("delay", backoff),
            Delay::Custom(_) => debug.field("delay", &"custom"),
        };
        debug.field("jitter", &self.jitter).finish()
    }
}
