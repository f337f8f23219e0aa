//! Watches over running evaluations: stops those whose time or memory is over, and ends the process
//! when one does not stop and takes more and more memory.
//!
//! That happens when the store is damaged. An iterator of Oxigraph that has failed yields its error
//! again and again and never ends, and an operator which collects its input collects these errors:
//! about a gigabyte a second, and no function of ours is called on the way. Nothing inside the
//! process can end such a thread. So the process ends, with a reason, before the kernel kills it
//! without one; the next start rebuilds the store.

use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::guard::{Stop, Switch};
use super::memory;

/// How often time and memory are looked at. A failed scan takes some ten megabytes in between.
const LOOK: Duration = Duration::from_millis(10);
/// How long a stopped evaluation may take to notice before Oxigraph's own token is cancelled.
const GRACE: Duration = Duration::from_millis(200);
/// How much the process may grow while an evaluation does not notice that it is to stop, if the
/// evaluation was not allowed less.
const RUNAWAY_BYTES: u64 = 256 << 20;
/// How long an evaluation may take to notice. A sort of millions of rows looks at nothing.
const RUNAWAY_TIME: Duration = Duration::from_secs(120);
/// The shares of the memory that the process may have from which evaluations are stopped, and from
/// which one that does not notice is not waited for, in percent.
const STOP_PERCENT: u64 = 75;
const RUNAWAY_PERCENT: u64 = 90;
/// What an evaluation may use in any case.
const LEAST_GROWTH_BYTES: u64 = 64 << 20;

/// What one evaluation may use.
#[derive(Clone, Copy, Debug)]
pub(in crate::sparql) struct Allowance {
    pub(in crate::sparql) deadline: Option<Instant>,
    /// How much the process may grow while this evaluation runs.
    pub(in crate::sparql) maximum_growth_bytes: u64,
}

/// One evaluation under watch.
struct Watched {
    number: u64,
    switch: Switch,
    deadline: Option<Instant>,
    /// How much the process may grow while it runs.
    maximum_growth_bytes: u64,
    /// It is stopped when the process has more than this, which is known from the first look on.
    bound_bytes: Option<u64>,
    /// It runs away when the process grows by more than this after it was stopped.
    runaway_bytes: u64,
    /// When it was seen to have been asked to stop, and how much memory the process had then.
    stopped: Option<(Instant, u64)>,
    is_cancelled: bool,
}

/// What is to be done about an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Continue,
    Stop(Stop),
    Cancel,
    /// The process must end.
    RunAway(String),
}

impl Watched {
    /// Decides from the time, the memory that the process has, and what it may have at most.
    fn judge(&mut self, now: Instant, resident_bytes: u64, limit_bytes: Option<u64>) -> Verdict {
        let bound_bytes = *self
            .bound_bytes
            .get_or_insert_with(|| bound(resident_bytes, self.maximum_growth_bytes, limit_bytes));
        if self.switch.reason().is_none() {
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Verdict::Stop(Stop::TimedOut);
            }
            if resident_bytes > bound_bytes {
                return Verdict::Stop(Stop::OutOfMemory);
            }
            return Verdict::Continue;
        }
        let (since, before_bytes) = *self.stopped.get_or_insert((now, resident_bytes));
        let waited = now.saturating_duration_since(since);
        if !self.switch.is_noticed() {
            let grown_bytes = resident_bytes.saturating_sub(before_bytes);
            let is_near_the_limit = grown_bytes > 0
                && limit_bytes.is_some_and(|limit| resident_bytes > limit / 100 * RUNAWAY_PERCENT);
            if grown_bytes > self.runaway_bytes || is_near_the_limit {
                return Verdict::RunAway(format!(
                    "an evaluation that was stopped goes on, and the process has grown by {} MiB to {} MiB since",
                    grown_bytes >> 20,
                    resident_bytes >> 20
                ));
            }
            if waited > RUNAWAY_TIME {
                return Verdict::RunAway(format!(
                    "an evaluation goes on {} s after it was stopped",
                    waited.as_secs()
                ));
            }
        }
        if waited >= GRACE && !self.is_cancelled {
            self.is_cancelled = true;
            return Verdict::Cancel;
        }
        Verdict::Continue
    }
}

