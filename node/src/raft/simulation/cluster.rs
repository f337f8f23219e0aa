//! Three nodes on three simulated disks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use oxrdf::{GraphName, Literal, NamedNode, Quad};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::node::{Node, NodeError, NodeOptions, PreparedNode, StartLog};
use super::super::space::SpaceLimits;
use super::super::types::{EncodedCommand, MemberAddresses};
use super::wires::{WiredEntries, WiredNetwork, Wires};
use crate::disk::SharedFileSystem;
use crate::disk::simulated::SimulatedDisk;
use crate::log::{EntryLocation, LogOptions, LogStore, inspect_log};
use crate::recovery::{OpenOptions, Refusal, StorePlace, log_identity, open_volume};
use crate::sparql::update::EvaluationLimits;
use crate::state::{Command, Digest, Effects, Outcome, RequestId};

/// Room for one segment and more.
pub(super) const LIMITS: SpaceLimits = SpaceLimits {
    reserve_bytes: 256 * 1024,
};
const CLUSTER: Uuid = Uuid::from_u128(0xc1);
pub(super) const DATA: &str = "/data";

/// How the nodes of a cluster run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) start_log: StartLog,
    pub(super) snapshot_after_entries: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            start_log: LogStore::start_inline,
            snapshot_after_entries: 1_000,
        }
    }
}

impl Setup {
    fn node_options(self) -> NodeOptions {
        NodeOptions {
            election_timeout_ms: 300,
            heartbeat_interval_ms: 60,
            snapshot_after_entries: self.snapshot_after_entries,
            evaluation_limits: EvaluationLimits::default(),
        }
    }
}

pub(super) fn open_options() -> OpenOptions {
    OpenOptions {
        data: PathBuf::from(DATA),
        cluster_uuid: Some(CLUSTER),
        log: LogOptions {
            segment_bytes: 128 * 1024,
        },
        store: StorePlace::Memory,
        lets_go_of_applied: false,
    }
}

/// One node, or what is on its way to become one.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) log: Option<LogStore>,
    starting: Option<JoinHandle<Result<Arc<Node>, NodeError>>>,
    node: Option<Arc<Node>>,
}

impl Member {
    /// Opens the volume and begins to start a node on it.
    pub(super) fn start(disk: &SimulatedDisk, wires: &Wires) -> Result<Self, Refusal> {
        Self::start_as(disk, wires, Setup::default())
    }

    /// As [`Self::start`], with a node that runs in another way.
    pub(super) fn start_as(
        disk: &SimulatedDisk,
        wires: &Wires,
        setup: Setup,
    ) -> Result<Self, Refusal> {
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let (volume, report) = open_volume(&file_system, &open_options())?;
        let id = volume.superblock.current().node_id.0;
        let mut network = None;
        let start_log = setup.start_log;
        let prepared = PreparedNode::with(volume, report, LIMITS, start_log, |peers, _| {
            let wires = wires.clone();
            network = Some(WiredNetwork {
                wires: wires.clone(),
                peers: peers.clone(),
            });
            Arc::new(WiredEntries { wires, peers })
        })
        .unwrap();
        wires.offer_entries(id, prepared.repair_source());
        let log = prepared.log().clone();
        let wires = wires.clone();
        let starting = tokio::spawn(async move {
            let retirement = prepared.retirement();
            let starting = async {
                prepared.ask_members().await?;
                prepared
                    .start_on(setup.node_options(), network.unwrap())
                    .await
            };
            let started = starting.await;
            if let Err(NodeError::Retired(retired)) = &started {
                retirement.mark(retired).unwrap();
            }
            let node = started?;
            wires.serve(&node);
            node.run();
            Ok(node)
        });
        Ok(Self {
            id,
            log: Some(log),
            starting: Some(starting),
            node: None,
        })
    }

    /// Stops the node, or what was on its way to become one. Once what is returned is dead, nothing
    /// writes to its disk any more.
    pub(super) async fn stop(&mut self) -> Weak<dyn Send + Sync> {
        if let Some(starting) = self.starting.take() {
            // It may wait for entries from nodes that it does not reach.
            starting.abort();
            match starting.await {
                Ok(Ok(node)) => self.node = Some(node),
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => {}
            }
        }
        if let Some(node) = self.node.take() {
            node.raft().shutdown().await.unwrap();
        }
        self.log.take().unwrap().life()
    }

