//! What nodes promised to each other and to their clients, in order, and how far each disk was.
//!
//! The promises are taken from what goes over the wires, not from what the nodes believe: a node
//! that answers "granted" has voted, one that answers "success" holds the entries, whatever it did
//! with its disk. A disk that a power loss leaves is then compared with the promises that had been
//! given by that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quadraft_protocol::NodeId;

use crate::disk::simulated::{SimulatedDisk, SplitMix};
use crate::identity::StoredVote;
use crate::position::LogPosition;
use crate::recovery::Volume;
use crate::state::Digest;

/// Something that a disk must not forget, or that says what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// The cluster has members.
    Formed,
    /// A node follows this vote; a committed one has won its election.
    Voted { node: usize, vote: StoredVote },
    /// A leader's request has reached a node, which may replace what earlier leaders left there.
    LeaderHeard { node: usize, term: u64 },
    /// A node told the leader of `term` that it holds everything up to `last`.
    Holds {
        node: usize,
        term: u64,
        last: LogPosition,
    },
    /// A node called another one, which may have learned something of it.
    Called,
    /// A client was told that its quad is written.
    Written { quad: usize, position: LogPosition },
}

#[derive(Clone, Debug)]
struct Event {
    /// Operations done on each disk when it happened.
    disks: Vec<usize>,
    promise: Promise,
}

#[derive(Debug, Default)]
struct Inner {
    disks: Vec<SimulatedDisk>,
    /// Number of the disk of each node, by node id.
    nodes: BTreeMap<u64, usize>,
    events: Vec<Event>,
    /// Whom a node voted for in a term, and who was elected in it.
    granted: BTreeMap<(usize, u64), NodeId>,
    elected: BTreeMap<u64, NodeId>,
    /// What was sent to any follower, by name.
    payloads: BTreeMap<LogPosition, Bytes>,
    /// What the data came to after an entry.
    digests: BTreeMap<LogPosition, Digest>,
    /// Quads that a client tried to write.
    sent: BTreeSet<usize>,
}

/// The history of one cluster. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct History(Arc<Mutex<Inner>>);

/// A moment of a recorded run: how far each disk is, and what had been promised by then.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) points: Vec<usize>,
    promises: usize,
}

