//! What this node knows of its peers, and what it tells them of what it has seen of them.
//!
//! A volume that was rolled back in time (a restored disk snapshot) comes back with promises
//! forgotten. Each node remembers the highest values seen of every peer's incarnation and sends
//! them along; a node that finds itself below what others have seen refuses to take part.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use quadraft_protocol::{NodeId, v1};
use uuid::Uuid;

use crate::log::LogStore;

/// Who this node is, for the envelope of every call.
#[derive(Clone, Debug)]
pub(crate) struct LocalIdentity {
    pub(crate) cluster_uuid: Uuid,
    pub(crate) node_id: NodeId,
    pub(crate) incarnation: Uuid,
    pub(crate) boot_count: u64,
}

/// Where this node stands, to be compared with what a peer has seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalMarks {
    pub(crate) vote_term: u64,
    pub(crate) last_index: Option<u64>,
}

impl LocalMarks {
    /// Those of a log and its vote.
    pub(crate) fn of(log: &LogStore) -> Self {
        Self {
            vote_term: log.vote().map_or(0, |vote| vote.term),
            last_index: log.state().last.map(|last| last.index),
        }
    }
}

/// Why a peer's call is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    #[error("the call has no envelope")]
    Missing,
    #[error("the call is from cluster {theirs}, this node belongs to {ours}")]
    OtherCluster { theirs: String, ours: Uuid },
    #[error("the call is meant for node {meant}, this is {ours}")]
    OtherNode { meant: NodeId, ours: NodeId },
    #[error("node {sender} is known as incarnation {known}, the call is from {theirs}")]
    OtherIncarnation {
        sender: NodeId,
        known: String,
        theirs: String,
    },
    #[error(
        "node {sender} was seen with boot count {seen}, the call has {theirs}: its volume was rolled back"
    )]
    SenderRolledBack {
        sender: NodeId,
        seen: u64,
        theirs: u64,
    },
    #[error(
        "a peer has seen this node at {what} {seen}, but it stands at {ours}: this volume was rolled back in time"
    )]
    RolledBack {
        what: &'static str,
        seen: u64,
        ours: u64,
    },
}

#[derive(Clone, Debug, Default)]
struct Seen {
    incarnation: String,
    boot_count: u64,
    vote_term: u64,
    acknowledged_index: u64,
    /// As it said last.
    disk_is_short: Option<bool>,
}

/// The highest values seen of every peer.
#[derive(Debug)]
pub(crate) struct Peers {
    identity: LocalIdentity,
    seen: Mutex<HashMap<u64, Seen>>,
    disk_is_short: AtomicBool,
}

impl Peers {
    pub(crate) fn new(identity: LocalIdentity) -> Self {
        Self {
            identity,
            seen: Mutex::default(),
            disk_is_short: AtomicBool::new(false),
        }
    }

    pub(crate) fn identity(&self) -> &LocalIdentity {
        &self.identity
    }

    /// Notes whether this node is short of space, for every answer to come.
    pub(crate) fn set_disk_is_short(&self, short: bool) {
        self.disk_is_short.store(short, Ordering::Relaxed);
    }

    /// Whether a peer is short of space, by its own last word.
    pub(crate) fn disk_is_short(&self, peer: u64) -> Option<bool> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&peer)?.disk_is_short
    }

    /// The envelope of a call to `receiver`.
    pub(crate) fn envelope(&self, receiver: u64) -> v1::Envelope {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        v1::Envelope {
            cluster_uuid: self.identity.cluster_uuid.to_string(),
            sender_node_id: self.identity.node_id.0,
            sender_incarnation: self.identity.incarnation.to_string(),
            sender_boot_count: self.identity.boot_count,
            receiver_node_id: receiver,
            seen_of_receiver: seen.get(&receiver).map(|seen| v1::SeenOf {
                incarnation: seen.incarnation.clone(),
                boot_count: seen.boot_count,
                vote_term: seen.vote_term,
                acknowledged_index: seen.acknowledged_index,
            }),
        }
    }

    /// Who answers, for every answer.
    pub(crate) fn responder(&self) -> v1::Responder {
        v1::Responder {
            node_id: self.identity.node_id.0,
            incarnation: self.identity.incarnation.to_string(),
            boot_count: self.identity.boot_count,
            disk_is_short: self.disk_is_short.load(Ordering::Relaxed),
        }
    }

    /// Checks a call's envelope, and remembers what it says of its sender.
    pub(crate) fn check(
        &self,
        envelope: Option<&v1::Envelope>,
        marks: LocalMarks,
    ) -> Result<(), EnvelopeError> {
        let envelope = envelope.ok_or(EnvelopeError::Missing)?;
        let ours = &self.identity;
        if envelope.cluster_uuid != ours.cluster_uuid.to_string() {
            return Err(EnvelopeError::OtherCluster {
                theirs: envelope.cluster_uuid.clone(),
                ours: ours.cluster_uuid,
            });
        }
        if envelope.receiver_node_id != ours.node_id.0 {
            return Err(EnvelopeError::OtherNode {
                meant: NodeId(envelope.receiver_node_id),
                ours: ours.node_id,
            });
        }
        if let Some(seen) = &envelope.seen_of_receiver
            && seen.incarnation == ours.incarnation.to_string()
        {
            check_marks(seen, ours.boot_count, marks)?;
        }
        self.remember_incarnation(
            envelope.sender_node_id,
            &envelope.sender_incarnation,
            envelope.sender_boot_count,
        )
    }

    /// Takes in who answered a call.
    pub(crate) fn note_responder(
        &self,
        expected: u64,
        responder: Option<&v1::Responder>,
    ) -> Result<(), EnvelopeError> {
        let responder = responder.ok_or(EnvelopeError::Missing)?;
        if responder.node_id != expected {
            return Err(EnvelopeError::OtherNode {
                meant: NodeId(expected),
                ours: NodeId(responder.node_id),
            });
        }
        self.remember_incarnation(
            responder.node_id,
            &responder.incarnation,
            responder.boot_count,
        )?;
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(expected).or_default().disk_is_short = Some(responder.disk_is_short);
        Ok(())
    }

    fn remember_incarnation(
        &self,
        node_id: u64,
        incarnation: &str,
        boot_count: u64,
    ) -> Result<(), EnvelopeError> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(node_id).or_default();
        if !seen.incarnation.is_empty() && seen.incarnation != incarnation {
            return Err(EnvelopeError::OtherIncarnation {
                sender: NodeId(node_id),
                known: seen.incarnation.clone(),
                theirs: incarnation.to_owned(),
            });
        }
        if boot_count < seen.boot_count {
            return Err(EnvelopeError::SenderRolledBack {
                sender: NodeId(node_id),
                seen: seen.boot_count,
                theirs: boot_count,
            });
        }
        incarnation.clone_into(&mut seen.incarnation);
        seen.boot_count = boot_count;
        Ok(())
    }

    /// Remembers that `node_id` cast a vote in `term`.
    pub(crate) fn note_vote(&self, node_id: u64, term: u64) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(node_id).or_default();
        seen.vote_term = seen.vote_term.max(term);
    }

    /// Remembers that `node_id` acknowledged the log up to `index`, or, when its log was cut back
    /// by a new leader, that it matches only so far.
    pub(crate) fn note_acknowledged(&self, node_id: u64, index: u64) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(node_id).or_default();
        seen.acknowledged_index = seen.acknowledged_index.max(index);
    }
}

