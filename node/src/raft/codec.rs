//! Entries, memberships and votes as bytes, on the wire and on the disk.
//!
//! A payload is one byte for its kind and then, for a command, the encoding of the state module,
//! and for a membership, the protocol's `Membership` message. Both have stored fixtures.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use openraft::EntryPayload;
use prost::Message as _;
use quadraft_protocol::{NodeId, v1};

use super::types::{
    EncodedCommand, Entry, LogId, MemberAddresses, Membership, Payload, StoredMembership, Vote,
    to_log_id, to_position,
};
use crate::position::LogPosition;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("an entry's payload is empty")]
    Empty,
    #[error("an entry's payload has the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a blank entry carries {0} bytes")]
    BlankWithContent(usize),
    #[error("a membership does not decode")]
    Membership(#[source] prost::DecodeError),
    #[error("a membership names voters that are not members: {0}")]
    InvalidMembership(String),
    #[error("{0} is missing in a message")]
    Missing(&'static str),
}

/// The payload of an entry as it stands in the log.
pub(crate) fn encode_payload(payload: &Payload) -> Bytes {
    match payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(EncodedCommand(command)) => {
            let mut bytes = BytesMut::with_capacity(1 + command.len());
            bytes.put_u8(COMMAND);
            bytes.extend_from_slice(command);
            bytes.freeze()
        }
        EntryPayload::Membership(membership) => {
            let mut bytes = BytesMut::new();
            bytes.put_u8(MEMBERSHIP);
            bytes.extend_from_slice(&membership_message(None, membership).encode_to_vec());
            bytes.freeze()
        }
    }
}

/// The inverse of [`encode_payload`].
pub(crate) fn decode_payload(bytes: &Bytes) -> Result<Payload, CodecError> {
    let kind = *bytes.first().ok_or(CodecError::Empty)?;
    match kind {
        BLANK if bytes.len() == 1 => Ok(EntryPayload::Blank),
        BLANK => Err(CodecError::BlankWithContent(bytes.len() - 1)),
        COMMAND => Ok(EntryPayload::Normal(EncodedCommand(bytes.slice(1..)))),
        MEMBERSHIP => {
            let message =
                v1::Membership::decode(bytes.slice(1..)).map_err(CodecError::Membership)?;
            Ok(EntryPayload::Membership(read_membership(&message)?.1))
        }
        other => Err(CodecError::UnknownKind(other)),
    }
}

/// An entry from its position and payload.
pub(crate) fn decode_entry(position: LogPosition, payload: &Bytes) -> Result<Entry, CodecError> {
    Ok(Entry {
        log_id: to_log_id(position),
        payload: decode_payload(payload)?,
    })
}

/// A membership as the state keeps it: with the log id of its entry.
pub(crate) fn encode_stored_membership(membership: &StoredMembership) -> Vec<u8> {
    membership_message(membership.log_id().as_ref(), membership.membership()).encode_to_vec()
}

/// The inverse of [`encode_stored_membership`].
pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    let message = v1::Membership::decode(bytes).map_err(CodecError::Membership)?;
    let (log_id, membership) = read_membership(&message)?;
    Ok(StoredMembership::new(log_id, membership))
}

/// Whether a membership, as the state keeps it, has `node_id` as its only voter.
pub(crate) fn is_only_voter(membership: &[u8], node_id: NodeId) -> bool {
    decode_stored_membership(membership).is_ok_and(|stored| {
        let mut voters = stored.membership().voter_ids().peekable();
        voters.peek().is_some() && voters.all(|voter| voter == node_id.0)
    })
}

/// The membership that an entry holds, if it holds one, as the state keeps it.
pub(crate) fn membership_in_entry(position: LogPosition, payload: &Bytes) -> Option<Vec<u8>> {
    match decode_payload(payload).ok()? {
        EntryPayload::Membership(membership) => Some(encode_stored_membership(
            &StoredMembership::new(Some(to_log_id(position)), membership),
        )),
        _ => None,
    }
}

