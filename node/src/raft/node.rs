//! A running node: one volume, one Raft core, one writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::network::NetSnapshot;
use openraft::{Config, RaftNetworkFactory, SnapshotPolicy};
use prometheus_client::registry::Registry;
use quadraft_protocol::{NodeId, RecoveryReport, v1};
use uuid::Uuid;

use super::contact::leading;
use super::damaged_store::{DamagedStore, Sources, why_not_started};
use super::log_storage::LogStorage;
use super::network::Network;
use super::order_watch::OrderWatch;
use super::peers::{LocalIdentity, Peers};
use super::repair::{
    MemberEntries, PeerEntries, RepairSource, Repairer, settle, start_standing_aside,
};
use super::retirement::{Retired, Retirement};
use super::seen::SeenFile;
use super::set_back::{ask_members, start_remembering};
use super::space::{Space, SpaceLimits, SpaceWatch, start_handing_over};
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use super::writer::Writer;
use crate::disk::VolumeLock;
use crate::identity::{SuperblockFile, VoteFile};
use crate::log::{LogOptions, LogStore, OpenedLog};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::recovery::Volume;
use crate::snapshots::{SnapshotFile, SnapshotKeeper, Snapshots};
use crate::sparql::update::EvaluationLimits;
use crate::state::State;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub election_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    /// A snapshot is taken after this many entries, when the log has grown enough for another, and
    /// the log below it let go.
    pub snapshot_after_entries: u64,
    pub evaluation_limits: EvaluationLimits,
}

impl NodeOptions {
    pub(super) fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.election_timeout_ms)
    }
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the options do not fit together: {0}")]
    Options(String),
    #[error("failed to start the log's thread")]
    Log(#[source] std::io::Error),
    #[error("entries that are needed cannot be had: {0}")]
    Settle(String),
    #[error("failed to start the Raft core: {0}")]
    Raft(String),
    /// The next start rebuilds the store.
    #[error("the store is damaged, and is rebuilt at the next start: {0}")]
    StoreDamaged(String),
    /// Nobody else has its data: the store is kept as it is.
    #[error("the store is damaged, and is not rebuilt because nobody else has its data: {0}")]
    OnlyCopyDamaged(String),
    #[error(transparent)]
    Retired(#[from] Retired),
}

/// Why a node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The disk failed a write or an fsync: what is durable is unknown until the next start.
    DiskFailed(String),
    /// The store holds other data than was applied to it: the next start rebuilds it.
    StoreDamaged(String),
    /// Likewise, but nobody else has this data: the store is kept as it is.
    OnlyCopyDamaged(String),
    /// The volume is never to be served from again.
    Retired(Retired),
    /// Anything else that ended the Raft core.
    CoreStopped(String),
}

/// Who knows how far scrubbing is.
pub(crate) trait ShowsScrub: std::fmt::Debug + Send + Sync {
    fn message(&self) -> v1::Scrub;
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    raft: openraft::Raft<TypeConfig, StateMachine>,
    state: Arc<State>,
    log: LogStore,
    keeper: Arc<SnapshotKeeper>,
    snapshots: Snapshots,
    peers: Arc<Peers>,
    repairer: Arc<Repairer>,
    repair_source: Arc<RepairSource>,
    writer: Writer,
    space: Space,
    options: NodeOptions,
    report: RecoveryReport,
    /// Nobody new is to be sent here.
    leaving: AtomicBool,
    stopping: AtomicBool,
    divergences: Mutex<Vec<v1::Divergence>>,
    scrub: OnceLock<Arc<dyn ShowsScrub>>,
    pub(super) damaged_store: DamagedStore,
    data: PathBuf,
    _lock: VolumeLock,
}

/// How the log of a volume is started: by its own thread, or, in simulations, without one.
pub(super) type StartLog =
    fn(OpenedLog, VoteFile, Arc<Mutex<SuperblockFile>>) -> Result<LogStore, std::io::Error>;

/// A node whose log can be read by peers, and whose Raft core does not run yet.
#[derive(Debug)]
pub struct PreparedNode {
    log: LogStore,
    state: Arc<State>,
    snapshots: Snapshots,
    snapshot: Option<SnapshotFile>,
    peers: Arc<Peers>,
    repairer: Arc<Repairer>,
    repair_source: Arc<RepairSource>,
    space: Space,
    superblock: Arc<Mutex<SuperblockFile>>,
    members: Arc<dyn PeerEntries>,
    report: RecoveryReport,
    data: PathBuf,
    lock: VolumeLock,
}