/// An acknowledged entry can be voided by a later leader, so the log may be shorter than it was;
/// votes and boots never go back. The index is told only for what is committed.
fn check_marks(seen: &v1::SeenOf, boot_count: u64, marks: LocalMarks) -> Result<(), EnvelopeError> {
    let rolled_back = |what, seen, ours| Err(EnvelopeError::RolledBack { what, seen, ours });
    if seen.boot_count > boot_count {
        return rolled_back("boot count", seen.boot_count, boot_count);
    }
    if seen.vote_term > marks.vote_term {
        return rolled_back("vote term", seen.vote_term, marks.vote_term);
    }
    let last = marks.last_index.map_or(0, |index| index + 1);
    if seen.acknowledged_index > last {
        return rolled_back(
            "log index",
            seen.acknowledged_index - 1,
            last.saturating_sub(1),
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peers(node_id: u64, cluster_uuid: Uuid, boot_count: u64) -> Peers {
        Peers::new(LocalIdentity {
            cluster_uuid,
            node_id: NodeId(node_id),
            incarnation: Uuid::from_u128(u128::from(node_id)),
            boot_count,
        })
    }

    const MARKS: LocalMarks = LocalMarks {
        vote_term: 3,
        last_index: Some(10),
    };

    #[test]
    fn a_peer_of_the_same_cluster_is_heard() {
        let cluster = Uuid::new_v4();
        let (one, two) = (peers(1, cluster, 1), peers(2, cluster, 1));
        two.check(Some(&one.envelope(2)), MARKS).unwrap();
        one.note_responder(2, Some(&two.responder())).unwrap();
    }

    #[test]
    fn a_stranger_is_refused_with_both_values() {
        let two = peers(2, Uuid::new_v4(), 1);
        let stranger = peers(1, Uuid::new_v4(), 1);
        assert!(matches!(
            two.check(Some(&stranger.envelope(2)), MARKS),
            Err(EnvelopeError::OtherCluster { .. })
        ));
        assert!(matches!(
            two.check(None, MARKS),
            Err(EnvelopeError::Missing)
        ));
        let one = peers(1, two.identity.cluster_uuid, 1);
        assert!(matches!(
            two.check(Some(&one.envelope(3)), MARKS),
            Err(EnvelopeError::OtherNode { .. })
        ));
    }

    #[test]
    fn a_volume_rolled_back_in_time_is_noticed_from_both_sides() {
        let cluster = Uuid::new_v4();
        let (one, two) = (peers(1, cluster, 5), peers(2, cluster, 7));
        one.note_responder(2, Some(&two.responder())).unwrap();
        one.note_vote(2, 3);
        one.note_acknowledged(2, 11);
        two.check(Some(&one.envelope(2)), MARKS).unwrap();

        let earlier_boot = peers(2, cluster, 6);
        assert!(matches!(
            earlier_boot.check(Some(&one.envelope(2)), MARKS),
            Err(EnvelopeError::RolledBack {
                what: "boot count",
                ..
            })
        ));
        let earlier_vote = LocalMarks {
            vote_term: 2,
            ..MARKS
        };
        assert!(matches!(
            two.check(Some(&one.envelope(2)), earlier_vote),
            Err(EnvelopeError::RolledBack {
                what: "vote term",
                ..
            })
        ));
        let shorter_log = LocalMarks {
            last_index: Some(9),
            ..MARKS
        };
        assert!(matches!(
            two.check(Some(&one.envelope(2)), shorter_log),
            Err(EnvelopeError::RolledBack {
                what: "log index",
                ..
            })
        ));
        assert!(matches!(
            one.note_responder(2, Some(&earlier_boot.responder())),
            Err(EnvelopeError::SenderRolledBack { .. })
        ));
    }
}
