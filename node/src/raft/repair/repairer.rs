//! Who repairs: asks one peer after another, compares, and writes anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::registry::Registry;
use quadraft_protocol::NodeId;
use tokio::sync::{Notify, watch};

use super::figures::RepairFigures;
use super::round::{Elsewhere, Round};
use super::{PeerEntries, PeerEntry};
use crate::log::{LogError, LogStore};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotFile, Snapshots};
use crate::state::State;

/// Names asked for in one call.
const MAXIMUM_NAMES: usize = 64;
/// When no peer has what is missing, they are asked again after this: one may have been down.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Repairs what cannot be read. Readers wait for it.
#[derive(Debug)]
pub(crate) struct Repairer {
    log: LogStore,
    state: Arc<State>,
    source: Arc<dyn PeerEntries>,
    wanted: Notify,
    rounds: watch::Sender<u64>,
    repaired: Mutex<Vec<LogPosition>>,
    started: AtomicBool,
    /// A reason why repair cannot go on, once there is one: a write of it failed.
    failure: Mutex<Option<String>>,
    figures: RepairFigures,
    /// Entries that no peer gave in the last round.
    elsewhere: Mutex<BTreeMap<LogPosition, Elsewhere>>,
}

/// Why an entry will not be repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error("entry {entry} cannot be repaired: {reason}")]
    Failed { entry: LogPosition, reason: String },
    #[error("the node is stopping")]
    Stopped,
}

impl Repairer {
    pub(crate) fn new(log: LogStore, state: Arc<State>, source: Arc<dyn PeerEntries>) -> Arc<Self> {
        Arc::new(Self {
            log,
            state,
            source,
            wanted: Notify::new(),
            rounds: watch::channel(0).0,
            repaired: Mutex::default(),
            started: AtomicBool::new(false),
            failure: Mutex::default(),
            figures: RepairFigures::default(),
            elsewhere: Mutex::default(),
        })
    }