impl PreparedNode {
    /// Starts the log of an opened volume that is claimed for a cluster. What cannot be read of it is
    /// repaired once the members were asked.
    ///
    /// # Errors
    /// When the log's thread cannot be started.
    pub fn new(
        volume: Volume,
        report: RecoveryReport,
        limits: SpaceLimits,
    ) -> Result<Self, NodeError> {
        let members = volume.membership.clone();
        Self::with(volume, report, limits, LogStore::start, |peers, state| {
            Arc::new(MemberEntries {
                peers,
                state,
                membership: members,
            })
        })
    }

    /// As [`Self::new`], with a log started and peers reached in another way.
    pub(crate) fn with(
        volume: Volume,
        report: RecoveryReport,
        limits: SpaceLimits,
        start_log: StartLog,
        entries: impl FnOnce(Arc<Peers>, Arc<State>) -> Arc<dyn PeerEntries>,
    ) -> Result<Self, NodeError> {
        let superblock = volume.superblock.current().clone();
        let file_system = volume.log.files.file_system.clone();
        let (seen_file, seen) = SeenFile::open(file_system.clone(), &volume.data);
        let identity = LocalIdentity {
            cluster_uuid: superblock.cluster_uuid,
            node_id: superblock.node_id,
            incarnation: superblock.incarnation,
            boot_count: superblock.boot_count,
        };
        let peers = Arc::new(Peers::new(identity, seen));
        let shared_superblock = Arc::new(Mutex::new(volume.superblock));
        let log = start_log(volume.log, volume.vote, shared_superblock.clone())
            .map_err(NodeError::Log)?;
        peers.vouch_by(log.clone());
        let state = Arc::new(volume.state);
        let members = entries(peers.clone(), state.clone());
        let repairer = Repairer::new(log.clone(), state.clone(), members.clone());
        start_remembering(&peers, state.clone(), log.clone(), seen_file);
        let space = Space::new(limits);
        SpaceWatch {
            space: space.clone(),
            file_system,
            data: volume.data.clone(),
            log: log.clone(),
            peers: Arc::downgrade(&peers),
        }
        .start();
        Ok(Self {
            repair_source: Arc::new(RepairSource::new(
                log.clone(),
                peers.clone(),
                volume.snapshots.clone(),
            )),
            log,
            state,
            snapshots: volume.snapshots,
            snapshot: volume.snapshot,
            peers,
            repairer,
            space,
            superblock: shared_superblock,
            members,
            report,
            data: volume.data,
            lock: volume.lock,
        })
    }

    /// The log.
    #[cfg(test)]
    pub(crate) fn log(&self) -> &LogStore {
        &self.log
    }

    /// What peers may ask for already.
    #[must_use]
    pub fn repair_source(&self) -> Arc<RepairSource> {
        self.repair_source.clone()
    }

    /// Asks the other members what they have seen of this node, for a few seconds at most. Nothing is
    /// promised to anybody before.
    ///
    /// # Errors
    /// When one has seen more than this volume has: it was set back in time.
    pub async fn ask_members(&self) -> Result<(), NodeError> {
        ask_members(&self.peers, &self.members)
            .await
            .map_err(|set_back| NodeError::Retired(set_back.into()))?;
        self.take_part();
        Ok(())
    }

    /// Gives entries to peers, and takes some from them: from now on they know of this start.
    fn take_part(&self) {
        self.repair_source.open();
        self.repairer.start();
    }

    /// What [`Self::start`] may have to be given up for.
    #[must_use]
    pub fn retirement(&self) -> Retirement {
        Retirement::new(self.superblock.clone())
    }

    /// Starts the Raft core. It does nothing by itself until [`Node::run`].
    ///
    /// # Errors
    /// When the options do not fit together, or the core refuses the volume.
    pub async fn start(self, options: NodeOptions) -> Result<Arc<Node>, NodeError> {
        let network = Network::new(self.peers.clone());
        self.start_on(options, network).await
    }

