//! A cluster that is worked with while its disks are recorded.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use oxrdf::{NamedOrBlankNode, Quad};

use super::super::node::Node;
use super::super::types::{MemberAddresses, to_position};
use super::cluster::{DATA, Member, Patience, Setup, insert, open_options, place_of, run};
use super::history::{History, Moment};
use super::wires::Wires;
use crate::disk::simulated::{Damage, SimulatedDisk, SplitMix};
use crate::disk::{SharedFileSystem, VolumeLock};
use crate::log::LogStore;
use crate::position::LogPosition;
use crate::recovery::open_volume;
use crate::state::{Outcome, verify_snapshot};

pub(super) const NODES: usize = 3;

/// Nodes of which the log takes its time, as in front of a real disk, and which take snapshots
/// often.
pub(super) const SETUP: Setup = Setup {
    start_log: LogStore::start_delayed::<2>,
    snapshot_after_entries: 12,
};

/// A run that was recorded, up to its end.
pub(super) struct Recorded {
    pub(super) disks: Vec<SimulatedDisk>,
    pub(super) history: History,
    pub(super) counts: Counts,
}

/// What a run came to, so that tests can tell that it was not an idle one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) written: usize,
    pub(super) repaired: usize,
    pub(super) backups: usize,
}

struct Cluster {
    disks: Vec<SimulatedDisk>,
    wires: Wires,
    history: History,
    members: Vec<Option<Member>>,
    random: SplitMix,
    quads: usize,
    counts: Counts,
}

/// Forms a cluster of three and works with it: writes, nodes cut off and joined again, snapshots
/// taken and installed, nodes stopped and started, entries damaged and repaired.
pub(super) fn record(seed: u64, steps: usize) -> Recorded {
    let disks: Vec<SimulatedDisk> = (0..NODES).map(|_| SimulatedDisk::new()).collect();
    let history = History::of(&disks);
    let counts = run(async {
        let mut cluster = Cluster {
            wires: Wires::noting(&history),
            disks: disks.clone(),
            history: history.clone(),
            members: Vec::new(),
            random: SplitMix::new(seed),
            quads: 0,
            counts: Counts::default(),
        };
        cluster.form().await;
        for _ in 0..steps {
            cluster.step().await;
        }
        cluster.wires.cut_off([]);
        cluster.write(1).await;
        cluster.stop_all().await;
        cluster.counts
    });
    Recorded {
        disks,
        history,
        counts,
    }
}

impl Cluster {
    async fn form(&mut self) {
        for disk in 0..NODES {
            let member = Member::start_as(&self.disks[disk], &self.wires, SETUP)
                .map_err(|refusal| refusal.report)
                .unwrap();
            self.history.name(member.id, disk);
            self.members.push(Some(member));
        }
        let mut patience = Patience::default();
        while self.nodes().await.len() < NODES {
            patience.pause("all nodes to start").await;
        }
        let nodes = self.nodes().await;
        let addresses = nodes
            .iter()
            .map(|node| (node.node_id().0, MemberAddresses::default()))
            .collect();
        nodes[0].initialise(addresses).await.unwrap();
        while self.leader().await.is_none() {
            patience.pause("a leader").await;
        }
        self.write(1).await;
        self.history.formed();
    }

    async fn nodes(&mut self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for member in self.members.iter_mut().flatten() {
            nodes.extend(member.node().await);
        }
        nodes
    }

    /// The leader of the highest term.
    async fn leader(&mut self) -> Option<Arc<Node>> {
        let nodes = self.nodes().await;
        nodes
            .into_iter()
            .filter(|node| node.is_leader())
            .max_by_key(|node| node.raft().metrics().borrow_watched().current_term)
    }

    async fn step(&mut self) {
        match self.random.below(13) {
            0 => {
                let cut = self.random.below(NODES);
                let id = self.members[cut].as_ref().map(|member| member.id);
                self.wires.cut_off(id);
            }
            1 | 2 => self.wires.cut_off([]),
            3 => {
                let nodes = self.nodes().await;
                if let Some(node) = nodes.get(self.random.below(NODES)) {
                    let _ = node.raft().trigger().snapshot().await;
                }
            }
            4 => self.restart(false).await,
            5 => self.restart(true).await,
            6 => tokio::time::sleep(Duration::from_millis(700)).await,
            7 => self.back_up().await,
            _ => {
                let count = 1 + self.random.below(6);
                self.write(count).await;
            }
        }
        self.note_states().await;
    }

