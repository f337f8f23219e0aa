//! What a running node does when its store holds other data than was applied to it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::node::Node;
use super::remedy::{StoreRemedy, remedy};

/// What was found out about the store.
#[derive(Debug)]
pub(super) struct DamagedStore {
    /// Why the next start rebuilds it, once that is decided.
    rebuild: watch::Sender<Option<String>>,
    /// What is wrong with it, when it is kept all the same.
    kept: Mutex<Option<String>>,
}

impl Default for DamagedStore {
    fn default() -> Self {
        Self {
            rebuild: watch::channel(None).0,
            kept: Mutex::default(),
        }
    }
}

impl DamagedStore {
    /// Waits until it is decided that the store is rebuilt, and says why.
    pub(super) async fn rebuilding(&self) -> String {
        let mut decided = self.rebuild.subscribe();
        match decided.wait_for(Option::is_some).await {
            Ok(what) => what.clone().unwrap_or_default(),
            // The sender lives as long as this.
            Err(_) => std::future::pending().await,
        }
    }

    /// What is wrong with a store that is kept because nobody else has its data.
    pub(super) fn kept(&self) -> Option<String> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Node {
    /// The store was found to hold other data than was applied to it. Unless it is the only copy,
    /// the node stops, and its next start moves it to quarantine and rebuilds it from snapshot and
    /// log; tells whether that is so. Vote and log are kept.
    pub(crate) fn settle_damaged_store(&self, what: &str) -> bool {
        let purged = self.log().state().purged;
        let reaches =
            purged.is_none() || (self.keeper().position() >= purged && self.keeper().is_whole());
        let decided = remedy(reaches, self.has_other_members());
        tracing::error!(what, ?decided, "the store is damaged");
        if decided == StoreRemedy::Keep {
            *self
                .damaged_store
                .kept
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
            return false;
        }
        let ordered = crate::recovery::order_rebuild(
            self.snapshots().file_system().as_ref(),
            self.data(),
            what,
        );
        if let Err(error) = ordered {
            tracing::error!(%error, "the rebuild of the store cannot be ordered; it is tried again");
            return false;
        }
        self.damaged_store
            .rebuild
            .send_replace(Some(what.to_owned()));
        true
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