    /// As [`Self::start`], on another network.
    pub(crate) async fn start_on<N>(
        self,
        options: NodeOptions,
        network: N,
    ) -> Result<Arc<Node>, NodeError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: NetSnapshot<TypeConfig, SnapshotData = SnapshotFile>,
    {
        self.take_part();
        let config = raft_config(&options)?;
        let keeper = SnapshotKeeper::new(self.state.clone(), self.snapshots.clone(), self.snapshot);
        let sources = Sources {
            log: self.log.clone(),
            keeper: keeper.clone(),
            has_other_members: self.repairer.has_peers(),
        };
        let why = |error| {
            why_not_started(
                error,
                &self.state,
                sources.clone(),
                &self.snapshots,
                &self.data,
            )
        };
        let settled = settle(
            &self.repairer,
            &self.log,
            &keeper,
            &self.snapshots,
            self.peers.identity().node_id,
        );
        if let Err(error) = settled.await {
            return Err(why(NodeError::Settle(crate::describe::describe(&error))).await);
        }
        let order = OrderWatch::new(self.log.clone(), keeper.clone());
        let state_machine = StateMachine::new(
            keeper.clone(),
            order.clone(),
            self.space.clone(),
            self.log.clone(),
        );
        let raft = openraft::Raft::build(
            self.peers.identity().node_id.0,
            Arc::new(config),
            network,
            LogStorage::new(self.log.clone(), self.repairer.clone(), order),
            state_machine,
        )
        .await;
        let raft = match raft {
            Ok(raft) => raft,
            Err(error) => return Err(why(NodeError::Raft(error.to_string())).await),
        };
        self.peers.lead_by({
            let (metrics, state) = (raft.metrics(), self.state.clone());
            move || leading(&metrics.borrow_watched(), &state)
        });
        let writer = Writer::start(
            raft.clone(),
            self.state.clone(),
            options.evaluation_limits,
            self.space.clone(),
            options.election_timeout(),
        );
        let node = Arc::new(Node {
            raft,
            state: self.state,
            log: self.log,
            keeper,
            snapshots: self.snapshots,
            peers: self.peers,
            repairer: self.repairer,
            repair_source: self.repair_source,
            writer,
            options,
            report: self.report,
            leaving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            divergences: Mutex::default(),
            scrub: OnceLock::new(),
            damaged_store: DamagedStore::default(),
            data: self.data,
            _lock: self.lock,
            space: self.space,
        });
        start_handing_over(&node);
        start_standing_aside(&node);
        Ok(node)
    }
}

impl Node {
    /// Prepares and starts a node at once, where no peer can ask for entries in between.
    ///
    /// # Errors
    /// As [`PreparedNode::new`] and [`PreparedNode::start`].
    pub async fn start(
        volume: Volume,
        report: RecoveryReport,
        options: NodeOptions,
    ) -> Result<Arc<Self>, NodeError> {
        let limits = SpaceLimits::for_segments(LogOptions::default().segment_bytes);
        PreparedNode::new(volume, report, limits)?
            .start(options)
            .await
    }

    /// What peers that cannot read an entry may ask for.
    pub(crate) fn repair_source(&self) -> &Arc<RepairSource> {
        &self.repair_source
    }

    pub(crate) fn repairer(&self) -> &Arc<Repairer> {
        &self.repairer
    }

    /// Log ids of entries that were repaired from peers since the start.
    pub(crate) fn repaired_from_peers(&self) -> Vec<LogPosition> {
        self.repairer.repaired()
    }

