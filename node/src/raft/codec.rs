//! Between openraft's types and the protocol's: what stands in the log, in the store and on the wire.
//! All of it has stored fixtures.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use prost::Message as _;
use quadraft_protocol::v1;

use super::types::{
    EncodedCommand, Entry, LogId, MemberAddresses, Membership, Payload, StoredMembership, Vote,
    to_log_id, to_position,
};
use crate::entry::{Content, EntryError};
use crate::position::LogPosition;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("a membership does not decode")]
    Membership(#[source] prost::DecodeError),
    #[error("a membership names voters that are not members: {0}")]
    InvalidMembership(String),
    #[error("{0} is missing in a message")]
    Missing(&'static str),
}

/// The payload of an entry as it stands in the log.
pub(crate) fn encode_payload(payload: &Payload) -> Bytes {
    to_content(payload).encode()
}

/// The same before it is encoded.
pub(crate) fn to_content(payload: &Payload) -> Content {
    match payload {
        EntryPayload::Blank => Content::Blank,
        EntryPayload::Normal(EncodedCommand(command)) => Content::Command(command.clone()),
        EntryPayload::Membership(membership) => {
            Content::Membership(membership_message(None, membership))
        }
    }
}

/// The inverse of [`encode_payload`].
pub(crate) fn decode_payload(bytes: &Bytes) -> Result<Payload, CodecError> {
    Ok(match Content::decode(bytes)? {
        Content::Blank => EntryPayload::Blank,
        Content::Command(command) => EntryPayload::Normal(EncodedCommand(command)),
        Content::Membership(message) => EntryPayload::Membership(read_membership(&message)?.1),
    })
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
    fn what_an_entry_asks_of_the_state_is_the_same_by_both_ways() {
        let position = LogPosition { term: 3, index: 9 };
        let payload = encode_payload(&EntryPayload::Membership(membership()));
        let stored = StoredMembership::new(Some(to_log_id(position)), membership());
        assert_eq!(
            crate::entry::membership_in_entry(position, &payload),
            Some(encode_stored_membership(&stored))
        );
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