    /// Takes a backup of a node, as it is streamed: it must hold the state at one position.
    async fn back_up(&mut self) {
        let nodes = self.nodes().await;
        let Some(node) = nodes.get(self.random.below(NODES)) else {
            return;
        };
        let mut backup = Vec::new();
        node.state().write_snapshot(&mut backup).unwrap();
        let status = verify_snapshot(&mut &backup[..]).unwrap().status;
        if let Some(applied) = status.applied {
            self.history.state(applied, status.digest);
        }
        self.counts.backups += 1;
    }

    async fn note_states(&mut self) {
        for node in self.nodes().await {
            let status = node.state().status();
            if let Some(applied) = status.applied {
                self.history.state(applied, status.digest);
            }
        }
    }

    /// Writes quads through whoever leads; what is not acknowledged in time may be written or not.
    async fn write(&mut self, count: usize) {
        for _ in 0..count {
            let Some(leader) = self.leader().await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let quad = self.quads;
            self.quads += 1;
            self.history.sent(quad);
            let bytes = [10, 700, 3000][self.random.below(3)];
            let command = insert(quad, leader.state().data_index(), bytes);
            let write = leader.raft().client_write(command);
            let Ok(Ok(written)) = tokio::time::timeout(Duration::from_millis(400), write).await
            else {
                continue;
            };
            if matches!(written.data.0, Outcome::Applied(_)) {
                self.history.written(quad, to_position(&written.log_id));
                self.counts.written += 1;
            }
        }
    }

    /// Stops a node and starts it again; in between an entry of its log may be damaged, so that it
    /// is repaired from the others.
    async fn restart(&mut self, damage: bool) {
        let number = self.random.below(NODES);
        let Some(mut member) = self.members[number].take() else {
            return;
        };
        let life = member.stop().await;
        self.wires.cut(member.id);
        drop(member);
        // Calls that are under way still hold the node, and its log has not written everything.
        let mut patience = Patience::default();
        while life.strong_count() > 0 || !self.is_free(number) {
            patience.pause("the node's volume to be free").await;
        }
        if damage {
            self.damage(number);
        }
        let member = Member::start_as(&self.disks[number], &self.wires, SETUP)
            .unwrap_or_else(|refusal| panic!("node {number}: {:?}", refusal.report));
        let unreadable = member.log.as_ref().map_or(0, |log| log.unreadable().len());
        self.counts.repaired += unreadable;
        self.members[number] = Some(member);
    }

    fn is_free(&self, number: usize) -> bool {
        let disk = &self.disks[number];
        VolumeLock::acquire(disk, Path::new(DATA)).is_ok()
    }

    /// Damages the payload of an entry that is held and committed, if another node has it whole.
    fn damage(&mut self, number: usize) {
        let file_system: SharedFileSystem = Arc::new(self.disks[number].fork());
        let Ok((volume, _)) = open_volume(&file_system, &open_options()) else {
            return;
        };
        let contents = &volume.log.contents;
        let Some((first, committed)) = contents.first().zip(contents.committed()) else {
            return;
        };
        // The first entry names the members. Where it is lost together with the store, which is in
        // memory here, the volume knows nobody to ask.
        let least = first.position.index.max(1);
        let held = usize::try_from((committed.index + 1).saturating_sub(least)).unwrap();
        let index = least + self.random.below(held) as u64;
        let Some(location) = contents.get(index).filter(|entry| entry.payload_bytes > 20) else {
            return;
        };
        if !self.another_has(number, location.position) {
            return;
        }
        let (path, _) = place_of(&self.disks[number], location.position.index);
        let offset_bytes = location.offset_bytes + 56 + location.payload_bytes as u64 / 2;
        let damage = Damage::FlipBit {
            offset_bytes,
            bit: 2,
        };
        self.disks[number].damage(&path, damage).unwrap();
    }

