//! The seam to openraft: log, state machine and network adapters, and the node on top of them.

mod codec;
mod database;
mod log_storage;
mod membership;
mod network;
mod node;
mod peers;
mod snapshots;
mod state_machine;
mod status;
mod types;
mod writer;

pub use node::{Node, NodeError, NodeOptions};
pub use snapshots::SnapshotError;

pub(crate) use codec::{
    CodecError, addresses, log_id_message, position_message, read_log_id, read_membership, read_vote, vote_message,
};
pub(crate) use membership::MembershipError;
pub(crate) use peers::{EnvelopeError, LocalIdentity};
pub(crate) use snapshots::{SnapshotFile, Snapshots};
pub(crate) use types::{Entry, MemberAddresses, Membership, StoredMembership, TypeConfig};
