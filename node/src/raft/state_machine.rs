//! openraft's state machine on our state.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::codec::{CodecError, decode_stored_membership, to_content};
use super::order_watch::OrderWatch;
use super::space::{Room, Space};
use super::types::{
    Applied, EncodedCommand, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, to_log_id,
    to_position,
};
use crate::log::LogStore;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotError, SnapshotFile, SnapshotKeeper};
use crate::state::Apply;

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// Entries applied in one store transaction.
const MAXIMUM_BATCH_ENTRIES: usize = 256;

/// So often the store may say that there is no space when there is, before it is opened anew.
const MAXIMUM_FAILURES_WITH_SPACE: u32 = 15;

/// The seam between openraft and [`State`].
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    keeper: Arc<SnapshotKeeper>,
    order: OrderWatch,
    space: Space,
    log: LogStore,
}

impl StateMachine {
    pub(crate) fn new(
        keeper: Arc<SnapshotKeeper>,
        order: OrderWatch,
        space: Space,
        log: LogStore,
    ) -> Self {
        Self {
            keeper,
            order,
            space,
            log,
        }
    }

    /// Has the store write what it keeps in memory when that is much. Entries go on being applied.
    fn flush_when_due(&self) {
        if !self.keeper.state().is_flush_due() {
            return;
        }
        let keeper = self.keeper.clone();
        tokio::task::spawn_blocking(move || {
            // Nothing that was promised depends on it, and what comes next fails in the same way.
            if let Err(error) = keeper.state().flush_in_turn() {
                tracing::warn!(
                    error = %crate::describe::describe(&error),
                    "the store could not be flushed"
                );
            }
        });
    }

    /// Does something that writes to the disk. An error would end the core: as long as nothing is
    /// wrong but that the disk is full, it waits for space and tries again.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl Fn(&Self) -> Result<T, SnapshotError> + Send + Sync + 'static,
    ) -> Result<T, io::Error> {
        let work = Arc::new(work);
        self.space.usable().await;
        let mut failures_with_space = 0;
        loop {
            let (this, work) = (self.clone(), work.clone());
            let done = tokio::task::spawn_blocking(move || work(&this))
                .await
                .map_err(io::Error::other)?;
            match done {
                Err(error) if error.is_out_of_space() => {
                    tracing::warn!(
                        error = %crate::describe::describe(&error),
                        "the store waits for space on the disk"
                    );
                    // RocksDB recovers by itself from most such errors, but not from all.
                    if self.space.status().room == Room::Enough {
                        failures_with_space += 1;
                    }
                    if failures_with_space > MAXIMUM_FAILURES_WITH_SPACE {
                        return Err(io::Error::other(
                            "the store does not go on although there is space again; the next \
                             start opens it anew",
                        ));
                    }
                    self.space.after_failure().await;
                }
                done => return done.map_err(io::Error::other),
            }
        }
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(EncodedCommand(command)) => command.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn to_apply(entry: &Entry) -> Result<Apply, io::Error> {
    let content = to_content(&entry.payload);
    let position = to_position(&entry.log_id);
    content.into_apply(position).map_err(io::Error::other)
}

fn stored_membership(bytes: Option<&[u8]>) -> Result<StoredMembership, CodecError> {
    bytes.map_or_else(|| Ok(StoredMembership::default()), decode_stored_membership)
}

fn raft_snapshot(snapshot: SnapshotFile) -> Result<RaftSnapshot, io::Error> {
    let status = &snapshot.summary().status;
    let meta = SnapshotMeta {
        last_log_id: status.applied.map(to_log_id),
        last_membership: stored_membership(status.membership.as_deref())
            .map_err(io::Error::other)?,
    };
    Ok(Snapshot { meta, snapshot })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let status = self.keeper.state().status();
        let membership =
            stored_membership(status.membership.as_deref()).map_err(io::Error::other)?;
        Ok((status.applied.map(to_log_id), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        // What has arrived together is applied in one transaction.
        let mut batches = entries.ready_chunks(MAXIMUM_BATCH_ENTRIES);
        while let Some(batch) = batches.next().await {
            let mut applies: Vec<(LogPosition, Apply)> = Vec::with_capacity(batch.len());
            let mut responders = Vec::with_capacity(batch.len());
            for item in batch {
                let (entry, responder) = item?;
                self.keeper.growth().note_entry(payload_bytes(&entry));
                applies.push((to_position(&entry.log_id), to_apply(&entry)?));
                responders.push(responder);
            }
            // The others may have committed what is still on its way to the disk here. A store that
            // is ahead of its log is one that has lost its log.
            if let Some((last, _)) = applies.last()
                && !is_planted(Bug::AppliedBeforeDurable)
            {
                self.log.durable_through(last.index).await?;
            }
            let outcomes = self
                .blocking(move |this| {
                    let applied = this.keeper.state().apply(&applies);
                    applied.map_err(|source| SnapshotError::state(Path::new("store"), source))
                })
                .await?;
            for (outcome, responder) in outcomes.into_iter().zip(responders) {
                if let Some(responder) = responder {
                    responder.send(Applied(outcome));
                }
            }
            self.flush_when_due();
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self> {
        // About the size of the last one, and room to spare.
        let length = self.keeper.current().and_then(|current| {
            let file = current.open().ok()?;
            file.file().length_bytes().ok()
        });
        let length = length.unwrap_or(0);
        let is_due = self.keeper.growth().is_enough(length) && self.space.takes_snapshot(length);
        (force || is_due).then(|| self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        // The file is durable under its name already (see `Snapshots::accept`): when the store is
        // ahead of the log after a crash, it tells that the store got there lawfully.
        self.blocking(move |this| this.keeper.install(&snapshot))
            .await?;
        self.order.after("installing a snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        self.keeper
            .current()
            .map(|snapshot| raft_snapshot(snapshot.kept_by(&self.keeper)))
            .transpose()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let snapshot = self.blocking(|this| this.keeper.build()).await?;
        self.order.after("writing a snapshot");
        raft_snapshot(snapshot)
    }
}
