//! Who keeps a sealed mount up.
//!
//! Owns: the count of holds. Invariant: once the last one has gone, or nobody came,
//! it is over for good, so that nobody joins a mount that is ending.

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    now: usize,
    /// Somebody has held it.
    held: bool,
    over: bool,
}

impl Holders {
    /// Counts one more, unless it is over.
    pub(super) fn join(&self) -> bool {
        let mut count = self.0.lock();
        if !count.over {
            count.now += 1;
            count.held = true;
        }
        !count.over
    }

    /// Says whether anybody but the caller holds it.
    pub(super) fn others(&self) -> bool {
        self.0.lock().now > 1
    }

    /// Counts one less; `last` is called where that was the last one of a sealed mount.
    /// Says whether it is over.
    pub(super) fn leave(&self, sealed: bool, last: impl FnOnce()) -> bool {
        let mut count = self.0.lock();
        count.now = count.now.saturating_sub(1);
        if count.now == 0 && sealed {
            count.over = true;
            last();
        }
        count.over
    }

    /// Says whether nobody has held it yet; then nobody will.
    pub(super) fn is_abandoned(&self) -> bool {
        let mut count = self.0.lock();
        count.over |= !count.held;
        !count.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_joins_what_is_over() {
        let holders = Holders::default();
        assert!(holders.join() && holders.join());
        assert!(holders.others());
        assert!(!holders.leave(true, || panic!("one is left")));
        let mut ended = false;
        assert!(holders.leave(true, || ended = true));
        assert!(ended && !holders.join() && !holders.is_abandoned());
    }

    #[test]
    fn a_mount_that_nobody_came_for_is_over() {
        let holders = Holders::default();
        assert!(holders.is_abandoned() && !holders.join());
    }

    #[test]
    fn a_mount_of_the_host_stays_when_the_last_one_leaves() {
        let holders = Holders::default();
        assert!(holders.join());
        assert!(!holders.leave(false, || panic!("it is not sealed")));
        assert!(holders.join());
    }
}
