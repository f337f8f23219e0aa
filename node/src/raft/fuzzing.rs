//! Fuzzing of what Raft reads from the log and from the store.

#![allow(clippy::expect_used)]

use bytes::Bytes;
use quadraft_protocol::{NodeId, v1};

use super::codec::{
    decode_payload, decode_stored_membership, encode_payload, encode_stored_membership,
    membership_in_entry,
};
use super::peers::{LocalIdentity, Peers};
use super::seen::SeenTable;
use crate::position::LogPosition;

/// The payload of an entry, or, with a first byte of 3, a membership as the state keeps it.
///
/// What is read is, written and read again, the same.
pub fn raft_payload(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(payload) = decode_payload(&bytes) {
        let again = decode_payload(&encode_payload(&payload)).expect("what was written is read");
        assert_eq!(again, payload);
    }
    let position = LogPosition { term: 2, index: 9 };
    if let Some(stored) = membership_in_entry(position, &bytes) {
        decode_stored_membership(&stored).expect("what was written is read");
    }
    if let Some((3, stored)) = data.split_first()
        && let Ok(membership) = decode_stored_membership(stored)
    {
        let again = decode_stored_membership(&encode_stored_membership(&membership));
        assert_eq!(again.expect("what was written is read"), membership);
    }
}

/// What a peer says of itself and of this node. Whoever was believed once is believed again.
pub(crate) fn envelope(envelope: &v1::Envelope) {
    let identity = LocalIdentity {
        cluster_uuid: uuid::Uuid::from_u128(0x11),
        node_id: NodeId(0x22),
        incarnation: uuid::Uuid::from_u128(0x33),
        boot_count: 4,
    };
    let peers = Peers::new(identity, SeenTable::default());
    if peers.check(Some(envelope)).is_ok() {
        assert_eq!(peers.check(Some(envelope)), Ok(()));
    }
}