    /// The node, once it runs.
    pub(super) async fn node(&mut self) -> Option<Arc<Node>> {
        self.started().await.map(Result::unwrap)
    }

    /// The node, once it runs, or why it does not.
    pub(super) async fn started(&mut self) -> Option<Result<Arc<Node>, NodeError>> {
        if self.starting.as_ref().is_some_and(JoinHandle::is_finished) {
            match self.starting.take().unwrap().await.unwrap() {
                Ok(node) => self.node = Some(node),
                Err(error) => return Some(Err(error)),
            }
        }
        self.node.clone().map(Ok)
    }

    /// Ends the process: what it wrote stays, nothing is handed over.
    pub(super) async fn kill(&mut self, wires: &Wires) {
        if let Some(node) = self.node().await {
            wires.cut(node.node_id().0);
            node.raft().shutdown().await.unwrap();
        }
        self.node = None;
        self.log = None;
    }
}

/// A cluster that runs, each member on a disk of its own.
pub(super) struct Running {
    pub(super) wires: Wires,
    pub(super) disks: Vec<SimulatedDisk>,
    pub(super) members: Vec<Member>,
    next_number: usize,
}

impl Running {
    /// Starts a member on each disk, and waits until all run and one leads.
    pub(super) async fn start(disks: Vec<SimulatedDisk>, next_number: usize) -> Self {
        let wires = Wires::default();
        let members = disks
            .iter()
            .map(|disk| {
                let started = Member::start(disk, &wires);
                started.map_err(|refusal| refusal.report).unwrap()
            })
            .collect();
        let mut running = Self {
            wires,
            disks,
            members,
            next_number,
        };
        running.nodes().await;
        running.leader().await;
        running
    }

    /// All nodes, once they run.
    pub(super) async fn nodes(&mut self) -> Vec<Arc<Node>> {
        let mut patience = Patience::default();
        loop {
            let mut nodes = Vec::new();
            for member in &mut self.members {
                nodes.extend(member.node().await);
            }
            if nodes.len() == self.members.len() {
                return nodes;
            }
            patience.pause("all nodes to start").await;
        }
    }

    /// Which member leads, once one does.
    pub(super) async fn leader(&mut self) -> (usize, Arc<Node>) {
        let mut patience = Patience::default();
        loop {
            for (number, member) in self.members.iter_mut().enumerate() {
                if let Some(Ok(node)) = member.started().await
                    && node.is_leader()
                {
                    return (number, node);
                }
            }
            patience.pause("a leader").await;
        }
    }

    /// Commits one more entry, whoever leads.
    pub(super) async fn write(&mut self) {
        let number = self.next_number;
        self.next_number += 1;
        let mut patience = Patience::default();
        loop {
            let (_, leader) = self.leader().await;
            let command = insert(number, leader.state().data_index(), 700);
            let written = leader.raft().client_write(command).await;
            if written.is_ok_and(|written| matches!(written.data.0, Outcome::Applied(_))) {
                return;
            }
            patience.pause("a write").await;
        }
    }

    /// Kills a member and starts it on what its disk holds.
    pub(super) async fn restart(&mut self, number: usize, disk: SimulatedDisk) {
        self.members[number].kill(&self.wires).await;
        self.members[number] = Member::start(&disk, &self.wires)
            .map_err(|refusal| refusal.report)
            .unwrap();
        self.disks[number] = disk;
    }

    /// Waits until these members have applied the same, with the same digest.
    pub(super) async fn agree(&mut self, numbers: &[usize]) {
        let (_, leader) = self.leader().await;
        let wanted = leader.raft().metrics().borrow_watched().last_log_index;
        let mut patience = Patience::default();
        for number in numbers {
            loop {
                let node = self.members[*number].node().await;
                let applied = node.and_then(|node| node.state().applied());
                if applied.map(|applied| applied.index) >= wanted {
                    break;
                }
                patience.pause("all to be applied").await;
            }
        }
        let digest = leader.state().digest();
        for number in numbers {
            let node = self.members[*number].node().await.unwrap();
            assert_eq!(node.state().digest(), digest, "member {number}");
        }
    }
}

