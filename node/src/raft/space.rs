//! Space on the disk: what a node still does when it runs out of it.
//!
//! docs/decisions/0009-full-disks.md says why it is done so.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::node::Node;
use super::peers::Peers;
use crate::disk::{Ballast, SharedFileSystem};
use crate::log::LogStore;

/// How often the disk is asked what is left.
const INTERVAL: Duration = Duration::from_millis(500);
/// RocksDB looks every five seconds whether it may go on; nothing tells when it does.
const STORE_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts to hand leadership to a member that has space.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(2);
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(5);
/// Installing a snapshot takes its file, a store of about its size, and what RocksDB needs to make it.
const SNAPSHOT_FACTOR: u64 = 3;
/// A leader whose snapshot was refused offers another within seconds, as long as it is needed.
const REFUSAL_COUNTS_FOR: Duration = Duration::from_secs(30);

/// How much room a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// Less than the reserve: no new writes are taken; what the cluster has decided is still
    /// appended and applied.
    Short,
    /// The reserve is nearly used up: what is left is kept for the log.
    Exhausted,
}

/// From when on there is too little room.
#[derive(Clone, Copy, Debug)]
pub struct SpaceLimits {
    /// Bytes that are kept free for what must still be written when no write is taken.
    pub reserve_bytes: u64,
}

impl SpaceLimits {
    /// Room for two segments of the log and what the store writes meanwhile.
    #[must_use]
    pub fn for_segments(segment_bytes: u64) -> Self {
        Self {
            reserve_bytes: 2 * segment_bytes + 64 * 1024 * 1024,
        }
    }

    /// Below this nothing but the log is written.
    fn floor_bytes(self) -> u64 {
        self.reserve_bytes / 16
    }

    /// What is held for a start on a full disk, and needed for it.
    #[must_use]
    pub fn start_bytes(self) -> u64 {
        self.reserve_bytes / 4
    }

    /// From this on writes are taken again: a little more than the reserve, so that a disk at the
    /// edge does not switch to and fro.
    fn resume_bytes(self) -> u64 {
        self.reserve_bytes + self.reserve_bytes / 4
    }

    /// How much room there is, after `before`.
    #[must_use]
    pub fn judge(self, before: Room, available_bytes: u64) -> Room {
        if available_bytes < self.floor_bytes() {
            Room::Exhausted
        } else if available_bytes < self.reserve_bytes
            || (before != Room::Enough && available_bytes < self.resume_bytes())
        {
            Room::Short
        } else {
            Room::Enough
        }
    }
}

/// What is known of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceStatus {
    pub room: Room,
    pub available_bytes: u64,
    /// Length of the leader's snapshot for which there was no room, and when that was.
    refused_snapshot: Option<(u64, Instant)>,
}

impl SpaceStatus {
    /// Whether more space is needed: for writes, or for a snapshot without which this node cannot
    /// catch up.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.room != Room::Enough || self.refused_snapshot.is_some()
    }
}

/// The space of one volume, as last looked at. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    limits: SpaceLimits,
    status: watch::Sender<SpaceStatus>,
}

impl Space {
    pub(crate) fn new(limits: SpaceLimits) -> Self {
        Self {
            limits,
            status: watch::Sender::new(SpaceStatus {
                room: Room::Enough,
                available_bytes: u64::MAX,
                refused_snapshot: None,
            }),
        }
    }

    pub(crate) fn status(&self) -> SpaceStatus {
        *self.status.borrow()
    }

    /// Why no write is taken, when none is.
    pub(crate) fn refusal(&self) -> Option<String> {
        let SpaceStatus {
            room,
            available_bytes,
            ..
        } = self.status();
        (room != Room::Enough).then(|| {
            format!(
                "{available_bytes} bytes are left on the disk, and writes are taken from {} on",
                self.limits.resume_bytes()
            )
        })
    }

    /// Waits while the reserve is nearly used up.
    pub(crate) async fn usable(&self) {
        let mut status = self.status.subscribe();
        // This holds a sender.
        let _ = status
            .wait_for(|status| status.room != Room::Exhausted)
            .await;
    }

    /// Waits until the store, which had no space, may be tried again.
    pub(crate) async fn after_failure(&self) {
        tokio::time::sleep(STORE_RETRY_PAUSE).await;
        self.usable().await;
    }

