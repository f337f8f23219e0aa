//! What a node does when its store cannot be read, or holds other data than was applied to it, while it
//! runs or when it starts.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::node::{Node, NodeError};
use super::remedy::{StoreRemedy, remedy};
use crate::log::LogStore;
use crate::snapshots::{SnapshotKeeper, Snapshots};
use crate::state::State;

/// A store that is damaged and kept all the same.
#[derive(Debug, Default)]
pub(super) struct DamagedStore {
    kept: Mutex<Option<String>>,
    /// Its rebuild is ordered. Several find the same damage at once.
    is_ordered: Mutex<bool>,
}

impl DamagedStore {
    /// What is wrong with a store that is kept because nobody else has its data.
    pub(super) fn kept(&self) -> Option<String> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn keep(&self, what: &str) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
    }
}

/// What a damaged store can be rebuilt from.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) log: LogStore,
    pub(super) keeper: Arc<SnapshotKeeper>,
    pub(super) has_other_members: bool,
}

impl Sources {
    /// What to do about a damaged store. The snapshot is read for this.
    fn remedy(&self) -> StoreRemedy {
        let has_everything = self.log_goes_on_from_snapshot()
            && (self.log.state().purged.is_none() || self.keeper.is_whole());
        remedy(has_everything, self.has_other_members)
    }

    /// Whether the log has everything, or everything behind the snapshot.
    fn log_goes_on_from_snapshot(&self) -> bool {
        let purged = self.log.state().purged;
        purged.is_none() || self.keeper.position() >= purged
    }
}

/// Why a node cannot be started. Entries are applied before it runs, so a damaged store may be found then
/// already: it is seen to as in a running node, or every start would find it again.
pub(super) async fn why_not_started(
    error: NodeError,
    state: &State,
    sources: Sources,
    snapshots: &Snapshots,
    data: &Path,
) -> NodeError {
    let Some(what) = state.damage() else {
        return error;
    };
    let decided = tokio::task::spawn_blocking(move || sources.remedy()).await;
    tracing::error!(what, ?decided, "the store is damaged");
    match decided {
        Ok(StoreRemedy::Keep) => NodeError::OnlyCopyDamaged(what),
        Ok(StoreRemedy::Rebuild | StoreRemedy::Return) => {
            let file_system = snapshots.file_system();
            match crate::recovery::order_rebuild(file_system.as_ref(), data, &what) {
                Ok(()) => NodeError::StoreDamaged(what),
                Err(error) => NodeError::Raft(format!(
                    "{what}, and its rebuild cannot be ordered: {error}"
                )),
            }
        }
        Err(_) => error,
    }
}

impl Node {
    fn sources(&self) -> Sources {
        Sources {
            log: self.log().clone(),
            keeper: self.keeper().clone(),
            has_other_members: self.has_other_members(),
        }
    }

    /// Waits until the store is found to be damaged and its rebuild is ordered, and says why. The
    /// only copy of the data is never given up: then this waits for ever.
    pub(super) async fn store_damaged(self: &Arc<Self>) -> String {
        let what = self.state().damaged().await;
        loop {
            let (node, found) = (self.clone(), what.clone());
            // The snapshot is read for this.
            let ordered = tokio::task::spawn_blocking(move || node.order_rebuild(&found)).await;
            match ordered {
                Ok(Ok(true)) => return what,
                Ok(Ok(false)) => std::future::pending().await,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the rebuild of the store cannot be ordered; it is tried again");
                }
                Err(error) => tracing::error!(%error, "the rebuild of the store was not ordered"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The store is damaged. Unless it is the only copy, its next start moves it to quarantine and
    /// rebuilds it from snapshot and log; tells whether that is so. Vote and log are kept.
    ///
    /// # Errors
    /// When the order cannot be written.
    pub(crate) fn order_rebuild(&self, what: &str) -> Result<bool, std::io::Error> {
        let decided = self.sources().remedy();
        tracing::error!(what, ?decided, "the store is damaged");
        if decided == StoreRemedy::Keep {
            self.damaged_store.keep(what);
            return Ok(false);
        }
        self.write_order(what)?;
        Ok(true)
    }

    /// Has the next start rebuild the store.
    fn write_order(&self, what: &str) -> Result<(), std::io::Error> {
        let ordered = &self.damaged_store.is_ordered;
        let mut is_ordered = ordered.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_ordered {
            let file_system = self.snapshots().file_system();
            crate::recovery::order_rebuild(file_system.as_ref(), self.data(), what)?;
            *is_ordered = true;
        }
        Ok(())
    }

    /// As [`Self::order_rebuild`], without reading the snapshot first: there is no time for it. The
    /// store goes to quarantine, and no byte of it is lost.
    ///
    /// # Errors
    /// When the order cannot be written.
    pub(crate) fn order_rebuild_now(&self, what: &str) -> Result<bool, std::io::Error> {
        let sources = self.sources();
        let is_kept = remedy(
            sources.log_goes_on_from_snapshot(),
            sources.has_other_members,
        );
        if is_kept == StoreRemedy::Keep {
            return Ok(false);
        }
        self.write_order(what)?;
        Ok(true)
    }

    /// Takes a snapshot that stands for all entries up to `through_index`, and lets them go with
    /// their segments. Nothing happens when they are not all applied.
    ///
    /// # Errors
    /// When it is not done in time, or the node is stopping.
    pub(crate) async fn let_go(
        &self,
        through_index: u64,
        deadline: Duration,
    ) -> Result<(), String> {
        let purged = || self.log().state().purged.map(|purged| purged.index);
        if purged() >= Some(through_index) {
            return Ok(());
        }
        if self.state().applied().map(|applied| applied.index) < Some(through_index) {
            return Err("not all of it is applied".to_owned());
        }
        self.take_snapshot(deadline).await?;
        self.raft()
            .trigger()
            .purge_log(through_index)
            .await
            .map_err(|error| error.to_string())?;
        let until = tokio::time::Instant::now() + deadline;
        while purged() < Some(through_index) {
            if tokio::time::Instant::now() > until || !self.is_alive() {
                return Err("the log was not purged in time".to_owned());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

const POLL: Duration = Duration::from_millis(100);
