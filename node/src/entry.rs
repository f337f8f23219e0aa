//! What the payload of a log entry says.
//!
//! One byte for its kind, and then, for a command, the encoding of the state module, and for a
//! membership, the protocol's `Membership` message. The state keeps memberships as that message, with
//! the log id of their entry.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use quadraft_protocol::{NodeId, v1};

use crate::position::LogPosition;
use crate::state::{Apply, Command, DecodeError};

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A payload that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("an entry's payload is empty")]
    Empty,
    #[error("an entry's payload has the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a blank entry carries {0} bytes")]
    BlankWithContent(usize),
    #[error("a membership does not decode")]
    Membership(#[source] prost::DecodeError),
    #[error("a command does not decode")]
    Command(#[source] DecodeError),
}

/// A payload by its kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// A new leader's first entry.
    Blank,
    /// Effects, still encoded.
    Command(Bytes),
    Membership(v1::Membership),
}

impl Content {
    /// The payload as it stands in the log.
    pub(crate) fn encode(&self) -> Bytes {
        let with_kind = |kind: u8, content: &[u8]| {
            let mut bytes = BytesMut::with_capacity(1 + content.len());
            bytes.put_u8(kind);
            bytes.extend_from_slice(content);
            bytes.freeze()
        };
        match self {
            Self::Blank => Bytes::from_static(&[BLANK]),
            Self::Command(command) => with_kind(COMMAND, command),
            Self::Membership(membership) => with_kind(MEMBERSHIP, &membership.encode_to_vec()),
        }
    }

    /// The inverse of [`Self::encode`].
    ///
    /// # Errors
    /// When no version that is known here has written it.
    pub(crate) fn decode(payload: &Bytes) -> Result<Self, EntryError> {
        let kind = *payload.first().ok_or(EntryError::Empty)?;
        match kind {
            BLANK if payload.len() == 1 => Ok(Self::Blank),
            BLANK => Err(EntryError::BlankWithContent(payload.len() - 1)),
            COMMAND => Ok(Self::Command(payload.slice(1..))),
            MEMBERSHIP => v1::Membership::decode(payload.slice(1..))
                .map(Self::Membership)
                .map_err(EntryError::Membership),
            other => Err(EntryError::UnknownKind(other)),
        }
    }

    /// What the entry at `position` asks of the state.
    ///
    /// # Errors
    /// When it holds a command that does not decode.
    pub(crate) fn into_apply(self, position: LogPosition) -> Result<Apply, EntryError> {
        Ok(match self {
            Self::Blank => Apply::Blank,
            Self::Command(bytes) => {
                Apply::Command(Command::decode(&bytes).map_err(EntryError::Command)?)
            }
            Self::Membership(membership) => Apply::Membership(kept(position, membership)),
        })
    }
}

/// A membership as the state keeps it.
fn kept(position: LogPosition, membership: v1::Membership) -> Vec<u8> {
    let log_id = Some(v1::LogId {
        term: position.term,
        index: position.index,
    });
    v1::Membership {
        log_id,
        ..membership
    }
    .encode_to_vec()
}

/// The membership that an entry holds, if it holds one, as the state keeps it.
pub(crate) fn membership_in_entry(position: LogPosition, payload: &Bytes) -> Option<Vec<u8>> {
    match Content::decode(payload).ok()? {
        Content::Membership(membership) => Some(kept(position, membership)),
        Content::Blank | Content::Command(_) => None,
    }
}

/// The peer addresses of all members but this one, in a membership as the state keeps it.
pub(crate) fn other_members(membership: Option<&[u8]>, own: NodeId) -> BTreeMap<u64, String> {
    let Some(Ok(membership)) = membership.map(v1::Membership::decode) else {
        return BTreeMap::new();
    };
    membership
        .members
        .into_iter()
        .filter(|member| member.node_id != own.0)
        .map(|member| (member.node_id, member.peer_address))
        .collect()
}

/// Whether a membership, as the state keeps it, has `node_id` as its only voter.
pub(crate) fn is_only_voter(membership: &[u8], node_id: NodeId) -> bool {
    v1::Membership::decode(membership).is_ok_and(|membership| {
        let sets = membership.configurations.into_iter();
        let voters: BTreeSet<u64> = sets.flat_map(|set| set.voters).collect();
        voters == BTreeSet::from([node_id.0])
    })
}

/// A membership with these sets of voters.
#[cfg(test)]
pub(crate) fn example_membership(sets: &[&[u64]], members: &[u64]) -> v1::Membership {
    let sets = sets.iter().map(|voters| v1::VoterSet {
        voters: voters.to_vec(),
    });
    let members = members.iter().map(|node_id| v1::Member {
        node_id: *node_id,
        peer_address: format!("host-{node_id}:7879"),
        http_address: format!("host-{node_id}:7878"),
    });
    v1::Membership {
        log_id: None,
        configurations: sets.collect(),
        members: members.collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::example_membership as membership;
    use super::*;

    const AT: LogPosition = LogPosition { term: 3, index: 9 };

    #[test]
    fn every_kind_of_payload_is_read_as_it_was_written() {
        for content in [
            Content::Blank,
            Content::Command(Bytes::from_static(b"anything")),
            Content::Membership(membership(&[&[1, 2, 3], &[1]], &[1, 2, 3, 4])),
        ] {
            assert_eq!(Content::decode(&content.encode()).unwrap(), content);
        }
    }

    #[test]
    fn a_payload_that_is_not_one_is_an_error() {
        for bytes in [&b""[..], b"\0more", b"\x07", b"\x02\xff\xff\xff"] {
            assert!(Content::decode(&Bytes::copy_from_slice(bytes)).is_err());
        }
        let command = Content::Command(Bytes::from_static(b"not one"));
        assert!(command.into_apply(AT).is_err());
    }

    #[test]
    fn a_membership_is_kept_with_the_position_of_its_entry() {
        let content = Content::Membership(membership(&[&[1]], &[1]));
        let payload = content.encode();
        let kept = membership_in_entry(AT, &payload).unwrap();
        let message = v1::Membership::decode(kept.as_slice()).unwrap();
        assert_eq!(message.log_id, Some(v1::LogId { term: 3, index: 9 }));
        assert_eq!(content.into_apply(AT).unwrap(), Apply::Membership(kept));
        assert_eq!(membership_in_entry(AT, &Content::Blank.encode()), None);
    }

    #[test]
    fn the_only_voter_is_one_in_every_set_and_the_other_members_may_be_learners() {
        let own = NodeId(1);
        let with = |sets: &[&[u64]]| membership(sets, &[1, 2]).encode_to_vec();
        assert!(is_only_voter(&with(&[&[1]]), own));
        assert!(is_only_voter(&with(&[&[1], &[1]]), own));
        for sets in [&[][..], &[&[][..]], &[&[2]], &[&[1, 2]], &[&[1], &[1, 2]]] {
            assert!(!is_only_voter(&with(sets), own), "{sets:?}");
        }
        assert!(!is_only_voter(b"\xff", own));
        let others = other_members(Some(&with(&[&[1]])), own);
        assert_eq!(others, BTreeMap::from([(2, "host-2:7879".to_owned())]));
        assert_eq!(other_members(None, own), BTreeMap::new());
    }
}