impl History {
    /// Begins a history; the disks are recorded from now on.
    pub(super) fn of(disks: &[SimulatedDisk]) -> Self {
        disks.iter().for_each(SimulatedDisk::record);
        Self(Arc::new(Mutex::new(Inner {
            disks: disks.to_vec(),
            ..Inner::default()
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Says on which disk a node lives.
    pub(super) fn name(&self, id: u64, disk: usize) {
        self.inner().nodes.insert(id, disk);
    }

    fn note(&self, promise: Promise) {
        let mut inner = self.inner();
        let disks = inner.disks.iter().map(SimulatedDisk::operations).collect();
        inner.events.push(Event { disks, promise });
    }

    fn node(&self, id: u64) -> usize {
        self.inner().nodes[&id]
    }

    pub(super) fn formed(&self) {
        self.note(Promise::Formed);
    }

    pub(super) fn called(&self) {
        self.note(Promise::Called);
    }

    pub(super) fn voted(&self, id: u64, vote: StoredVote) {
        let node = self.node(id);
        {
            let mut inner = self.inner();
            // Those who voted for another candidate follow the one that was elected, too.
            let known = if vote.committed {
                *inner.elected.entry(vote.term).or_insert(vote.candidate)
            } else {
                let voter = (node, vote.term);
                *inner.granted.entry(voter).or_insert(vote.candidate)
            };
            assert_eq!(
                known, vote.candidate,
                "node {node} votes {vote:?} in a term that was another's"
            );
        }
        self.note(Promise::Voted { node, vote });
    }

    pub(super) fn leader_heard(&self, id: u64, term: u64) {
        let node = self.node(id);
        self.note(Promise::LeaderHeard { node, term });
    }

    pub(super) fn holds(&self, id: u64, term: u64, last: LogPosition) {
        let node = self.node(id);
        self.note(Promise::Holds { node, term, last });
    }

    pub(super) fn entry(&self, position: LogPosition, payload: Bytes) {
        let mut inner = self.inner();
        let known = inner
            .payloads
            .entry(position)
            .or_insert_with(|| payload.clone());
        assert_eq!(known, &payload, "two entries are named {position}");
    }

    pub(super) fn sent(&self, quad: usize) {
        self.inner().sent.insert(quad);
    }

    pub(super) fn written(&self, quad: usize, position: LogPosition) {
        self.note(Promise::Written { quad, position });
    }

    /// A node's data came to this after the entry at `applied`.
    pub(super) fn state(&self, applied: LogPosition, digest: Digest) {
        let mut inner = self.inner();
        let known = *inner.digests.entry(applied).or_insert(digest);
        assert_eq!(known, digest, "two states after entry {applied}");
    }

    /// A random moment.
    pub(super) fn moment(&self, random: &mut SplitMix) -> Moment {
        let inner = self.inner();
        let chosen = random.below(inner.disks.len());
        let point = random.below(inner.disks[chosen].operations() + 1);
        let promises = inner
            .events
            .partition_point(|event| event.disks[chosen] <= point);
        let before = promises.checked_sub(1).map(|last| &inner.events[last]);
        let after = inner.events.get(promises);
        // Between two events no disk knows how far another one is.
        let points = (0..inner.disks.len())
            .map(|disk| {
                if disk == chosen {
                    return point;
                }
                let low = before.map_or(0, |event| event.disks[disk]);
                let high =
                    after.map_or_else(|| inner.disks[disk].operations(), |event| event.disks[disk]);
                low + random.below(high - low + 1)
            })
            .collect();
        Moment { points, promises }
    }

    /// The end of the run.
    pub(super) fn end(&self) -> Moment {
        let inner = self.inner();
        Moment {
            points: inner.disks.iter().map(SimulatedDisk::operations).collect(),
            promises: inner.events.len(),
        }
    }

    fn promises(&self, moment: &Moment) -> Vec<Promise> {
        let inner = self.inner();
        inner.events[..moment.promises]
            .iter()
            .map(|event| event.promise)
            .collect()
    }

    /// Whether the cluster had members by then.
    pub(super) fn was_formed(&self, moment: &Moment) -> bool {
        self.promises(moment).contains(&Promise::Formed)
    }

    /// Compares a volume that a power loss left with what its node had promised.
    pub(super) fn check(
        &self,
        node: usize,
        moment: &Moment,
        volume: &Volume,
    ) -> Result<(), String> {
        let promises = self.promises(moment);
        check_vote(node, &promises, volume)?;
        check_held(node, &promises, volume)?;
        let inner = self.inner();
        let readers = volume.log.files.readers();
        let first = volume.log.contents.first();
        let indices = first.map_or(0, |first| first.position.index)
            ..volume.log.contents.last().map_or(0, |last| last.index + 1);
        for index in indices {
            let Some(location) = volume.log.contents.get(index) else {
                continue;
            };
            let Some(expected) = inner.payloads.get(&location.position) else {
                continue;
            };
            // What cannot be read is named, and comes from the others.
            if let Ok(found) = readers.read(&location)
                && found != expected[..]
            {
                return Err(format!("entry {} is another one", location.position));
            }
        }
        let status = volume.state.status();
        if let Some(applied) = status.applied
            && let Some(digest) = inner.digests.get(&applied)
            && *digest != status.digest
        {
            return Err(format!("the data at {applied} is other data"));
        }
        Ok(())
    }

    /// Compares what a cluster that came up again holds with what clients had been told.
    pub(super) fn check_quads(
        &self,
        moment: &Moment,
        found: &BTreeSet<usize>,
    ) -> Result<(), String> {
        for promise in self.promises(moment) {
            if let Promise::Written { quad, position } = promise
                && !found.contains(&quad)
            {
                return Err(format!(
                    "quad {quad} was acknowledged at {position} and is gone"
                ));
            }
        }
        match found.difference(&self.inner().sent).next() {
            Some(quad) => Err(format!("quad {quad} was never written")),
            None => Ok(()),
        }
    }
}

fn check_vote(node: usize, promises: &[Promise], volume: &Volume) -> Result<(), String> {
    let stored = volume.vote.current();
    let given = promises.iter().filter_map(|promise| match promise {
        Promise::Voted { node: voter, vote } if *voter == node => Some(*vote),
        _ => None,
    });
    let Some(highest) = given.max_by_key(|vote| (vote.term, vote.committed)) else {
        return Ok(());
    };
    let kept = stored.is_some_and(|stored| {
        stored.term > highest.term
            || (stored.term == highest.term
                && (stored.candidate == highest.candidate
                    || (stored.committed && !highest.committed)))
    });
    if kept {
        Ok(())
    } else {
        Err(format!("the vote {highest:?} was given; found {stored:?}"))
    }
}

fn check_held(node: usize, promises: &[Promise], volume: &Volume) -> Result<(), String> {
    let newest_leader = promises
        .iter()
        .filter_map(|promise| match promise {
            Promise::LeaderHeard { node: hearer, term } if *hearer == node => Some(*term),
            _ => None,
        })
        .max();
    let claims: Vec<(u64, LogPosition)> = promises
        .iter()
        .filter_map(|promise| match promise {
            Promise::Holds {
                node: holder,
                term,
                last,
            } if *holder == node => Some((*term, *last)),
            _ => None,
        })
        .collect();
    let written = promises.iter().filter_map(|promise| match promise {
        Promise::Written { position, .. } => Some(*position),
        _ => None,
    });
    // What clients were told of is never replaced; the rest only by a newer leader.
    let bound = claims
        .iter()
        .filter(|(term, _)| Some(*term) == newest_leader)
        .map(|(_, last)| *last)
        .max();
    let committed = written
        .filter(|position| {
            claims
                .iter()
                .any(|(term, last)| *term >= position.term && last.index >= position.index)
        })
        .max();
    for position in bound.into_iter().chain(committed) {
        let contents = &volume.log.contents;
        let held = contents
            .get(position.index)
            .is_some_and(|location| location.position == position);
        if !held && contents.purged().map(|purged| purged.index) < Some(position.index) {
            return Err(format!(
                "entry {position} was held; the log has {:?} up to {:?}",
                contents.get(position.index).map(|entry| entry.position),
                contents.last()
            ));
        }
    }
    Ok(())
}
