//! The one snapshot that counts: written, replaced, and built anew when it is damaged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{SnapshotCheck, SnapshotError, SnapshotFile, Snapshots};
use super::growth::LogGrowth;
use crate::disk::{Interrupted, Throttle, Unthrottled};
use crate::position::LogPosition;
use crate::state::{State, StateError};

/// Keeps the newest snapshot of a running node.
#[derive(Debug)]
pub(crate) struct SnapshotKeeper {
    state: Arc<State>,
    snapshots: Snapshots,
    current: Mutex<Option<SnapshotFile>>,
    growth: LogGrowth,
    /// Held while a snapshot is written or put in force: never two at once.
    changing: Mutex<()>,
}

/// What became of the snapshot that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotScrub {
    /// There is none yet, or another took its place meanwhile.
    Nothing,
    Whole {
        bytes: u64,
    },
    /// It was damaged, lies in quarantine, and was written anew.
    Rebuilt {
        what: String,
    },
}

/// Why the snapshot could not be scrubbed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotScrubError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// It is damaged, and none could be written in its place.
    #[error("the snapshot is damaged, and none can be written in its place")]
    NotRebuilt(#[source] SnapshotError),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SnapshotKeeper {
    pub(crate) fn new(
        state: Arc<State>,
        snapshots: Snapshots,
        current: Option<SnapshotFile>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state,
            snapshots,
            current: Mutex::new(current),
            growth: LogGrowth::default(),
            changing: Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        lock(&self.current).clone()
    }

    /// How much the log has grown since the snapshot that counts.
    pub(crate) fn growth(&self) -> &LogGrowth {
        &self.growth
    }

    /// Whether the snapshot that counts is whole, by reading all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.current().is_some_and(|snapshot| {
            self.snapshots.check(&snapshot, &mut Unthrottled) == Ok(SnapshotCheck::Whole)
        })
    }

    /// The entry up to which the snapshot that counts goes.
    pub(crate) fn position(&self) -> Option<LogPosition> {
        lock(&self.current)
            .as_ref()
            .and_then(|snapshot| snapshot.summary().status.applied)
    }

    /// Writes the state as the new snapshot.
    pub(crate) fn build(&self) -> Result<SnapshotFile, SnapshotError> {
        let _changing = lock(&self.changing);
        self.build_alone()
    }

    fn build_alone(&self) -> Result<SnapshotFile, SnapshotError> {
        // What is applied while it is written counts for the next one.
        self.growth.note_snapshot();
        let snapshot = self.snapshots.build(&self.state)?;
        self.put_current(&snapshot)?;
        Ok(snapshot)
    }

    /// Makes a received snapshot the state, and the one that counts.
    pub(crate) fn install(&self, snapshot: &SnapshotFile) -> Result<(), SnapshotError> {
        let _changing = lock(&self.changing);
        let mut file = std::io::BufReader::with_capacity(1024 * 1024, snapshot.open_for_reading()?);
        self.state
            .install_snapshot(&mut file)
            .map_err(|source| SnapshotError::state(snapshot.path(), source))?;
        self.growth.note_snapshot();
        self.put_current(snapshot)
    }

    fn put_current(&self, snapshot: &SnapshotFile) -> Result<(), SnapshotError> {
        *lock(&self.current) = Some(snapshot.clone());
        self.snapshots.remove_older_than(snapshot)
    }

    /// Reads the snapshot that counts, at the pace of `throttle`. A damaged one goes to quarantine,
    /// and is written anew from the store.
    ///
    /// # Errors
    /// When the reading is interrupted, or no other snapshot can be written.
    pub(crate) fn scrub(
        &self,
        throttle: &mut dyn Throttle,
    ) -> Result<SnapshotScrub, SnapshotScrubError> {
        let Some(snapshot) = self.current() else {
            return Ok(SnapshotScrub::Nothing);
        };
        match self.snapshots.check(&snapshot, throttle)? {
            SnapshotCheck::Whole => Ok(SnapshotScrub::Whole {
                bytes: snapshot.summary().bytes,
            }),
            SnapshotCheck::Damaged(_) => self.replace_if_damaged(&snapshot),
        }
    }

    /// Looks at a snapshot once more, and replaces it when it is damaged and still the one that
    /// counts.
    pub(crate) fn replace_if_damaged(
        &self,
        snapshot: &SnapshotFile,
    ) -> Result<SnapshotScrub, SnapshotScrubError> {
        let _changing = lock(&self.changing);
        let is_current = self
            .current()
            .is_some_and(|current| current.is_the_same_as(snapshot));
        if !is_current {
            return Ok(SnapshotScrub::Nothing);
        }
        let SnapshotCheck::Damaged(what) = self.snapshots.check(snapshot, &mut Unthrottled)? else {
            return Ok(SnapshotScrub::Whole {
                bytes: snapshot.summary().bytes,
            });
        };
        tracing::error!(path = %snapshot.path().display(), what, "a snapshot is damaged");
        let replace = || {
            let kept = self.snapshots.quarantine(snapshot)?;
            let built = self.build_alone()?;
            tracing::info!(
                kept = kept.map(|path| path.display().to_string()),
                path = %built.path().display(),
                "a damaged snapshot was written anew"
            );
            Ok(())
        };
        replace().map_err(SnapshotScrubError::NotRebuilt)?;
        Ok(SnapshotScrub::Rebuilt { what })
    }

    /// Opens a snapshot that is about to be sent, if it is whole. A damaged one is never sent: it
    /// is replaced, and whoever wants to send it asks for the current one again.
    ///
    /// # Errors
    /// When it is damaged, or cannot be opened.
    pub(crate) fn open_to_send(
        &self,
        snapshot: &SnapshotFile,
    ) -> Result<crate::disk::FileStream, SnapshotError> {
        let what = match self.snapshots.check(snapshot, &mut Unthrottled) {
            Ok(SnapshotCheck::Whole) => return snapshot.open_for_reading(),
            Ok(SnapshotCheck::Damaged(what)) => what,
            // Nothing interrupts it.
            Err(interrupted) => interrupted.to_string(),
        };
        if let Err(error) = self.replace_if_damaged(snapshot) {
            tracing::error!(error = %crate::describe::describe(&error), "a damaged snapshot is not sent");
        }
        Err(SnapshotError::state(
            snapshot.path(),
            StateError::DamagedSnapshot(what),
        ))
    }
}