pub(crate) fn membership_message(
    log_id: Option<&LogId>,
    membership: &Membership,
) -> v1::Membership {
    v1::Membership {
        log_id: log_id.map(log_id_message),
        configurations: membership
            .get_joint_config()
            .iter()
            .map(|voters| v1::VoterSet {
                voters: voters.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(node_id, addresses)| v1::Member {
                node_id: *node_id,
                peer_address: addresses.peer.clone(),
                http_address: addresses.http.clone(),
            })
            .collect(),
    }
}

pub(crate) fn stored_membership_message(membership: &StoredMembership) -> v1::Membership {
    membership_message(membership.log_id().as_ref(), membership.membership())
}

pub(crate) fn read_membership(
    message: &v1::Membership,
) -> Result<(Option<LogId>, Membership), CodecError> {
    let configurations: Vec<BTreeSet<u64>> = message
        .configurations
        .iter()
        .map(|set| set.voters.iter().copied().collect())
        .collect();
    let members: BTreeMap<u64, MemberAddresses> = message
        .members
        .iter()
        .map(|member| (member.node_id, addresses(member)))
        .collect();
    if configurations.is_empty() && members.is_empty() {
        return Ok((
            message.log_id.as_ref().map(read_log_id),
            Membership::default(),
        ));
    }
    let membership = Membership::new(configurations, members)
        .map_err(|error| CodecError::InvalidMembership(error.to_string()))?;
    Ok((message.log_id.as_ref().map(read_log_id), membership))
}

pub(crate) fn addresses(member: &v1::Member) -> MemberAddresses {
    MemberAddresses {
        peer: member.peer_address.clone(),
        http: member.http_address.clone(),
    }
}

pub(crate) fn log_id_message(log_id: &LogId) -> v1::LogId {
    let position = to_position(log_id);
    v1::LogId {
        term: position.term,
        index: position.index,
    }
}

pub(crate) fn position_message(position: LogPosition) -> v1::LogId {
    v1::LogId {
        term: position.term,
        index: position.index,
    }
}

pub(crate) fn read_log_id(message: &v1::LogId) -> LogId {
    to_log_id(LogPosition {
        term: message.term,
        index: message.index,
    })
}

pub(crate) fn vote_message(vote: &Vote) -> v1::Vote {
    v1::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn read_vote(message: Option<&v1::Vote>) -> Result<Vote, CodecError> {
    let message = message.ok_or(CodecError::Missing("the vote"))?;
    Ok(if message.committed {
        Vote::new_committed(message.term, message.node_id)
    } else {
        Vote::new(message.term, message.node_id)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let member = |name: &str| MemberAddresses {
            peer: format!("{name}:7879"),
            http: format!("{name}:7878"),
        };
        Membership::new(
            vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 4])],
            BTreeMap::from([
                (1, member("a")),
                (2, member("b")),
                (3, member("c")),
                (4, member("d")),
                (5, member("e")),
            ]),
        )
        .unwrap()
    }

    #[test]
    fn every_kind_of_payload_is_read_as_it_was_written() {
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(EncodedCommand(Bytes::from_static(b"anything"))),
            EntryPayload::Membership(membership()),
        ] {
            assert_eq!(decode_payload(&encode_payload(&payload)).unwrap(), payload);
        }
        let stored = StoredMembership::new(Some(LogId::new_term_index(3, 9)), membership());
        assert_eq!(
            decode_stored_membership(&encode_stored_membership(&stored)).unwrap(),
            stored
        );
    }

    #[test]
    fn a_payload_that_is_not_one_is_an_error() {
        for bytes in [&b""[..], b"\0more", b"\x07", b"\x02\xff\xff\xff"] {
            assert!(decode_payload(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }

    #[test]
    fn the_stored_form_of_a_membership_does_not_change() {
        // Written by the first version. A change here breaks every log and store that exists.
        let stored = StoredMembership::new(
            Some(LogId::new_term_index(3, 9)),
            Membership::new(
                vec![BTreeSet::from([1])],
                BTreeMap::from([(
                    1,
                    MemberAddresses {
                        peer: "a:1".into(),
                        http: "a:2".into(),
                    },
                )]),
            )
            .unwrap(),
        );
        let hex: String = encode_stored_membership(&stored)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "0a0408031009120a0a0801000000000000001a13090100000000000000\
             1203613a311a03613a32"
        );
    }
}
