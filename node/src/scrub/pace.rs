//! How long to wait after a read.

use std::time::Duration;

/// A share of the disk, in bytes a second, without bursts: time that was not used is not made up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the next read may begin, since the pace was set.
    next: Duration,
}

impl Pace {
    /// `bytes_per_second` must not be zero; a byte a second is the least.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            next: Duration::ZERO,
        }
    }

    /// The time to wait before `bytes` are read, when it is `now`.
    pub(super) fn pause(&mut self, bytes: u64, now: Duration) -> Duration {
        let begin = self.next.max(now);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.next = begin.saturating_add(cost);
        begin - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reads_are_spread_over_the_time_that_their_bytes_take() {
        let mut pace = Pace::new(100);
        assert_eq!(pace.pause(50, Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.pause(100, Duration::ZERO), SECOND / 2);
        // A read that took as long as it may is followed by the next at once.
        assert_eq!(pace.pause(100, SECOND * 3 / 2), Duration::ZERO);
        assert_eq!(pace.pause(1, SECOND * 2), SECOND / 2);
    }

    #[test]
    fn time_that_was_not_used_gives_no_burst() {
        let mut pace = Pace::new(100);
        assert_eq!(pace.pause(100, Duration::ZERO), Duration::ZERO);
        let later = SECOND * 3600;
        assert_eq!(pace.pause(100, later), Duration::ZERO);
        assert_eq!(pace.pause(100, later), SECOND);
    }

    #[test]
    fn no_pace_overflows() {
        let mut pace = Pace::new(0);
        pace.pause(u64::MAX, Duration::ZERO);
        assert!(pace.pause(u64::MAX, Duration::ZERO) > SECOND);
        pace.pause(u64::MAX, Duration::MAX);
    }
}
