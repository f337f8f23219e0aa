//! Fuzzing of what peers send.

#![allow(clippy::expect_used)]

use std::fmt::Debug;

use prost::Message;
use quadraft_protocol::v1;
use quadraft_protocol::v1::install_snapshot_request::Part;

use super::raft::read_append;
use crate::fuzzing::Input;
use crate::raft::fuzzing::envelope;
use crate::raft::{read_log_id, read_membership, read_vote};
use crate::sparql::update::Write;

/// A message: a byte for its kind, and its bytes.
///
/// What is read is, written and read again, the same; what makes no sense is an error.
pub fn peer_message(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let bytes = input.rest();
    match kind % 9 {
        0 => {
            if let Some(request) = read::<v1::AppendEntriesRequest>(bytes) {
                let count = request.entries.len();
                if let Some(sender) = &request.envelope {
                    envelope(sender);
                }
                if let Ok(rpc) = read_append(request) {
                    assert_eq!(rpc.entries.len(), count);
                }
            }
        }
        1 => {
            if let Some(request) = read::<v1::VoteRequest>(bytes) {
                let _vote = read_vote(request.vote.as_ref());
                let _last = request.last_log_id.as_ref().map(read_log_id);
            }
        }
        2 => {
            if let Some(request) = read::<v1::TransferLeaderRequest>(bytes) {
                let _vote = read_vote(request.from_leader.as_ref());
            }
        }
        3 => {
            if let Some(request) = read::<v1::InstallSnapshotRequest>(bytes)
                && let Some(Part::Header(header)) = request.part
            {
                let _vote = read_vote(header.vote.as_ref());
                let _membership = read_membership(&header.membership.unwrap_or_default());
            }
        }
        4 => drop(read::<v1::FetchEntriesRequest>(bytes)),
        5 => {
            if let Some(response) = read::<v1::FetchEntriesResponse>(bytes) {
                for entry in &response.entries {
                    let _state = entry.state();
                }
            }
        }
        6 => {
            if let Some(request) = read::<v1::WriteRequest>(bytes)
                && let Ok(write) = serde_json::from_slice::<Write>(&request.write)
            {
                let written = serde_json::to_vec(&write).expect("a write can be written");
                let again: Write = serde_json::from_slice(&written).expect("and read");
                assert_eq!(again, write);
            }
        }
        7 => drop(read::<v1::AppendEntriesResponse>(bytes)),
        _ => drop(read::<v1::StatusResponse>(bytes)),
    }
}

fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message));
    Some(message)
}
