//! In debug builds, the order of a node's positions is checked after each step of its storage.

use std::sync::Arc;

use crate::log::LogStore;
use crate::position::LogPosition;
use crate::recovery::{OrderError, Positions, check_running, log_explains_store};
use crate::snapshots::SnapshotKeeper;

/// Watches the order in which log, vote, store and snapshot stand.
#[derive(Clone, Debug)]
pub(crate) struct OrderWatch {
    log: LogStore,
    keeper: Arc<SnapshotKeeper>,
    /// What had been applied at the start is committed, whether the log says so or not: its note of
    /// what is committed may be behind.
    applied_at_start: Option<LogPosition>,
}

impl OrderWatch {
    pub(crate) fn new(log: LogStore, keeper: Arc<SnapshotKeeper>) -> Self {
        Self {
            applied_at_start: keeper.state().applied(),
            log,
            keeper,
        }
    }

    /// Positions move while they are read: what must be lower is read first.
    fn positions(&self) -> Positions {
        let purged = self.log.state().purged;
        let applied = self.keeper.state().applied();
        let snapshot = self.keeper.position();
        let log = self.log.state();
        Positions {
            purged,
            applied,
            snapshot,
            committed: log.committed.max(self.applied_at_start),
            last: log.last,
            vote_term: self.log.vote().map(|vote| vote.term),
        }
    }

    fn check(&self) -> Result<(), OrderError> {
        let positions = self.positions();
        check_running(&positions)?;
        log_explains_store(&Positions {
            last: self.log.durable_last(),
            ..positions
        })
    }

    /// Checks the order after a step.
    ///
    /// # Panics
    /// In debug builds, when an inequality is violated: nothing may follow such a step.
    pub(crate) fn after(&self, step: &'static str) {
        if cfg!(debug_assertions) {
            let checked = self.check();
            assert!(
                checked.is_ok(),
                "after {step}, the order of positions is violated: {checked:?} in {:?}",
                self.positions()
            );
        }
    }
}
