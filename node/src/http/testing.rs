//! A database in place of the replicated one.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quadraft_protocol::{RecoveryOutcome, RecoveryReport};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::sparql::update::{Evaluated, EvaluationLimits, Write, evaluate_group};
use crate::state::{Apply, LogPosition, RequestId, State};

/// A database of one node without a log.
pub(super) struct FakeDatabase {
    pub(super) state: Arc<State>,
    limits: EvaluationLimits,
    next_index: AtomicU64,
    /// Answers instead of the truth, when set.
    pub(super) write_failure: Mutex<Option<WriteFailure>>,
    pub(super) read_failure: Mutex<Option<ReadFailure>>,
    pub(super) readiness: Mutex<Result<(), String>>,
    pub(super) consistencies: Mutex<Vec<Consistency>>,
    _folder: Option<TempDir>,
}

impl FakeDatabase {
    /// On disk.
    #[cfg(test)]
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let state = State::open(folder.path()).unwrap();
        Self::of(state, EvaluationLimits::default(), Some(folder))
    }

    pub(super) fn of(state: State, limits: EvaluationLimits, folder: Option<TempDir>) -> Self {
        Self {
            state: Arc::new(state),
            limits,
            next_index: AtomicU64::new(1),
            write_failure: Mutex::new(None),
            read_failure: Mutex::new(None),
            readiness: Mutex::new(Ok(())),
            consistencies: Mutex::new(Vec::new()),
            _folder: folder,
        }
    }

    pub(super) fn write_now(&self, id: RequestId, write: Write) -> Result<Committed, WriteFailure> {
        let evaluation = evaluate_group(&self.state, &[(id, write)], self.limits).unwrap();
        match evaluation.answers.into_iter().next().unwrap() {
            Err(error) => Err(WriteFailure::Rejected(error)),
            Ok(Evaluated::Duplicate { log_index }) => Ok(Committed {
                log_index,
                duplicate: true,
                created: false,
            }),
            Ok(Evaluated::Proposed { created, .. }) => {
                let index = self.next_index.fetch_add(1, Ordering::Relaxed);
                let position = LogPosition { term: 1, index };
                let command = Apply::Command(evaluation.command.unwrap());
                self.state.apply(&[(position, command)]).unwrap();
                Ok(Committed {
                    log_index: index,
                    duplicate: false,
                    created,
                })
            }
        }
    }
}

#[async_trait]
impl Database for FakeDatabase {
    async fn write(
        &self,
        id: RequestId,
        write: Write,
        _deadline: Duration,
    ) -> Result<Committed, WriteFailure> {
        if let Some(failure) = self.write_failure.lock().unwrap().clone() {
            return Err(failure);
        }
        self.write_now(id, write)
    }

    async fn read_barrier(
        &self,
        consistency: Consistency,
        _deadline: Duration,
    ) -> Result<ReadPoint, ReadFailure> {
        self.consistencies.lock().unwrap().push(consistency);
        if let Some(failure) = *self.read_failure.lock().unwrap() {
            return Err(failure);
        }
        Ok(ReadPoint {
            age_ms: (consistency == Consistency::Stale).then_some(17),
        })
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    fn readiness(&self) -> Result<(), String> {
        self.readiness.lock().unwrap().clone()
    }

    fn liveness(&self) -> Result<(), String> {
        Ok(())
    }

    fn recovery_report(&self) -> RecoveryReport {
        RecoveryReport::new(RecoveryOutcome::Clean, "nothing was damaged")
    }

    fn status(&self) -> Value {
        json!({"role": "LEADER", "quads": self.state.quads()})
    }
}
