//! What this node knows of its peers, and what it tells them of what it has seen of them.
//!
//! A volume that was set back in time (a restored disk snapshot) comes back with promises forgotten.
//! Each node remembers the highest values seen of every peer's incarnation and sends them along, to
//! the peer itself and to the others; a node that finds itself below what others have seen refuses
//! to take part.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use quadraft_protocol::{NodeId, v1};
use tokio::sync::watch;
use uuid::Uuid;

use super::freshness::{Freshness, Leading};
use super::seen::{Marks, SeenMember, SeenTable, SetBack, judge};
use crate::log::LogStore;

/// Who this node is, for the envelope of every call.
#[derive(Clone, Debug)]
pub(crate) struct LocalIdentity {
    pub(crate) cluster_uuid: Uuid,
    pub(crate) node_id: NodeId,
    pub(crate) incarnation: Uuid,
    pub(crate) boot_count: u64,
}

/// Why a peer's call is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    #[error("the call has no envelope")]
    Missing,
    #[error("this node is just starting and gives nothing yet")]
    Starting,
    #[error("the call is from cluster {theirs}, this node belongs to {ours}")]
    OtherCluster { theirs: String, ours: Uuid },
    #[error("the call is meant for node {meant}, this is {ours}")]
    OtherNode { meant: NodeId, ours: NodeId },
    #[error("the call names the incarnation {0:?}, which is none")]
    NoIncarnation(String),
    #[error("node {sender} is known as incarnation {known}, the call is from {theirs}")]
    OtherIncarnation {
        sender: NodeId,
        known: Uuid,
        theirs: Uuid,
    },
    #[error(
        "node {sender} was seen at {what} {seen}, the call is from {theirs}: its volume was set back in time"
    )]
    SenderSetBack {
        sender: NodeId,
        what: &'static str,
        seen: u64,
        theirs: u64,
    },
    #[error(transparent)]
    SetBack(SetBack),
}

