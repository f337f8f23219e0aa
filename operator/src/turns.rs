//! Whose turn it is to be restarted after an upgrade of the operator: a few clusters at a time, with a
//! pause between them, so that what an upgrade breaks is seen at the first.
//!
//! A turn ends when the cluster is as it should be, or when nobody has looked at the cluster for a while:
//! it is gone. Turns are kept in memory. An operator that starts gives none before a pause has passed, so that a
//! cluster which its predecessor was restarting has come to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Every cluster that is not as it should be is looked at more often.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

/// How many clusters at once, and how long nothing is restarted after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub clusters: usize,
    pub pause: Duration,
}

/// The turns of all clusters of an installation.
#[derive(Clone, Debug)]
pub struct Turns {
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Those whose turn it is, by UID.
    holders: BTreeMap<String, Holder>,
    /// When the last turn ended.
    ended: Instant,
}

#[derive(Debug)]
struct Holder {
    name: String,
    /// When it was looked at last.
    seen: Instant,
}

impl Turns {
    /// Nobody's turn, and none for the length of a pause from `now` on.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            state: Arc::new(Mutex::new(State {
                holders: BTreeMap::new(),
                ended: now,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn for a cluster, or keeps the one it has.
    ///
    /// # Errors
    /// Says what the cluster waits for.
    pub fn take(&self, uid: &str, name: &str, now: Instant) -> Result<(), String> {
        self.renew(uid, now);
        let mut state = self.lock();
        if state.holders.contains_key(uid) {
            return Ok(());
        }
        state
            .holders
            .retain(|_, holder| now.duration_since(holder.seen) < FORGOTTEN_AFTER);
        if state.holders.len() >= self.limits.clusters {
            let names: Vec<&str> = state
                .holders
                .values()
                .map(|holder| holder.name.as_str())
                .collect();
            return Err(format!("after {}", names.join(", ")));
        }
        let passed = now.duration_since(state.ended);
        if passed < self.limits.pause {
            let left = self.limits.pause.saturating_sub(passed);
            return Err(format!("in {} s", left.as_secs().saturating_add(1)));
        }
        let name = name.to_owned();
        state
            .holders
            .insert(uid.to_owned(), Holder { name, seen: now });
        Ok(())
    }

    /// Keeps the turn of a cluster, if it has one: its pods come up.
    pub fn renew(&self, uid: &str, now: Instant) {
        if let Some(holder) = self.lock().holders.get_mut(uid) {
            holder.seen = now;
        }
    }

    /// Ends the turn of a cluster, if it has one.
    pub fn end(&self, uid: &str, now: Instant) {
        let mut state = self.lock();
        if state.holders.remove(uid).is_some() {
            state.ended = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    fn turns(clusters: usize, now: Instant) -> Turns {
        let limits = Limits {
            clusters,
            pause: PAUSE,
        };
        Turns::new(limits, now)
    }

    #[test]
    fn one_cluster_follows_another_after_a_pause() {
        let start = Instant::now();
        let turns = turns(1, start);
        assert_eq!(turns.take("a", "prod/a", start), Err("in 61 s".to_owned()));
        let first = start + PAUSE;
        assert_eq!(turns.take("a", "prod/a", first), Ok(()));
        assert_eq!(turns.take("a", "prod/a", first), Ok(()));
        let waits = Err("after prod/a".to_owned());
        assert_eq!(turns.take("b", "prod/b", first + PAUSE), waits);
        // That of one which has none does not end another's.
        turns.end("b", first);
        assert_eq!(turns.take("b", "prod/b", first), waits);
        turns.end("a", first + PAUSE);
        assert!(turns.take("b", "prod/b", first + PAUSE).is_err());
        assert_eq!(turns.take("b", "prod/b", first + PAUSE * 2), Ok(()));
    }

    #[test]
    fn the_turn_of_a_cluster_that_nobody_looks_at_any_more_ends() {
        let start = Instant::now();
        let turns = turns(1, start);
        let begun = start + PAUSE;
        assert_eq!(turns.take("a", "prod/a", begun), Ok(()));
        turns.renew("a", begun + FORGOTTEN_AFTER / 2);
        let waits = Err("after prod/a".to_owned());
        assert_eq!(turns.take("b", "prod/b", begun + FORGOTTEN_AFTER), waits);
        let forgotten = begun + FORGOTTEN_AFTER * 2;
        assert_eq!(turns.take("b", "prod/b", forgotten), Ok(()));
        assert!(turns.take("a", "prod/a", forgotten).is_err());
    }

    #[test]
    fn as_many_clusters_as_are_allowed_have_a_turn_at_once() {
        let start = Instant::now();
        let turns = turns(2, start);
        let later = start + PAUSE;
        assert_eq!(turns.take("a", "prod/a", later), Ok(()));
        assert_eq!(turns.take("b", "prod/b", later), Ok(()));
        let waits = Err("after prod/a, prod/b".to_owned());
        assert_eq!(turns.take("c", "prod/c", later), waits);
    }
}
