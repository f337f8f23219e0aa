//! What became of a write, a read or a change of membership.

use crate::sparql::update::WriteError;

/// A write that is committed and applied on the node that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub log_index: u64,
    /// The same request had been applied before, at this index.
    pub duplicate: bool,
    /// The graph that it names did not exist before.
    pub created: bool,
}

/// Why a write was not answered as committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailure {
    /// The write itself is at fault; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] WriteError),
    /// Nothing was proposed.
    #[error("there is no leader that can commit at the moment")]
    NoLeader,
    /// Nothing was proposed.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The write may or may not be, or become, committed.
    #[error(
        "the outcome is unknown: send the same request with the same Idempotency-Key again to learn it"
    )]
    OutcomeUnknown,
    /// Nothing was proposed.
    #[error("no writes are taken, because the disk is full: {0}")]
    DiskFull(String),
    #[error("the node is stopping")]
    Stopped,
}

/// The point that a read reflects at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// With `stale`: everything that was acknowledged longer ago than this is in the state, if
    /// that is known at all.
    pub age_ms: Option<u64>,
}

/// Why a read could not be served at its level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    #[error("there is no leader that can confirm the latest state at the moment")]
    NoLeader,
    #[error("this node has not reached the required log index in time")]
    TimedOut,
    #[error("the node is stopping")]
    Stopped,
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipFailure {
    #[error("this node does not lead")]
    NotLeader { leader: Option<u64> },
    #[error("{0}")]
    Precondition(String),
    #[error("the change was not committed in time; its outcome is unknown")]
    TimedOut,
    #[error("the node is stopping")]
    Stopped,
}
