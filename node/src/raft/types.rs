//! The types that openraft works with here.
//!
//! openraft is a pre-release behind this module (docs/decisions/0002-openraft.md): nothing outside
//! `raft` names its types.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use quadraft_protocol::NodeId;

use crate::identity::StoredVote;
use crate::position::LogPosition;
use crate::state::Outcome;

/// One command as it stands in the log, encoded once by the leader and never again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EncodedCommand(pub(crate) Bytes);

impl fmt::Debug for EncodedCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// What applying an entry gave.
#[derive(Clone, Debug)]
pub(crate) struct Applied(pub(crate) Outcome);

/// Where a member is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberAddresses {
    /// host:port of the peer port.
    pub(crate) peer: String,
    /// host:port of the HTTP port.
    pub(crate) http: String,
}

impl fmt::Display for MemberAddresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.peer)
    }
}

openraft::declare_raft_types!(
    /// Raft as this node speaks it: standard terms with one leader each.
    pub(crate) TypeConfig:
        D = EncodedCommand,
        R = Applied,
        NodeId = u64,
        Node = MemberAddresses,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, MemberAddresses>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

pub(crate) fn to_log_id(position: LogPosition) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

pub(crate) fn to_position(log_id: &LogId) -> LogPosition {
    LogPosition {
        term: **log_id.committed_leader_id(),
        index: log_id.index(),
    }
}

pub(crate) fn to_vote(vote: StoredVote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.candidate.0)
    } else {
        Vote::new(vote.term, vote.candidate.0)
    }
}

pub(crate) fn to_stored_vote(vote: &Vote) -> StoredVote {
    StoredVote {
        term: vote.leader_id.term,
        candidate: NodeId(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}