    /// Whether a file of so many bytes may be written, and a store made of it.
    pub(crate) fn takes_snapshot(&self, length_bytes: u64) -> bool {
        let wanted = length_bytes
            .saturating_mul(SNAPSHOT_FACTOR)
            .saturating_add(self.limits.start_bytes());
        self.status().available_bytes >= wanted
    }

    /// Takes in a snapshot of so many bytes from the leader, or says why not. Without it this node
    /// stays behind, so from then on its disk counts as short.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn admit_snapshot(&self, length_bytes: u64) -> Result<(), String> {
        if self.takes_snapshot(length_bytes) {
            self.status
                .send_modify(|status| status.refused_snapshot = None);
            return Ok(());
        }
        let SpaceStatus {
            available_bytes,
            refused_snapshot: before,
            ..
        } = self.status();
        if before.is_none() {
            tracing::warn!(
                length_bytes,
                available_bytes,
                "there is no room for the leader's snapshot: this node cannot catch up"
            );
        }
        self.status.send_modify(|status| {
            status.refused_snapshot = Some((length_bytes, Instant::now()));
        });
        Err(format!(
            "{available_bytes} bytes are left on the disk, too few for a snapshot of {length_bytes} bytes"
        ))
    }

    fn note(&self, available_bytes: u64) {
        let before = self.status();
        let room = self.limits.judge(before.room, available_bytes);
        if room != before.room {
            match room {
                Room::Enough => {
                    tracing::info!(available_bytes, "there is space again: writes are taken");
                }
                Room::Short => tracing::warn!(
                    available_bytes,
                    "the disk is nearly full: no writes are taken"
                ),
                Room::Exhausted => tracing::error!(
                    available_bytes,
                    "the disk is full: nothing but the log is written"
                ),
            }
        }
        let refused_snapshot = before
            .refused_snapshot
            .filter(|(_, at)| at.elapsed() < REFUSAL_COUNTS_FOR);
        self.status.send_replace(SpaceStatus {
            room,
            available_bytes,
            refused_snapshot,
        });
    }
}

/// What looks at the disk.
#[derive(Debug)]
pub(crate) struct SpaceWatch {
    pub(crate) space: Space,
    pub(crate) file_system: SharedFileSystem,
    pub(crate) data: PathBuf,
    pub(crate) log: LogStore,
    pub(crate) peers: Weak<Peers>,
}

impl SpaceWatch {
    /// Looks at the disk now, and again and again for as long as anybody has the peers.
    pub(crate) fn start(self) {
        self.look();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                if self.peers.strong_count() == 0 {
                    return;
                }
                self.look();
            }
        });
    }

    fn look(&self) {
        let before = self.space.status().room;
        match self.file_system.available_bytes(&self.data) {
            Ok(available_bytes) => self.space.note(available_bytes),
            Err(error) => {
                tracing::warn!(%error, "the space on the disk cannot be told");
                return;
            }
        }
        // What had been kept for a start is needed to go on.
        if self.space.status().room == Room::Exhausted {
            self.release_ballast();
        }
        let SpaceStatus {
            room,
            available_bytes,
            ..
        } = self.space.status();
        if let Some(peers) = self.peers.upgrade() {
            peers.set_disk_is_short(self.space.status().is_short());
        }
        let returned = before != Room::Enough && room == Room::Enough;
        if returned || self.log.waits_for_space() {
            self.log.try_again();
        }
        let limits = self.space.limits;
        if room == Room::Enough && available_bytes >= limits.resume_bytes() + limits.start_bytes() {
            self.hold_ballast(limits.start_bytes());
        }
    }

    fn release_ballast(&self) {
        let file_system = self.file_system.as_ref();
        match Ballast::of(&self.data).release_if_needed(file_system) {
            Ok(true) => {
                tracing::warn!("the space that was kept for a start is used");
                if let Ok(available_bytes) = file_system.available_bytes(&self.data) {
                    self.space.note(available_bytes);
                }
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the space that was kept cannot be used"),
        }
    }

    fn hold_ballast(&self, length_bytes: u64) {
        match Ballast::of(&self.data).hold(self.file_system.as_ref(), length_bytes) {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no space is kept for a start on a full disk"),
        }
    }
}

/// A voter that may be given the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node_id: u64,
    pub(crate) matching_index: u64,
    /// By its own last word; `None` when it has not said.
    pub(crate) disk_is_short: Option<bool>,
}

