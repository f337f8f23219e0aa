//! A snapshot in the place of entries that cannot be read here, and that the others have let go.
//!
//! What a snapshot holds is committed, so whoever has it needs none of the entries up to its
//! position. Nothing is truncated or pretended: the log goes on to hold what it held beyond.

use std::io;
use std::sync::Arc;

use quadraft_protocol::NodeId;

use super::{RepairError, Repairer};
use crate::identity::StoredVote;
use crate::log::LogStore;
use crate::position::LogPosition;
use crate::snapshots::{SnapshotError, SnapshotFile, SnapshotKeeper, Snapshots};

/// Before the Raft core starts: waits until every entry can be read, or is held by a snapshot that
/// was put in its place.
///
/// # Errors
/// When a repair could not be written, or a snapshot not be installed.
pub(crate) async fn settle(
    repairer: &Repairer,
    log: &LogStore,
    keeper: &Arc<SnapshotKeeper>,
    snapshots: &Snapshots,
    node_id: NodeId,
) -> Result<(), SettleError> {
    // A store that was lost is made from the snapshot only when the core starts.
    let held = || keeper.state().applied().max(keeper.position());
    while let Some((entry, peer)) = repairer.settle(held()).await? {
        let own = keeper.current().filter(|snapshot| holds(snapshot, entry));
        let snapshot = match (own, peer) {
            (Some(own), _) => own,
            // The store has what the entry did.
            (None, None) => blocking(keeper, SnapshotKeeper::build).await?,
            (None, Some(peer)) => match fetch(repairer, peer, entry, snapshots).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    tracing::info!(peer = %NodeId(peer), error, "a peer gives no snapshot");
                    repairer.next_round().await?;
                    continue;
                }
            },
        };
        put_in_place(log, keeper, &snapshot, node_id).await?;
        tracing::warn!(%entry, path = %snapshot.path().display(),
            "a snapshot holds what could not be read of the log");
    }
    Ok(())
}

async fn fetch(
    repairer: &Repairer,
    peer: u64,
    entry: LogPosition,
    snapshots: &Snapshots,
) -> Result<SnapshotFile, String> {
    let fetched = repairer.fetch_snapshot(peer, entry, snapshots).await?;
    if holds(&fetched, entry) {
        Ok(fetched)
    } else {
        Err(format!("its snapshot does not reach entry {entry}"))
    }
}

async fn blocking<T: Send + 'static>(
    keeper: &Arc<SnapshotKeeper>,
    work: impl FnOnce(&SnapshotKeeper) -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SettleError> {
    let keeper = keeper.clone();
    tokio::task::spawn_blocking(move || work(&keeper))
        .await
        .map_err(|error| SettleError::Log(io::Error::other(error)))?
        .map_err(SettleError::Snapshot)
}

/// Why a node could not be brought to where it can start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error(transparent)]
    Snapshot(SnapshotError),
    #[error("failed to let go of what a snapshot holds")]
    Log(#[source] io::Error),
}

fn position(snapshot: &SnapshotFile) -> Option<LogPosition> {
    snapshot.summary().status.applied
}

fn holds(snapshot: &SnapshotFile, entry: LogPosition) -> bool {
    position(snapshot).is_some_and(|position| position.index >= entry.index)
}

/// The snapshot is durable; then the store takes it in, and only then the log lets go of what it
/// holds. After a crash in between the same is done again.
async fn put_in_place(
    log: &LogStore,
    keeper: &Arc<SnapshotKeeper>,
    snapshot: &SnapshotFile,
    node_id: NodeId,
) -> Result<(), SettleError> {
    if position(snapshot) > keeper.state().applied() {
        let installed = snapshot.clone();
        blocking(keeper, move |keeper| keeper.install(&installed)).await?;
    }
    let Some(position) = position(snapshot) else {
        return Ok(());
    };
    // No log may be ahead of the vote.
    if log.vote().is_none_or(|vote| vote.term < position.term) {
        let vote = StoredVote::taking_up(position.term, node_id);
        log.durably(|log, done| log.save_vote(vote, done))
            .await
            .map_err(SettleError::Log)?;
    }
    // Entries of another history behind the snapshot were never committed.
    if log
        .position(position.index)
        .is_some_and(|held| held != position)
    {
        log.durably(|log, done| log.truncate_after(log.state().committed, done))
            .await
            .map_err(SettleError::Log)?;
    }
    log.durably(|log, done| log.purge(position, done))
        .await
        .map_err(SettleError::Log)
}