/// The highest values seen of every peer.
pub(crate) struct Peers {
    identity: LocalIdentity,
    /// Where this node's own promises are; set once it is open.
    log: OnceLock<LogStore>,
    seen: Mutex<SeenTable>,
    /// The table has changed since it was written down.
    is_news: AtomicBool,
    short_of_space: Mutex<HashMap<u64, bool>>,
    disk_is_short: AtomicBool,
    set_back: watch::Sender<Option<SetBack>>,
    freshness: Freshness,
    /// Tells what this node knows as a leader; set once its Raft core is there.
    leading: OnceLock<Box<dyn Fn() -> Option<Leading> + Send + Sync>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Peers")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(identity: LocalIdentity, seen: SeenTable) -> Self {
        Self {
            identity,
            log: OnceLock::new(),
            seen: Mutex::new(seen),
            is_news: AtomicBool::new(false),
            short_of_space: Mutex::default(),
            disk_is_short: AtomicBool::new(false),
            set_back: watch::Sender::new(None),
            freshness: Freshness::new(),
            leading: OnceLock::new(),
        }
    }

    /// Says where this node's own promises are. They are zero before.
    pub(crate) fn vouch_by(&self, log: LogStore) {
        // Only the first one counts; there is one.
        let _ = self.log.set(log);
    }

    /// Says where it is known how this node leads, when it does.
    pub(crate) fn lead_by(&self, leading: impl Fn() -> Option<Leading> + Send + Sync + 'static) {
        // Only the first one counts; there is one.
        let _ = self.leading.set(Box::new(leading));
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// What this node, as the leader, tells a peer of how recent it is.
    pub(crate) fn freshness_for(&self, peer: u64) -> v1::Freshness {
        let leading = self.leading.get().and_then(|leading| leading());
        if let Some(leading) = leading {
            self.freshness.note_leading(leading);
        }
        self.freshness.message(peer, leading)
    }

    pub(crate) fn identity(&self) -> &LocalIdentity {
        &self.identity
    }

    fn seen(&self) -> MutexGuard<'_, SeenTable> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this node stands, to be compared with what others have seen of it.
    pub(crate) fn marks(&self) -> Marks {
        let log = self.log.get();
        let last = log.and_then(|log| log.state().last);
        self.marks_with(last.map(|last| last.index))
    }

    /// What others may hold it to from now on: what is durable and can never be taken back.
    fn vouched(&self) -> Marks {
        let log = self.log.get();
        self.marks_with(log.and_then(|log| log.state().durable_committed_index))
    }

    fn marks_with(&self, last_index: Option<u64>) -> Marks {
        let vote = self.log.get().and_then(LogStore::vote);
        Marks {
            boot_count: self.identity.boot_count,
            vote_term: vote.map_or(0, |vote| vote.term),
            log_end: last_index.map_or(0, |index| index + 1),
        }
    }

    /// What is remembered of a node.
    pub(crate) fn seen_of(&self, node_id: u64) -> Option<SeenMember> {
        self.seen().0.get(&node_id).copied()
    }

    /// The whole table, when it has changed since this was asked last.
    pub(crate) fn news(&self) -> Option<SeenTable> {
        self.is_news
            .swap(false, Ordering::AcqRel)
            .then(|| self.seen().clone())
    }

    /// Forgets nodes for which `keep` does not hold: their ids never come back.
    pub(crate) fn forget_others(&self, keep: impl Fn(u64) -> bool) {
        self.seen().0.retain(|node_id, _| keep(*node_id));
    }

    /// Notes whether this node is short of space, for every answer to come.
    pub(crate) fn set_disk_is_short(&self, short: bool) {
        self.disk_is_short.store(short, Ordering::Relaxed);
    }

    /// Whether a peer is short of space, by its own last word.
    pub(crate) fn disk_is_short(&self, peer: u64) -> Option<bool> {
        let short = self
            .short_of_space
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        short.get(&peer).copied()
    }

    /// The envelope of a call to `receiver`.
    pub(crate) fn envelope(&self, receiver: u64) -> v1::Envelope {
        let vouched = self.vouched();
        let seen = self.seen();
        v1::Envelope {
            cluster_uuid: self.identity.cluster_uuid.to_string(),
            sender_node_id: self.identity.node_id.0,
            sender_incarnation: self.identity.incarnation.to_string(),
            sender_boot_count: self.identity.boot_count,
            receiver_node_id: receiver,
            seen_of_receiver: seen.0.get(&receiver).map(SeenMember::message),
            sender_vote_term: vouched.vote_term,
            sender_log_end: vouched.log_end,
            seen_of_others: seen
                .0
                .iter()
                .filter(|(node_id, _)| **node_id != receiver)
                .map(|(node_id, seen)| v1::SeenMember {
                    node_id: *node_id,
                    seen: Some(seen.message()),
                })
                .collect(),
        }
    }

    /// Who answers, for every answer.
    pub(crate) fn responder(&self) -> v1::Responder {
        let vouched = self.vouched();
        v1::Responder {
            node_id: self.identity.node_id.0,
            incarnation: self.identity.incarnation.to_string(),
            boot_count: self.identity.boot_count,
            disk_is_short: self.disk_is_short.load(Ordering::Relaxed),
            vote_term: vouched.vote_term,
            log_end: vouched.log_end,
        }
    }

    /// Checks a call's envelope, and remembers what it says of its sender and of others.
    pub(crate) fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), EnvelopeError> {
        self.check_at(envelope, self.marks())
    }

    fn check_at(&self, envelope: Option<&v1::Envelope>, marks: Marks) -> Result<(), EnvelopeError> {
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
        let seen = envelope.seen_of_receiver.as_ref();
        if let Some(seen) = seen.and_then(SeenMember::read) {
            self.compare(seen, marks, false)
                .map_err(EnvelopeError::SetBack)?;
        }
        self.remember(
            envelope.sender_node_id,
            &envelope.sender_incarnation,
            Marks {
                boot_count: envelope.sender_boot_count,
                vote_term: envelope.sender_vote_term,
                log_end: envelope.sender_log_end,
            },
        )?;
        for other in &envelope.seen_of_others {
            let seen = other.seen.as_ref().and_then(SeenMember::read);
            if let Some(seen) = seen
                && other.node_id != ours.node_id.0
            {
                self.raise(other.node_id, seen);
            }
        }
        Ok(())
    }

    /// Compares what a peer has seen of this node with where it stands.
    pub(crate) fn compare(
        &self,
        seen: SeenMember,
        marks: Marks,
        just_started: bool,
    ) -> Result<(), SetBack> {
        if seen.incarnation != self.identity.incarnation {
            return Ok(());
        }
        let judged = judge(marks, seen.marks, just_started);
        if let Err(set_back) = &judged {
            self.set_back.send_replace(Some(set_back.clone()));
        }
        judged
    }

    /// Waits until a peer has shown that this volume was set back.
    pub(crate) async fn set_back(&self) -> SetBack {
        let mut set_back = self.set_back.subscribe();
        loop {
            if let Some(set_back) = set_back.borrow_and_update().clone() {
                return set_back;
            }
            if set_back.changed().await.is_err() {
                // This holds a sender.
                std::future::pending::<()>().await;
            }
        }
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
        self.remember(
            responder.node_id,
            &responder.incarnation,
            Marks {
                boot_count: responder.boot_count,
                vote_term: responder.vote_term,
                log_end: responder.log_end,
            },
        )?;
        self.short_of_space
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(expected, responder.disk_is_short);
        Ok(())
    }

    fn raise(&self, node_id: u64, seen: SeenMember) {
        if self.seen().raise(node_id, seen) {
            self.is_news.store(true, Ordering::Release);
        }
    }

    fn remember(&self, node_id: u64, incarnation: &str, marks: Marks) -> Result<(), EnvelopeError> {
        let incarnation = Uuid::parse_str(incarnation)
            .map_err(|_| EnvelopeError::NoIncarnation(incarnation.to_owned()))?;
        if let Some(known) = self.seen_of(node_id) {
            if known.incarnation != incarnation {
                return Err(EnvelopeError::OtherIncarnation {
                    sender: NodeId(node_id),
                    known: known.incarnation,
                    theirs: incarnation,
                });
            }
            let below = |what, seen, theirs| {
                Err(EnvelopeError::SenderSetBack {
                    sender: NodeId(node_id),
                    what,
                    seen,
                    theirs,
                })
            };
            if marks.boot_count < known.marks.boot_count {
                return below("boot count", known.marks.boot_count, marks.boot_count);
            }
            // An answer may be older than the last one; a later start has all votes of earlier ones.
            // What it knows to be committed may be less, at first.
            if marks.boot_count > known.marks.boot_count && marks.vote_term < known.marks.vote_term
            {
                return below("vote term", known.marks.vote_term, marks.vote_term);
            }
        }
        self.raise(node_id, SeenMember { incarnation, marks });
        Ok(())
    }

    /// Remembers that `node_id`, which is known, cast a vote in `term`.
    pub(crate) fn note_vote(&self, node_id: u64, term: u64) {
        self.note(node_id, |marks| marks.vote_term = term);
    }

    /// Remembers that `node_id`, which is known, holds the log durably up to `end`, without it, and
    /// that this is committed.
    pub(crate) fn note_acknowledged(&self, node_id: u64, end: u64) {
        self.note(node_id, |marks| marks.log_end = end);
    }

    fn note(&self, node_id: u64, change: impl FnOnce(&mut Marks)) {
        if let Some(mut known) = self.seen_of(node_id) {
            known.marks = Marks::default();
            change(&mut known.marks);
            self.raise(node_id, known);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peers(node_id: u64, cluster_uuid: Uuid, boot_count: u64) -> Peers {
        let identity = LocalIdentity {
            cluster_uuid,
            node_id: NodeId(node_id),
            incarnation: Uuid::from_u128(u128::from(node_id)),
            boot_count,
        };
        Peers::new(identity, SeenTable::default())
    }

    const MARKS: Marks = Marks {
        boot_count: 7,
        vote_term: 3,
        log_end: 11,
    };

    #[test]
    fn a_peer_of_the_same_cluster_is_heard() {
        let cluster = Uuid::new_v4();
        let (one, two) = (peers(1, cluster, 1), peers(2, cluster, 1));
        two.check_at(Some(&one.envelope(2)), MARKS).unwrap();
        one.note_responder(2, Some(&two.responder())).unwrap();
    }

    #[test]
    fn a_stranger_is_refused_with_both_values() {
        let two = peers(2, Uuid::new_v4(), 1);
        let stranger = peers(1, Uuid::new_v4(), 1);
        assert!(matches!(
            two.check_at(Some(&stranger.envelope(2)), MARKS),
            Err(EnvelopeError::OtherCluster { .. })
        ));
        assert!(matches!(
            two.check_at(None, MARKS),
            Err(EnvelopeError::Missing)
        ));
        let one = peers(1, two.identity.cluster_uuid, 1);
        assert!(matches!(
            two.check_at(Some(&one.envelope(3)), MARKS),
            Err(EnvelopeError::OtherNode { .. })
        ));
    }

    #[test]
    fn a_volume_set_back_in_time_is_noticed_from_both_sides() {
        let cluster = Uuid::new_v4();
        let (one, two) = (peers(1, cluster, 5), peers(2, cluster, 7));
        one.note_responder(2, Some(&two.responder())).unwrap();
        one.note_vote(2, 3);
        one.note_acknowledged(2, 11);
        two.check_at(Some(&one.envelope(2)), MARKS).unwrap();
        for (stands_at, what) in [
            (
                Marks {
                    boot_count: 6,
                    ..MARKS
                },
                "boot count",
            ),
            (
                Marks {
                    vote_term: 2,
                    ..MARKS
                },
                "vote term",
            ),
            (
                Marks {
                    log_end: 10,
                    ..MARKS
                },
                "log index",
            ),
        ] {
            assert!(matches!(
                two.check_at(Some(&one.envelope(2)), stands_at),
                Err(EnvelopeError::SetBack(set_back)) if set_back.what == what
            ));
        }
        assert!(two.set_back.borrow().is_some(), "the node is told");
        let earlier_boot = peers(2, cluster, 6);
        assert!(matches!(
            one.note_responder(2, Some(&earlier_boot.responder())),
            Err(EnvelopeError::SenderSetBack { .. })
        ));
        // It starts once more and has forgotten its vote.
        let later_boot = peers(2, cluster, 8);
        assert!(matches!(
            one.check_at(
                Some(&later_boot.envelope(1)),
                Marks {
                    boot_count: 5,
                    ..Marks::default()
                }
            ),
            Err(EnvelopeError::SenderSetBack { .. })
        ));
    }

    #[test]
    fn what_one_member_has_seen_of_another_reaches_the_third() {
        let cluster = Uuid::new_v4();
        let (one, two, three) = (
            peers(1, cluster, 1),
            peers(2, cluster, 7),
            peers(3, cluster, 1),
        );
        one.note_responder(2, Some(&two.responder())).unwrap();
        one.note_acknowledged(2, 11);
        let marks = Marks {
            boot_count: 1,
            ..Marks::default()
        };
        three.check_at(Some(&one.envelope(3)), marks).unwrap();
        assert_eq!(three.seen_of(2).unwrap().marks.log_end, 11);
        assert!(three.news().is_some());
        assert!(three.news().is_none());
    }
}
