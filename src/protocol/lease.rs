//! The words that replicas and their store exchange about one key.

use core::{fmt, time::Duration};

/// Orders all flights of one key: a younger flight has the greater fence.
///
/// The store hands it out; it is the store's time in microseconds, or one more than the last fence seen,
/// whichever is greater. It therefore never restarts, and an old flight cannot overwrite what a newer one wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// Below every fence that a store hands out.
    pub const NONE: Self = Self(0);

    /// The next fence after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One caller's try at leading: 128 random bits, new for every attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u128);

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({:032x})", self.0)
    }
}

/// Where one replica hears what becomes of the flights it takes part in: 96 random bits, new for every connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inbox(pub [u8; 12]);

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Why a leader gives its flight up without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The work failed: counted, and those who wait begin again.
    Retry,
    /// Nobody wants the result any more: not counted, and those who wait begin again.
    Abandon,
    /// The outcome cannot be shared: those who wait go by themselves, and so does everybody for this long.
    Scatter(Duration),
}

/// What a store answers to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Renewed {
    /// The lease runs for its whole length again.
    Held,
    /// Somebody else leads, or the flight was invalidated or evicted.
    Lost,
}

/// What a store answers to a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Completed {
    /// The record is stored (or was, if this is a retry).
    Stored,
    /// A newer flight or an invalidation came first; nothing was written.
    Superseded,
}

/// How long a record may be used, and how long it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetimes {
    /// A hit for everybody this long. Zero: only for those who already wait.
    pub fresh: Duration,
    /// Then served stale this long while one caller refreshes it.
    pub stale: Duration,
    /// Kept at least this long, for those who wait and missed the message.
    pub keep: Duration,
}

impl Lifetimes {
    /// How long it may be used, fresh or stale.
    pub fn usable(&self) -> Duration {
        self.fresh.saturating_add(self.stale)
    }

    /// How long the store keeps the record: never zero, never less than it may be used.
    pub fn total(&self) -> Duration {
        self.keep.max(self.usable()).max(Duration::from_millis(1))
    }
}

/// After so many dead leaders in a row a key is [poisoned](super::store::Begun::Poisoned).
pub const DEAD_LEADERS: u32 = 3;

/// After so many failures in a row those who would follow run uncoordinated instead.
pub const FAILURES: u32 = 2;