#[derive(Default)]
struct Evaluations {
    watched: Vec<Watched>,
    last_number: u64,
}

/// The evaluations that run in this process, and the thread that watches them.
#[derive(Default)]
struct Watchdog {
    evaluations: Mutex<Evaluations>,
    has_work: Condvar,
}

static WATCHDOG: LazyLock<Option<Arc<Watchdog>>> = LazyLock::new(|| {
    let watchdog = Arc::new(Watchdog::default());
    let watching = watchdog.clone();
    let started = thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watching.run());
    match started {
        Ok(_) => Some(watchdog),
        Err(error) => {
            tracing::error!(%error, "evaluations are not watched over");
            None
        }
    }
});

type RunawayHook = Box<dyn Fn(&str) + Send + Sync>;

static ON_RUNAWAY: OnceLock<RunawayHook> = OnceLock::new();

/// Has this called with the reason when the process must end; the first caller counts. Without it
/// such an evaluation goes on.
pub(crate) fn on_runaway(hook: impl Fn(&str) + Send + Sync + 'static) {
    let _is_set = ON_RUNAWAY.set(Box::new(hook));
}

/// An evaluation is watched for as long as this lives.
#[derive(Debug)]
pub(in crate::sparql) struct Watch {
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watchdog) = &*WATCHDOG {
            let mut evaluations = watchdog.lock();
            evaluations
                .watched
                .retain(|watched| watched.number != self.number);
        }
    }
}

/// Starts to watch an evaluation. What an earlier one used is no growth: allocators keep what was
/// freed for later. The growth is counted from the watchdog's first look on, so that evaluations
/// that are over before it, as most are, do not have to ask the system.
pub(in crate::sparql) fn watch(switch: &Switch, allowance: Allowance) -> Watch {
    let Some(watchdog) = &*WATCHDOG else {
        return Watch { number: 0 };
    };
    let mut evaluations = watchdog.lock();
    evaluations.last_number += 1;
    let number = evaluations.last_number;
    evaluations.watched.push(Watched {
        number,
        switch: switch.clone(),
        deadline: allowance.deadline,
        maximum_growth_bytes: allowance.maximum_growth_bytes,
        bound_bytes: None,
        runaway_bytes: RUNAWAY_BYTES.min(allowance.maximum_growth_bytes),
        stopped: None,
        is_cancelled: false,
    });
    if evaluations.watched.len() == 1 {
        watchdog.has_work.notify_one();
    }
    Watch { number }
}

/// How much the process may have while an evaluation runs.
fn bound(resident: u64, maximum_growth: u64, limit: Option<u64>) -> u64 {
    let own = resident.saturating_add(maximum_growth);
    let shared = limit.map_or(u64::MAX, |limit| {
        (limit / 100 * STOP_PERCENT).max(resident.saturating_add(LEAST_GROWTH_BYTES))
    });
    // Who sets no bound at all wants none.
    if maximum_growth == u64::MAX {
        u64::MAX
    } else {
        own.min(shared)
    }
}

