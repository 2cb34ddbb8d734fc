//! How long to wait before trying again, before chance is added.

use core::time::Duration;

/// Grows with the number of attempts that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backoff {
    /// Always the same.
    Fixed(Duration),
    /// One step more each time, up to a limit.
    Linear {
        /// After the first failure, and what is added after each further one.
        step: Duration,
        /// The longest.
        max: Duration,
    },
    /// Twice as long each time, up to a limit.
    Exponential {
        /// After the first failure.
        first: Duration,
        /// The longest.
        max: Duration,
    },
}

impl Backoff {
    /// The delay after so many failures; the first has the number one.
    pub fn after(self, failures: u32) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::Linear { step, max } => step.saturating_mul(failures).min(max),
            Self::Exponential { first, max } => {
                let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
                first.saturating_mul(doubled).min(max)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn first_five(backoff: Backoff) -> [u128; 5] {
        [1, 2, 3, 4, 5].map(|failures| backoff.after(failures).as_millis())
    }

    #[test]
    fn delays_grow_as_they_say_and_stay_below_their_limit() {
        assert_eq!(first_five(Backoff::Fixed(7 * MS)), [7; 5]);
        assert_eq!(first_five(Backoff::Linear { step: 10 * MS, max: 35 * MS }), [10, 20, 30, 35, 35]);
        assert_eq!(first_five(Backoff::Exponential { first: 10 * MS, max: 70 * MS }), [10, 20, 40, 70, 70]);
    }

    #[test]
    fn no_number_of_failures_is_too_great() {
        for backoff in [
            Backoff::Linear { step: Duration::MAX, max: 9 * MS },
            Backoff::Exponential { first: MS, max: 9 * MS },
            Backoff::Exponential { first: Duration::MAX, max: 9 * MS },
        ] {
            for failures in [31, 32, 33, 64, u32::MAX] {
                assert_eq!(backoff.after(failures), 9 * MS, "{backoff:?} after {failures}");
            }
        }
        assert_eq!(Backoff::Exponential { first: MS, max: Duration::MAX }.after(u32::MAX), MS * u32::MAX);
    }
}