    /// Whether a node other than `number` holds an entry durably, and can read it or has let it go for
    /// a snapshot.
    fn another_has(&self, number: usize, entry: LogPosition) -> bool {
        let others = (0..NODES).filter(|other| *other != number);
        others
            .filter_map(|other| self.members[other].as_ref()?.log.as_ref())
            .any(|log| {
                let reaches =
                    |last: Option<LogPosition>| last.is_some_and(|last| last.index >= entry.index);
                let is_whole =
                    log.position(entry.index) == Some(entry) && !log.unreadable().contains(&entry);
                reaches(log.state().purged) || (is_whole && reaches(log.durable_last()))
            })
    }

    async fn stop_all(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.stop().await;
        }
    }
}

/// Starts a cluster on what a power loss left of its disks, and waits until all nodes hold the same.
pub(super) async fn come_up(
    disks: &[SimulatedDisk],
    setup: Setup,
) -> Result<BTreeSet<usize>, String> {
    let wires = Wires::default();
    let mut members = Vec::new();
    for disk in disks {
        let member = Member::start_as(disk, &wires, setup)
            .map_err(|refusal| format!("a volume is refused: {}", refusal.report.message))?;
        members.push(member);
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let found = loop {
        if let Some(found) = agreed(&mut members).await? {
            break found;
        }
        if tokio::time::Instant::now() > until {
            let mut text = "the nodes do not agree in time".to_owned();
            for member in &mut members {
                text.push_str(&describe(member).await);
            }
            return Err(text);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for member in &mut members {
        let _ = member.stop().await;
    }
    Ok(found)
}

async fn describe(member: &mut Member) -> String {
    let node = member.node().await;
    let log = node
        .as_ref()
        .map(|node| node.log().clone())
        .or(member.log.clone());
    let log = log.map(|log| (log.state(), log.vote(), log.unreadable()));
    let raft = node.map(|node| {
        let metrics = node.raft().metrics();
        let metrics = metrics.borrow_watched();
        (
            metrics.state,
            metrics.current_term,
            node.state().applied(),
            metrics.membership_config.clone(),
        )
    });
    format!("\n{:016x}: {log:?} {raft:?}", member.id)
}

/// The quads, once one node leads, all have applied as much as it has, and nothing is unreadable.
pub(super) async fn agreed(members: &mut [Member]) -> Result<Option<BTreeSet<usize>>, String> {
    let mut nodes = Vec::new();
    for member in members.iter_mut() {
        let Some(node) = member.node().await else {
            return Ok(None);
        };
        nodes.push(node);
    }
    if let Some(node) = nodes.iter().find(|node| !node.is_alive()) {
        return Err(format!("node {} has stopped", node.node_id()));
    }
    let Some(leader) = nodes.iter().find(|node| node.is_leader()) else {
        return Ok(None);
    };
    let term = leader.raft().metrics().borrow_watched().current_term;
    let status = leader.state().status();
    let all_applied = nodes
        .iter()
        .all(|node| node.state().applied() == status.applied && node.log().unreadable().is_empty());
    // The entry that a leader begins its term with says that it knows what is committed.
    if status.applied.map(|applied| applied.term) != Some(term) || !all_applied {
        return Ok(None);
    }
    if nodes
        .iter()
        .any(|node| node.state().digest() != status.digest)
    {
        return Err("the nodes hold different data".to_owned());
    }
    let view = leader.state().view();
    let reading = view.read().map_err(|error| error.to_string())?;
    let quads = reading
        .quads()
        .map(|quad| quad.map(|quad| number_of(&quad)))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    Ok(Some(quads))
}

/// The number that [`insert`] made a quad of.
fn number_of(quad: &Quad) -> usize {
    let NamedOrBlankNode::NamedNode(subject) = &quad.subject else {
        panic!("{quad} was never written");
    };
    let number = subject.as_str().strip_prefix("http://example.com/s");
    number.unwrap().parse().unwrap()
}

/// The disks as a power loss at a moment leaves them.
pub(super) fn disks_at(recorded: &Recorded, moment: &Moment, seed: u64) -> Vec<SimulatedDisk> {
    use crate::disk::simulated::SeededChoice;
    recorded
        .disks
        .iter()
        .zip(&moment.points)
        .zip(0..)
        .map(|((disk, point), number)| {
            let mut choice = SeededChoice::new(seed.wrapping_mul(3).wrapping_add(number));
            disk.at(*point).crash(&mut choice)
        })
        .collect()
}