impl Watchdog {
    fn lock(&self) -> MutexGuard<'_, Evaluations> {
        self.evaluations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let limit_bytes = memory::limit_bytes();
        let mut evaluations = self.lock();
        loop {
            if evaluations.watched.is_empty() {
                evaluations = self
                    .has_work
                    .wait(evaluations)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let resident_bytes = memory::resident_bytes().unwrap_or(0);
            for watched in &mut evaluations.watched {
                match watched.judge(now, resident_bytes, limit_bytes) {
                    Verdict::Continue => {}
                    Verdict::Stop(reason) => watched.switch.stop(reason),
                    Verdict::Cancel => watched.switch.cancel(),
                    Verdict::RunAway(reason) => {
                        if let Some(hook) = ON_RUNAWAY.get() {
                            hook(&reason);
                        }
                    }
                }
            }
            // Whoever comes and goes in between needs the list.
            drop(evaluations);
            thread::sleep(LOOK);
            evaluations = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn watched(deadline: Option<Instant>, bound_bytes: u64) -> Watched {
        Watched {
            number: 1,
            switch: Switch::default(),
            deadline,
            maximum_growth_bytes: u64::MAX,
            bound_bytes: Some(bound_bytes),
            runaway_bytes: RUNAWAY_BYTES,
            stopped: None,
            is_cancelled: false,
        }
    }

    #[test]
    fn time_and_memory_stop_an_evaluation() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut timed = watched(Some(now + second), u64::MAX);
        assert_eq!(timed.judge(now, 0, None), Verdict::Continue);
        assert_eq!(
            timed.judge(now + second, 0, None),
            Verdict::Stop(Stop::TimedOut)
        );
        let mut large = watched(None, MIB);
        assert_eq!(large.judge(now, MIB, None), Verdict::Continue);
        assert_eq!(
            large.judge(now, MIB + 1, None),
            Verdict::Stop(Stop::OutOfMemory)
        );
    }

    #[test]
    fn growth_is_counted_from_the_first_look_on() {
        let now = Instant::now();
        let mut growing = watched(None, 0);
        growing.maximum_growth_bytes = 200 * MIB;
        growing.bound_bytes = None;
        assert_eq!(growing.judge(now, 900 * MIB, None), Verdict::Continue);
        assert_eq!(growing.judge(now, 1100 * MIB, None), Verdict::Continue);
        assert_eq!(
            growing.judge(now, 1101 * MIB, None),
            Verdict::Stop(Stop::OutOfMemory)
        );
    }

    #[test]
    fn the_token_is_cancelled_once_after_a_grace() {
        let now = Instant::now();
        let mut stopped = watched(None, u64::MAX);
        stopped.switch.stop(Stop::Disconnected);
        assert_eq!(stopped.judge(now, 0, None), Verdict::Continue);
        assert_eq!(stopped.judge(now + GRACE, 0, None), Verdict::Cancel);
        assert_eq!(stopped.judge(now + GRACE, 0, None), Verdict::Continue);
    }

    #[test]
    fn only_who_does_not_notice_runs_away() {
        let now = Instant::now();
        let grown = RUNAWAY_BYTES + 1;
        let runs_away = |watched: &mut Watched, now, bytes, limit| {
            matches!(watched.judge(now, bytes, limit), Verdict::RunAway(_))
        };
        let mut deaf = watched(None, u64::MAX);
        deaf.switch.stop(Stop::OutOfMemory);
        assert!(!runs_away(&mut deaf, now, 0, None));
        assert!(!runs_away(&mut deaf, now, RUNAWAY_BYTES, None));
        assert!(runs_away(&mut deaf, now, grown, None));
        assert!(runs_away(&mut deaf, now, 95 * MIB, Some(100 * MIB)));
        assert!(!runs_away(&mut deaf, now, 89 * MIB, Some(100 * MIB)));
        assert!(runs_away(&mut deaf, now + RUNAWAY_TIME * 2, 0, None));
        let _ = deaf.switch.notice();
        assert!(!runs_away(&mut deaf, now, grown, None));
        assert!(!runs_away(&mut deaf, now + RUNAWAY_TIME * 2, 0, None));
    }

    #[test]
    fn the_memory_of_the_machine_or_the_container_bounds_all_evaluations_together() {
        assert_eq!(bound(100 * MIB, 1024 * MIB, None), 1124 * MIB);
        assert_eq!(
            bound(100 * MIB, 1024 * MIB, Some(1000 * MIB)),
            1000 * MIB / 100 * 75
        );
        // A process that fills its container all the same answers small queries.
        assert_eq!(bound(900 * MIB, 1024 * MIB, Some(1000 * MIB)), 964 * MIB);
        assert_eq!(bound(1, u64::MAX, Some(1)), u64::MAX);
    }
}