/// A runtime whose clock jumps to the next timer whenever nothing is left to do.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// Waiting that comes to an end.
#[derive(Debug)]
pub(super) struct Patience {
    until: tokio::time::Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            until: tokio::time::Instant::now() + Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// Lets the others go on for a moment.
    pub(super) async fn pause(&mut self, what: &str) {
        assert!(
            tokio::time::Instant::now() < self.until,
            "waited for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command that inserts one quad, of about `bytes` bytes.
pub(super) fn insert(number: usize, base_index: u64, bytes: usize) -> EncodedCommand {
    let node = |name: &str| NamedNode::new(format!("http://example.com/{name}")).unwrap();
    let value = format!("{number}-{}", "x".repeat(bytes));
    let quad = Quad::new(
        node(&format!("s{number}")),
        node("p"),
        Literal::new_simple_literal(value),
        GraphName::DefaultGraph,
    );
    let effects = Effects {
        inserts: vec![quad],
        ..Effects::default()
    };
    let command = Command {
        base_index,
        requests: vec![(RequestId((number as u128 + 1).to_le_bytes()), effects)],
    };
    EncodedCommand(command.encode().into())
}

/// A cluster that was stopped with everything replicated, and what its log holds.
pub(super) struct Stopped {
    pub(super) disks: Vec<SimulatedDisk>,
    /// Digest after each entry, by index.
    pub(super) digests: BTreeMap<u64, Digest>,
    pub(super) data_indices: Vec<u64>,
    pub(super) last_index: u64,
}

/// Forms a cluster of three, writes `entries` entries, and stops it once all have applied them.
pub(super) fn form(entries: usize) -> Stopped {
    let disks: Vec<SimulatedDisk> = (0..3).map(|_| SimulatedDisk::new()).collect();
    let inner = disks.clone();
    let (digests, data_indices, last_index) = run(async move {
        let wires = Wires::default();
        let mut members: Vec<Member> = Vec::new();
        for disk in &inner {
            members.push(
                Member::start(disk, &wires)
                    .map_err(|refusal| refusal.report)
                    .unwrap(),
            );
        }
        let mut nodes = Vec::new();
        let mut patience = Patience::default();
        while nodes.len() < members.len() {
            patience.pause("all nodes to start").await;
            nodes.clear();
            for member in &mut members {
                nodes.extend(member.node().await);
            }
        }
        let addresses = nodes
            .iter()
            .map(|node| (node.node_id().0, MemberAddresses::default()))
            .collect();
        nodes[0].initialise(addresses).await.unwrap();
        let leader = loop {
            patience.pause("a leader").await;
            if let Some(leader) = nodes.iter().find(|node| node.is_leader()) {
                break leader.clone();
            }
        };
        let mut digests = BTreeMap::new();
        let mut indices = Vec::new();
        for number in 0..entries {
            // A leader that was just elected commits an entry of its own first.
            let written = leader
                .raft()
                .client_write(insert(number, leader.state().data_index(), 700))
                .await
                .unwrap();
            let index = written.log_id.index;
            if digests.is_empty() {
                (0..index).for_each(|earlier| {
                    digests.insert(earlier, Digest::ZERO);
                });
            }
            digests.insert(index, leader.state().digest());
            indices.push(index);
        }
        let last = *indices.last().unwrap();
        while nodes
            .iter()
            .any(|node| node.state().applied().map(|applied| applied.index) != Some(last))
        {
            patience.pause("all nodes to apply everything").await;
        }
        for node in &nodes {
            node.raft().shutdown().await.unwrap();
        }
        (digests, indices, last)
    });
    Stopped {
        disks: disks.iter().map(SimulatedDisk::kill).collect(),
        digests,
        data_indices,
        last_index,
    }
}

/// Where an entry stands on a disk: the file, and its place.
pub(super) fn place_of(disk: &SimulatedDisk, index: u64) -> (PathBuf, EntryLocation) {
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let data = Path::new(DATA);
    let opened = crate::identity::SuperblockFile::open(disk, data, crate::disk::OpenMode::Read);
    let (superblock, _) = opened.unwrap().unwrap();
    let folder = data.join("log");
    let identity = log_identity(superblock.current());
    let contents = inspect_log(&file_system, &folder, identity, true)
        .unwrap()
        .contents;
    let location = contents.get(index).unwrap();
    (
        folder.join(format!("{:016}.log", location.segment)),
        location,
    )
}
