//! What the HTTP edge needs from the rest of the node.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quadraft_protocol::RecoveryReport;

use crate::sparql::update::{Write, WriteError};
use crate::state::{RequestId, State};

/// The replicated database as its clients see it.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// Commits and applies a write, here or at the leader.
    async fn write(
        &self,
        id: RequestId,
        write: Write,
        deadline: Duration,
    ) -> Result<Committed, WriteFailure>;

    /// Waits until [`Self::state`] is as fresh as asked for.
    async fn read_barrier(
        &self,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<ReadPoint, ReadFailure>;

    /// The state of this node.
    fn state(&self) -> Arc<State>;

    /// Whether clients should be sent here; otherwise why not.
    fn readiness(&self) -> Result<(), String>;

    /// Whether the process should go on; otherwise why not.
    fn liveness(&self) -> Result<(), String>;

    /// What recovery found and did when the volume was opened.
    fn recovery_report(&self) -> RecoveryReport;

    /// The document at `/status`.
    fn status(&self) -> serde_json::Value;
}

/// A write that is committed and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry that holds it.
    pub log_index: u64,
    /// It had been committed before, by an earlier request with the same key.
    pub duplicate: bool,
    /// The graph that it names did not exist before.
    pub created: bool,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged before the read began.
    #[default]
    Linearizable,
    /// It sees at least this log index.
    Session {
        /// The index the client saw last.
        minimum_index: u64,
    },
    /// Whatever this node has.
    Stale,
}

/// A state that is fresh enough was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPoint {
    /// For stale reads: how long ago this node last knew that it was up to date.
    pub age_ms: Option<u64>,
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailure {
    /// It changes nothing, for a reason in the request.
    #[error(transparent)]
    Rejected(WriteError),
    /// No leader is known. It was not proposed.
    #[error("no leader is known")]
    NoLeader,
    /// Too many writes wait. It was not proposed.
    #[error("too many writes are waiting")]
    Overloaded,
    /// It may or may not be committed, now or later.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// The disk is full. It was not proposed.
    #[error("no writes are taken, because the disk is full: {0}")]
    DiskFull(String),
    /// The node is stopping. It was not proposed.
    #[error("the node is stopping")]
    Stopped,
}

/// Why a read cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// The state did not become fresh enough in time.
    #[error("this node did not catch up in time")]
    TimedOut,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}
