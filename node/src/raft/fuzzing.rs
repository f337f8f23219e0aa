//! Fuzzing of what Raft reads from the log and from the store.

#![allow(clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quadraft_protocol::{NodeId, v1};

use super::codec::{
    decode_payload, decode_stored_membership, encode_payload, encode_stored_membership,
};
use super::peers::{LocalIdentity, Peers};
use super::seen::{Marks, SeenFile, SeenMember, SeenTable};
use crate::disk::simulated::SimulatedDisk;
use crate::disk::twin::{COPY_BYTES, file_of_copies};
use crate::disk::{SharedFileSystem, TwinError};
use crate::entry::membership_in_entry;
use crate::position::LogPosition;

/// The payload of an entry, or, with a first byte of 3, a membership as the state keeps it.
///
/// What is read is, written and read again, the same.
pub fn raft_payload(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let position = LogPosition { term: 2, index: 9 };
    let stored = membership_in_entry(position, &bytes);
    if let Ok(payload) = decode_payload(&bytes) {
        let again = decode_payload(&encode_payload(&payload)).expect("what was written is read");
        assert_eq!(again, payload);
        if let Some(stored) = stored {
            decode_stored_membership(&stored).expect("what was written is read");
        }
    }
    if let Some((3, stored)) = data.split_first()
        && let Ok(membership) = decode_stored_membership(stored)
    {
        let again = decode_stored_membership(&encode_stored_membership(&membership));
        assert_eq!(again.expect("what was written is read"), membership);
    }
}

/// What is remembered of the members: a byte that says whether the checksum is made to match, and
/// both copies of the file, which are alike.
///
/// What is read can be added to, written and read again, the same; what is not is forgotten, and
/// another is written in its place.
pub fn peers_file(data: &[u8]) {
    let Some((sealed, copy)) = data.split_first() else {
        return;
    };
    let mut copy = copy[..copy.len().min(COPY_BYTES)].to_vec();
    if sealed & 1 != 0 {
        crate::fuzzing::seal_twin(&mut copy);
    }
    let bytes = file_of_copies([&copy, &copy]);
    let disk = SimulatedDisk::new();
    disk.write(Path::new("/peers"), &bytes)
        .expect("the file is written");
    let file_system: SharedFileSystem = Arc::new(disk);
    let (mut file, mut table) = SeenFile::open(file_system.clone(), Path::new("/"));
    assert_eq!(
        SeenFile::open(file_system.clone(), Path::new("/")).1,
        table,
        "reading changed what is remembered"
    );
    table.raise(1, member(7));
    match file.save(&table) {
        Ok(()) => assert_eq!(SeenFile::open(file_system, Path::new("/")).1, table),
        Err(error) => assert!(matches!(error, TwinError::LastGeneration { .. }), "{error}"),
    }
}

fn member(boot_count: u64) -> SeenMember {
    SeenMember {
        incarnation: uuid::Uuid::from_u128(0x33),
        marks: Marks {
            boot_count,
            vote_term: 3,
            log_end: 12,
        },
    }
}

/// One copy of such a file.
#[cfg(test)]
pub(crate) fn peers_copy() -> Vec<u8> {
    let disk = SimulatedDisk::new();
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let (mut file, mut table) = SeenFile::open(file_system, Path::new("/"));
    for node_id in [0x22, 0x44] {
        table.raise(node_id, member(node_id));
    }
    file.save(&table).expect("it can be written");
    let bytes = disk.read(Path::new("/peers")).expect("it is there");
    bytes[..24 + 2 * 48 + 4].to_vec()
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
