use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How much of something is in use.
///
/// It has no limit of its own: those who share it may have different ones, and each is held against its own.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicUsize);

impl Tally {
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Nothing yet, to grow.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        Held { tally: Arc::clone(self), amount: 0 }
    }

    /// One more; `None` if that were more than `limit`, of all that is in use.
    pub(crate) fn take(self: &Arc<Self>, limit: usize) -> Option<Held> {
        let mut held = self.hold();
        held.grow(1, limit).then_some(held)
    }
}

/// A part of what is in use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    tally: Arc<Tally>,
    amount: usize,
}

impl Held {
    /// Holds this much more. If all that is in use were more than `limit` then, nothing changes and it is `false`.
    pub(crate) fn grow(&mut self, more: usize, limit: usize) -> bool {
        let sum = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        // Relaxed: the count is all there is to see, and changes to one atomic have one order.
        let grown = self.tally.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if grown {
            self.amount += more;
        }
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tally.0.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    /// Fails if what is dropped is not given back, or not all of it.
    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let tally = Arc::new(Tally::default());
        let mut grows = tally.hold();
        assert!(grows.grow(3, 10) && grows.grow(4, 10));
        let one = tally.take(10).unwrap();
        assert_eq!(tally.used(), 8);
        drop(grows);
        assert_eq!(tally.used(), 1);
        drop(one);
        assert_eq!(tally.used(), 0);
    }

    /// Fails if a refusal leaves a trace, or the limit itself is not to be reached.
    #[test]
    fn what_is_refused_does_not_count() {
        let tally = Arc::new(Tally::default());
        let mut grows = tally.hold();
        assert!(grows.grow(3, 4));
        assert!(!grows.grow(2, 4) && !grows.grow(usize::MAX, usize::MAX));
        assert!(grows.grow(1, 4));
        assert!(tally.take(4).is_none());
        assert!(tally.take(5).is_some(), "each has a limit of its own");
        assert_eq!(tally.used(), 4);
        drop(grows);
        assert_eq!(tally.used(), 0);
    }

    /// Fails if the limit is looked at apart from the change: some round sees it where there is a second core.
    #[test]
    fn threads_together_hold_no_more_than_the_limit() {
        for _ in 0..50 {
            let (tally, all) = (Arc::new(Tally::default()), Barrier::new(4));
            let take = || {
                all.wait();
                (0..20_000).filter_map(|_| tally.take(50_000)).collect::<Vec<_>>()
            };
            let held = thread::scope(|scope| [(); 4].map(|()| scope.spawn(take)).map(|taken| taken.join().unwrap()));
            assert_eq!((held.iter().map(Vec::len).sum(), tally.used()), (50_000, 50_000));
            drop(held);
            assert_eq!(tally.used(), 0);
        }
    }
}
