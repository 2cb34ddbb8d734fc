//! Points in time on a named clock, so that two clocks can never be compared by accident.

use core::{fmt, marker::PhantomData, time::Duration};

/// The monotonic clock of one process: every wait is measured on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Local {}

/// The clock of the store: every lifetime and every lease deadline is measured on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {}

/// Microseconds on clock `C` since an origin that only `C` knows.
///
/// An `Instant<Local>` and an `Instant<Store>` are different types: a lifetime told by the store reaches
/// a process only as a [`Duration`] that is left of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant<C>(u64, PhantomData<C>);

impl<C> Instant<C> {
    /// The origin of the clock.
    pub const ZERO: Self = Self::from_micros(0);

    /// A point `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros, PhantomData)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The point `duration` later, or the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The point `duration` earlier, or the origin.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl<C> fmt::Debug for Instant<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}