    /// Repairs whatever is found to be unreadable, until the last other holder is gone. Once is enough.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(this) = weak.upgrade() {
                // Nobody else holds it: nobody can ever want anything again.
                if Arc::strong_count(&this) == 1 {
                    return;
                }
                let progress = if this.log.unreadable().is_empty() {
                    false
                } else {
                    this.round().await
                };
                this.rounds.send_modify(|rounds| *rounds += 1);
                if !progress {
                    let _ = tokio::time::timeout(RETRY_PAUSE, this.wanted.notified()).await;
                }
            }
        });
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.figures.register(registry);
    }

    /// Log ids that were repaired since the start, in order of their repair.
    pub(crate) fn repaired(&self) -> Vec<LogPosition> {
        self.repaired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether there is anybody to ask.
    pub(crate) fn has_peers(&self) -> bool {
        !self.source.peers().is_empty()
    }

    /// Waits until an entry, which a reader found to be unreadable, can be read.
    pub(crate) async fn wait_for(&self, entry: LogPosition) -> Result<(), RepairError> {
        self.log.mark_unreadable(entry);
        let mut rounds = self.rounds.subscribe();
        tracing::warn!(%entry, "an entry cannot be read; it is fetched from a peer");
        // Once: who is not satisfied waits for the next round, at its own pace.
        self.wanted.notify_one();
        loop {
            if !self.log.unreadable().contains(&entry) {
                return Ok(());
            }
            if let Some(reason) = self.failure() {
                return Err(RepairError::Failed { entry, reason });
            }
            // A running core takes in no snapshot that its leader does not send, and lets go of
            // nothing that it is just about to send.
            let reason = match self.elsewhere().get(&entry) {
                Some(Elsewhere::InSnapshotOf(_)) => {
                    "the others have it in snapshots only, from which this node takes it at its \
                     next start"
                }
                Some(Elsewhere::Nowhere { .. }) if self.is_applied(entry) => {
                    "no member can give it; what it did is applied here, and a snapshot takes its \
                     place at the next start"
                }
                _ => {
                    rounds.changed().await.map_err(|_| RepairError::Stopped)?;
                    continue;
                }
            };
            return Err(RepairError::Failed {
                entry,
                reason: reason.to_owned(),
            });
        }
    }

    fn is_applied(&self, entry: LogPosition) -> bool {
        Some(entry.index) <= self.state.applied().map(|applied| applied.index)
    }

    /// Waits for the end of a round after which an entry stands in the way: it is not applied here,
    /// and no member can give it. Returns it, and who does not have it at all. Holds nothing of the
    /// repairer meanwhile; `None` once it is gone.
    pub(crate) async fn next_obstacle(this: &Weak<Self>) -> Option<(LogPosition, Vec<u64>)> {
        let mut rounds = this.upgrade()?.rounds.subscribe();
        loop {
            rounds.changed().await.ok()?;
            let this = this.upgrade()?;
            let unreadable = this.log.unreadable();
            let obstacle =
                this.elsewhere()
                    .into_iter()
                    .find_map(|(entry, elsewhere)| match elsewhere {
                        Elsewhere::Nowhere { lacking }
                            if unreadable.contains(&entry) && !this.is_applied(entry) =>
                        {
                            Some((entry, lacking))
                        }
                        _ => None,
                    });
            if obstacle.is_some() {
                return obstacle;
            }
        }
    }

    /// Before the Raft core starts, which may read any entry: waits until all can be read, or some
    /// have to be had from a snapshot. Then it gives the last of those, and the peer that has it in
    /// a snapshot; no peer is needed for what is `held` here, by the store or a snapshot.
    pub(crate) async fn settle(
        &self,
        held: Option<LogPosition>,
    ) -> Result<Option<(LogPosition, Option<u64>)>, RepairError> {
        let mut rounds = self.rounds.subscribe();
        loop {
            let missing = self.log.unreadable();
            let Some(entry) = missing.first().copied() else {
                return Ok(None);
            };
            if let Some(reason) = self.failure() {
                return Err(RepairError::Failed { entry, reason });
            }
            let elsewhere = self.elsewhere();
            let is_held = |entry: &LogPosition| Some(entry.index) <= held.map(|held| held.index);
            let from_a_snapshot =
                missing
                    .into_iter()
                    .rev()
                    .find_map(|entry| match elsewhere.get(&entry)? {
                        _ if is_held(&entry) => Some((entry, None)),
                        Elsewhere::InSnapshotOf(peer) => Some((entry, Some(*peer))),
                        Elsewhere::Nowhere { .. } => None,
                    });
            if from_a_snapshot.is_some() {
                return Ok(from_a_snapshot);
            }
            rounds.changed().await.map_err(|_| RepairError::Stopped)?;
        }
    }

    /// Waits until all peers were asked once more.
    pub(crate) async fn next_round(&self) -> Result<(), RepairError> {
        let mut rounds = self.rounds.subscribe();
        rounds.changed().await.map_err(|_| RepairError::Stopped)
    }

    /// See [`PeerEntries::fetch_snapshot`].
    pub(crate) async fn fetch_snapshot(
        &self,
        peer: u64,
        entry: LogPosition,
        snapshots: &Snapshots,
    ) -> Result<SnapshotFile, String> {
        self.source.fetch_snapshot(peer, entry, snapshots).await
    }

    fn elsewhere(&self) -> BTreeMap<LogPosition, Elsewhere> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks every peer once for what is missing; tells whether anything was repaired.
    async fn round(&self) -> bool {
        let mut progress = false;
        let mut round = Round::default();
        let peers = self.source.peers();
        for peer in peers.iter().copied() {
            let missing = self.log.unreadable();
            self.figures.note_unreadable(&missing);
            for names in missing.chunks(MAXIMUM_NAMES) {
                match self.source.fetch(peer, names).await {
                    Ok(fetched) => {
                        round.note(peer, names, &fetched.entries);
                        self.figures.count_message_bytes(fetched.message_bytes);
                        progress |= self.take_in(peer, names, fetched.entries).await;
                    }
                    Err(error) => {
                        tracing::info!(peer = %NodeId(peer), %error, "a peer gives no entries");
                        break;
                    }
                }
            }
        }
        *self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = round.elsewhere(peers.len());
        progress
    }

    async fn take_in(&self, peer: u64, names: &[LogPosition], entries: Vec<PeerEntry>) -> bool {
        let mut progress = false;
        for (name, entry) in names.iter().copied().zip(entries) {
            let PeerEntry::Held(payload) = entry else {
                continue;
            };
            let log = self.log.clone();
            let written = tokio::task::spawn_blocking(move || log.repair(name, &payload)).await;
            match written {
                Ok(Ok(())) => {
                    self.figures.note_repaired(name);
                    tracing::info!(entry = %name, peer = %NodeId(peer), "an entry was repaired from a peer");
                    self.repaired
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(name);
                    progress = true;
                }
                Ok(Err(error @ LogError::OtherPayload { .. })) => {
                    tracing::error!(peer = %NodeId(peer), %error, "a peer's entry is another one");
                }
                Ok(Err(error)) => {
                    tracing::error!(entry = %name, %error, "an entry cannot be written anew");
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(error.to_string());
                }
                Err(error) => tracing::error!(%error, "a repair broke off"),
            }
        }
        progress
    }
}