    /// Registers what this node counts by itself.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.repairer.register_metrics(registry);
    }

    /// Lets the Raft core go: call it once the peer port is served.
    pub fn run(&self) {
        self.raft.run();
    }

    /// Waits until the node must not go on: the disk failed, the volume is not to be served from
    /// any more, the store has to be rebuilt, or the Raft core has stopped by itself.
    pub async fn stopped(self: &Arc<Self>) -> StopReason {
        let reason = tokio::select! {
            // Also when nothing is asked of the log that would tell the core.
            () = self.log.failed() => self.stop_reason(String::new()),
            set_back = self.peers.set_back() => StopReason::Retired(set_back.into()),
            reason = self.core_stopped() => reason,
            what = self.store_damaged() => StopReason::StoreDamaged(what),
        };
        // The core ends when an entry cannot be applied, or a snapshot cannot be written.
        match (&reason, self.state.damage()) {
            (StopReason::CoreStopped(_), Some(what)) => match self.order_rebuild(&what) {
                Ok(true) => StopReason::StoreDamaged(what),
                Ok(false) => StopReason::OnlyCopyDamaged(what),
                Err(error) => {
                    tracing::error!(%error, "the rebuild of the store cannot be ordered");
                    reason
                }
            },
            _ => reason,
        }
    }

    async fn core_stopped(&self) -> StopReason {
        let mut metrics = self.raft.metrics();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(error) = running {
                return self.stop_reason(error.to_string());
            }
            // A core that panicked freezes its metrics; only the closed channel tells.
            if metrics.changed().await.is_err() {
                return self.stop_reason("the Raft core has ended".to_owned());
            }
        }
    }

    fn stop_reason(&self, error: String) -> StopReason {
        if let Some(failure) = self.log.failure() {
            return StopReason::DiskFailed(failure);
        }
        StopReason::CoreStopped(error)
    }

    /// Is not ready any more, and hands leadership away if it can. Whoever comes nevertheless is served.
    pub async fn leave(&self, deadline: Duration) {
        self.leaving.store(true, Ordering::SeqCst);
        if self.is_leader() {
            match self.transfer_leadership(None, deadline).await {
                Ok((leader, term)) => {
                    tracing::info!(leader = %NodeId(leader), term, "leadership was handed on");
                }
                Err(error) => tracing::info!(%error, "leadership is not handed on"),
            }
        }
    }

    /// Takes no more requests, hands leadership away if it can, and stops the core.
    pub async fn stop(&self, deadline: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        self.leave(deadline).await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the Raft core did not stop cleanly");
        }
        if let Err(error) = self.state.flush() {
            tracing::warn!(%error, "the store was not flushed; the log has everything");
        }
    }

    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.peers.identity().node_id
    }

    #[must_use]
    pub fn cluster_uuid(&self) -> Uuid {
        self.peers.identity().cluster_uuid
    }

    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What recovery found at this start.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Whether nobody new is to be sent here.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whether the node does its work: false once the core has stopped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_ok()
    }

    pub(super) fn divergences(&self) -> Vec<v1::Divergence> {
        self.divergences
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Remembers that another replica's digest differs at an equal index.
    pub(super) fn note_divergence(&self, divergence: v1::Divergence) {
        let mut divergences = self
            .divergences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The first difference is kept: what differs later follows from it.
        if divergences
            .iter()
            .all(|known| known.node_id != divergence.node_id)
        {
            divergences.push(divergence);
        }
    }

    pub(crate) fn raft(&self) -> &openraft::Raft<TypeConfig, StateMachine> {
        &self.raft
    }

    pub(crate) fn log(&self) -> &LogStore {
        &self.log
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Who keeps the snapshot that counts.
    pub(crate) fn keeper(&self) -> &Arc<SnapshotKeeper> {
        &self.keeper
    }

    /// Has the status show how far scrubbing is; the first who says so is asked.
    pub(crate) fn show_scrub(&self, scrub: Arc<dyn ShowsScrub>) {
        let _ = self.scrub.set(scrub);
    }

    /// How far scrubbing is; all zero when it is off.
    pub(super) fn scrub(&self) -> v1::Scrub {
        self.scrub
            .get()
            .map_or_else(v1::Scrub::default, |scrub| scrub.message())
    }

    /// Whether anybody else may have what is damaged here.
    pub(crate) fn has_other_members(&self) -> bool {
        self.repairer.has_peers()
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn options(&self) -> &NodeOptions {
        &self.options
    }

    pub(crate) fn data(&self) -> &std::path::Path {
        &self.data
    }

    /// Takes a snapshot now and waits until it is durable.
    pub(crate) async fn take_snapshot(
        &self,
        deadline: Duration,
    ) -> Result<Option<v1::LogId>, String> {
        let applied = self.state.applied();
        self.keeper.growth().ask();
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| error.to_string())?;
        // The same channel that is looked at: another one may be told of a change before this.
        let mut metrics = self.raft.metrics();
        let until = Instant::now() + deadline;
        loop {
            let snapshot = metrics.borrow_watched().snapshot;
            if snapshot.as_ref().map(super::types::to_position) >= applied {
                return Ok(snapshot.as_ref().map(super::codec::log_id_message));
            }
            let remaining = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(remaining, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the node is stopping".to_owned()),
                Err(_) => return Err("the snapshot was not finished in time".to_owned()),
            }
        }
    }
}

/// The settings of the Raft core. docs/decisions/0002-openraft.md says why each is as it is.
fn raft_config(options: &NodeOptions) -> Result<Config, NodeError> {
    let election = options.election_timeout_ms;
    if options.heartbeat_interval_ms == 0 || options.heartbeat_interval_ms * 3 > election {
        return Err(NodeError::Options(format!(
            "the election timeout ({election} ms) must be at least three heartbeat intervals ({} ms)",
            options.heartbeat_interval_ms
        )));
    }
    Config {
        cluster_name: "quadraft".to_owned(),
        // A follower of the library trusts its leader for the longer of these two, and calls an
        // election when as much again as it chose between them has passed without a word: after
        // one and eight tenths to two election timeouts, when the leader has not led for most of
        // one (see `contact`). The shorter is also how long votes are waited for, and a vote takes a
        // disk two syncs.
        election_timeout_min: election * 8 / 10,
        election_timeout_max: election,
        heartbeat_interval: options.heartbeat_interval_ms,
        install_snapshot_timeout: 600_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_after_entries),
        // As many entries as until the next snapshot: a member that takes one in, while others write,
        // must find the log to go on from it, or it is sent snapshots for ever.
        max_in_snapshot_log_to_keep: options.snapshot_after_entries.max(1),
        enable_pre_vote: Some(true),
        // A restarted leader must win an election again: it may have lost at power loss what
        // followers hold, and would use the same log ids for other entries.
        enable_leader_restore: Some(is_planted(Bug::LeaderRestored)),
        allow_log_reversion: Some(false),
        ..Config::default()
    }
    .validate()
    .map_err(|error| NodeError::Options(error.to_string()))
}
