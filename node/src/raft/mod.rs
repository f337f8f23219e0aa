//! The seam to openraft: log, state machine and network adapters, and the node on top of them.

mod codec;
mod compare;
mod contact;
mod damaged_store;
mod failure;
mod forward;
mod freshness;
mod log_storage;
mod membership;
mod network;
mod node;
mod order_watch;
mod peers;
mod reads;
mod remedy;
mod repair;
mod retirement;
mod seen;
mod set_back;
mod space;
mod state_machine;
mod status;
mod types;
mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod simulation;

pub use compare::start_comparing;
pub use failure::{Committed, MembershipFailure, ReadFailure, ReadPoint, WriteFailure};
pub use node::{Node, NodeError, NodeOptions, PreparedNode, StopReason};
pub use reads::Consistency;
pub use repair::{PeerEntry, RepairSource};
pub use retirement::{Retired, Retirement};
pub use seen::SetBack;
pub use space::{Room, SpaceLimits, SpaceStatus};

pub(crate) use codec::{
    CodecError, addresses, decode_entry, encode_stored_membership, log_id_message,
    position_message, read_log_id, read_membership, read_vote,
    stored_membership_message as membership_message_of, vote_message,
};
pub(crate) use membership::Step as MembershipStep;
pub(crate) use network::SNAPSHOT_CHUNK_BYTES;
pub(crate) use node::ShowsScrub;
pub(crate) use peers::EnvelopeError;
pub(crate) use types::{MemberAddresses, Membership, StoredMembership, TypeConfig, to_log_id};
