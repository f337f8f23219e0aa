//! How reconciles get on: how long one has been running, and how often the last ones of an object have
//! failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one reconcile may take. Everything that it waits for has a deadline of its own.
pub const RECONCILE_DEADLINE: Duration = Duration::from_secs(120);
/// One that goes on for so long although it was cut holds a thread.
const HANGS_AFTER: Duration = Duration::from_secs(180);

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The reconciles that run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    running: Arc<Mutex<HashMap<u64, Instant>>>,
}

/// One reconcile; it has ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    progress: Progress,
    number: u64,
}

impl Progress {
    /// Notes the beginning of a reconcile.
    #[must_use]
    pub fn begin(&self) -> Running {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..)
            .find(|number| !running.contains_key(number))
            .unwrap_or(0);
        running.insert(number, Instant::now());
        Running {
            progress: self.clone(),
            number,
        }
    }

    /// How long the longest runs, when that is longer than it can.
    #[must_use]
    pub fn hanging_for(&self) -> Option<Duration> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = running.values().map(Instant::elapsed).max()?;
        (longest > HANGS_AFTER).then_some(longest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self
            .progress
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.number);
    }
}

/// How often the reconciles of each object have failed one after another.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    counts: Arc<Mutex<HashMap<String, u32>>>,
}

impl Failures {
    /// Notes a failure, and gives how long to wait before the next try: twice as long each time, and
    /// anywhere in the second half of it, so that what failed together is not tried together.
    #[must_use]
    pub fn next_wait(&self, uid: &str) -> Duration {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid.to_owned()).or_default();
        let longest = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(*count))
            .min(LONGEST_WAIT);
        *count = count.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self, uid: &str) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(uid).copied().unwrap_or(0)
    }

    /// Notes that a reconcile went well, or that the object is gone.
    pub fn forget(&self, uid: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_less_often_until_it_goes_well() {
        let failures = Failures::default();
        let mut longest = Duration::ZERO;
        for round in 0..20_u32 {
            let wait = failures.next_wait("a");
            let most = FIRST_WAIT
                .saturating_mul(2_u32.pow(round.min(6)))
                .min(LONGEST_WAIT);
            assert!(wait <= most && wait >= most / 2, "{round}: {wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest >= LONGEST_WAIT / 2);
        assert!(failures.next_wait("b") <= FIRST_WAIT);
        failures.forget("a");
        assert!(failures.next_wait("a") <= FIRST_WAIT);
    }

    #[test]
    fn a_reconcile_is_known_from_its_beginning_to_its_end() {
        let progress = Progress::default();
        let one = progress.begin();
        let other = progress.begin();
        assert_ne!(one.number, other.number);
        drop(one);
        assert_eq!(
            progress.running.lock().map(|running| running.len()).ok(),
            Some(1)
        );
        assert_eq!(progress.hanging_for(), None);
    }
}