/// Whom a leader that is short of space hands the leadership to: the voter that is known to have
/// space and whose log matches furthest. Nobody when all are short: then it stays, and refuses.
pub(crate) fn choose_successor(candidates: &[Candidate]) -> Option<u64> {
    candidates
        .iter()
        .filter(|candidate| candidate.disk_is_short == Some(false))
        .max_by_key(|candidate| (candidate.matching_index, candidate.node_id))
        .map(|candidate| candidate.node_id)
}

/// Hands leadership away whenever this node leads, is short of space, and another voter is not.
pub(crate) fn start_handing_over(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    tokio::spawn(async move {
        while let Some(node) = short_of_space(&weak).await {
            if node.is_leader()
                && let Some(successor) = choose_successor(&node.successors())
            {
                match node
                    .transfer_leadership(Some(successor), HAND_OVER_DEADLINE)
                    .await
                {
                    Ok((leader, term)) => tracing::info!(
                        leader = %quadraft_protocol::NodeId(leader),
                        term,
                        "leadership was handed to a member that has space"
                    ),
                    Err(error) => tracing::info!(%error, "leadership is not handed on"),
                }
            }
            drop(node);
            tokio::time::sleep(HAND_OVER_PAUSE).await;
        }
    });
}

/// Waits until the node is short of space; `None` once it is gone.
async fn short_of_space(node: &Weak<Node>) -> Option<Arc<Node>> {
    let mut status = node.upgrade()?.space().status.subscribe();
    status
        .wait_for(|status| status.room != Room::Enough)
        .await
        .ok()?;
    node.upgrade().filter(|node| !node.is_stopping())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SpaceLimits = SpaceLimits { reserve_bytes: 100 };

    #[test]
    fn writes_stop_below_the_reserve_and_go_on_only_a_little_above_it() {
        let judged = |before, available| LIMITS.judge(before, available);
        assert_eq!(judged(Room::Enough, 100), Room::Enough);
        assert_eq!(judged(Room::Enough, 99), Room::Short);
        assert_eq!(judged(Room::Short, 124), Room::Short);
        assert_eq!(judged(Room::Short, 125), Room::Enough);
        assert_eq!(judged(Room::Enough, 5), Room::Exhausted);
        assert_eq!(judged(Room::Exhausted, 6), Room::Short);
        assert_eq!(judged(Room::Exhausted, 124), Room::Short);
        assert_eq!(judged(Room::Exhausted, 125), Room::Enough);
    }

    #[test]
    fn a_reserve_of_nothing_never_stops_a_write() {
        let none = SpaceLimits { reserve_bytes: 0 };
        assert_eq!(none.judge(Room::Enough, 0), Room::Enough);
    }

    #[test]
    fn leadership_goes_to_the_furthest_voter_that_is_known_to_have_space() {
        let candidate = |node_id, matching_index, disk_is_short| Candidate {
            node_id,
            matching_index,
            disk_is_short,
        };
        let all = [
            candidate(1, 9, Some(true)),
            candidate(2, 7, Some(false)),
            candidate(3, 8, Some(false)),
            candidate(4, 9, None),
        ];
        assert_eq!(choose_successor(&all), Some(3));
        assert_eq!(choose_successor(&all[..1]), None);
        assert_eq!(choose_successor(&[]), None);
    }

    #[test]
    fn a_snapshot_needs_several_times_its_length() {
        let space = Space::new(LIMITS);
        space.note(1000);
        assert!(space.takes_snapshot(325));
        assert!(!space.takes_snapshot(326));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_room_for_the_leaders_snapshot_is_short_of_space() {
        let space = Space::new(LIMITS);
        space.note(1000);
        assert_eq!(space.admit_snapshot(325), Ok(()));
        assert!(!space.status().is_short());
        assert!(space.admit_snapshot(326).is_err());
        space.note(1000);
        assert!(space.status().is_short() && space.status().room == Room::Enough);
        // It was given more, and the leader came again.
        space.note(2000);
        assert_eq!(space.admit_snapshot(326), Ok(()));
        assert!(!space.status().is_short());
        // It caught up in another way: nobody offers any more.
        assert!(space.admit_snapshot(2000).is_err());
        tokio::time::advance(REFUSAL_COUNTS_FOR).await;
        space.note(2000);
        assert!(!space.status().is_short());
    }
}
