//! openraft's state machine on our state.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::codec::{CodecError, decode_stored_membership, encode_stored_membership};
use super::keeper::SnapshotKeeper;
use super::order_watch::OrderWatch;
use super::snapshots::SnapshotFile;
use super::types::{
    Applied, EncodedCommand, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, to_log_id,
    to_position,
};
use crate::position::LogPosition;
use crate::state::{Apply, Command};

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// Entries applied in one store transaction.
const MAXIMUM_BATCH_ENTRIES: usize = 256;

/// The seam between openraft and [`State`].
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    keeper: Arc<SnapshotKeeper>,
    order: OrderWatch,
}

impl StateMachine {
    pub(crate) fn new(keeper: Arc<SnapshotKeeper>, order: OrderWatch) -> Self {
        Self { keeper, order }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, io::Error> + Send + 'static,
    ) -> Result<T, io::Error> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(this))
            .await
            .map_err(io::Error::other)?
    }
}

fn to_apply(entry: &Entry) -> Result<Apply, io::Error> {
    Ok(match &entry.payload {
        EntryPayload::Blank => Apply::Blank,
        EntryPayload::Membership(membership) => Apply::Membership(encode_stored_membership(
            &StoredMembership::new(Some(entry.log_id), membership.clone()),
        )),
        EntryPayload::Normal(EncodedCommand(bytes)) => {
            Apply::Command(Command::decode(bytes).map_err(io::Error::other)?)
        }
    })
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
                applies.push((to_position(&entry.log_id), to_apply(&entry)?));
                responders.push(responder);
            }
            let outcomes = self
                .blocking(move |this| {
                    this.keeper
                        .state()
                        .apply(&applies)
                        .map_err(io::Error::other)
                })
                .await?;
            for (outcome, responder) in outcomes.into_iter().zip(responders) {
                if let Some(responder) = responder {
                    responder.send(Applied(outcome));
                }
            }
        }
        Ok(())
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
        self.blocking(move |this| this.keeper.install(&snapshot).map_err(io::Error::other))
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
        self.blocking(|this| {
            let snapshot = this.keeper.build().map_err(io::Error::other)?;
            this.order.after("writing a snapshot");
            raft_snapshot(snapshot)
        })
        .await
    }
}
