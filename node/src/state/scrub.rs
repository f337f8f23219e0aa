//! Reading all of the store again and comparing it with the digest that is kept beside it.

use std::path::Path;

use super::files::{Checkpoint, ReadFailure, Tables, damage_of_current};
use super::indexes::{CompareFailure, compare};
use super::store::State;
use super::view::View;
use super::{LogPosition, StateError, folder, opening};
use crate::disk::{Interrupted, Throttle};

/// Quads between two words to the throttle.
const NOTED_QUADS: u64 = 1024;
/// How often a quad is read when it is looked up in other orders.
const READS_A_QUAD: u64 = 2;

/// What the store holds, as against what its records say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreScrub {
    /// Every quad was read, and together they have the digest that is kept.
    Whole { quads: u64 },
    /// It holds other data than was applied to it, or cannot be read.
    Damaged {
        applied: Option<LogPosition>,
        what: String,
    },
    /// A snapshot took its place meanwhile: what was read counts no more.
    Replaced,
}

/// The store could not be scrubbed.
#[derive(Debug, thiserror::Error)]
pub enum StoreScrubError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("the store cannot be scrubbed")]
    State(#[source] StateError),
}

impl State {
    /// Reads all files and all indexes of one state, at the pace of `throttle`: compares the files
    /// with what is known of them, the indexes with each other, and digest and number of the quads
    /// with those that are kept in the same state. What is applied meanwhile does not matter.
    /// `progress` is told how many quads of how many were gone through.
    ///
    /// # Errors
    /// When the reading is interrupted, or there is no room for it.
    pub fn scrub(
        &self,
        throttle: &mut dyn Throttle,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<StoreScrub, StoreScrubError> {
        let view = self.view();
        let applied = view.status().applied;
        let looked = match &view.generation.folder {
            Some(folder) => look_at_files(&view, &folder.path, throttle, progress),
            None => look_at_memory(&view, throttle, progress),
        };
        let scrub = match looked {
            Ok(scrub) => scrub,
            Err(Failure::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(Failure::State(error)) if !error.is_damage() => {
                return Err(StoreScrubError::State(error));
            }
            Err(Failure::State(error)) => StoreScrub::Damaged {
                applied,
                what: error.to_string(),
            },
        };
        let is_in_force = self.view().generation.number == view.generation.number;
        Ok(if is_in_force {
            scrub
        } else {
            StoreScrub::Replaced
        })
    }
}

enum Failure {
    Interrupted(Interrupted),
    State(StateError),
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<CompareFailure> for Failure {
    fn from(failure: CompareFailure) -> Self {
        match failure {
            CompareFailure::Interrupted(interrupted) => Self::Interrupted(interrupted),
            CompareFailure::State(error) => Self::State(error),
        }
    }
}

/// A frozen copy of the files is opened as a store of its own: it has nothing in memory yet, and
/// what is written meanwhile goes elsewhere.
fn look_at_files(
    view: &View,
    folder: &Path,
    throttle: &mut dyn Throttle,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreScrub, Failure> {
    let checkpoint = Checkpoint::take(&view.generation, folder::checkpoint_path(folder))?;
    let damaged = |what: String| StateError::Inconsistent(what);
    let tables = Tables::read(checkpoint.path(), throttle).map_err(|failure| match failure {
        ReadFailure::Interrupted(interrupted) => Failure::Interrupted(interrupted),
        ReadFailure::Unreadable(what) => damaged(what).into(),
    })?;
    let record = folder::tables_path(folder);
    let difference = tables.difference_from(&Tables::kept(&record));
    if let Some(what) = difference.or_else(|| damage_of_current(folder)) {
        return Err(damaged(what).into());
    }
    let store = opening::open_read_only(checkpoint.path())?;
    let total = view.status().quads;
    let (mut bytes, mut noted) = (0, 0_u64);
    let compared = compare(&store, |line_bytes, quads| {
        // Each quad is read in its other orders too.
        bytes += line_bytes * READS_A_QUAD;
        noted += 1;
        if noted.is_multiple_of(NOTED_QUADS) {
            progress(quads, total);
            throttle.note(std::mem::take(&mut bytes))?;
        }
        Ok(())
    })?;
    progress(compared.quads, total.max(compared.quads));
    Ok(
        match compared
            .status
            .difference_from(compared.digest, compared.quads)
        {
            None => {
                tables.keep(&record);
                StoreScrub::Whole {
                    quads: compared.quads,
                }
            }
            Some(what) => StoreScrub::Damaged {
                applied: compared.status.applied,
                what,
            },
        },
    )
}

fn look_at_memory(
    view: &View,
    throttle: &mut dyn Throttle,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreScrub, Failure> {
    let reading = view.read()?;
    let kept = reading.status();
    let mut bytes = 0;
    let (digest, quads) = reading.digest_lines(|line, quads| {
        bytes += line.len() as u64;
        if quads.is_multiple_of(NOTED_QUADS) {
            progress(quads, kept.quads);
            throttle
                .note(std::mem::take(&mut bytes))
                .map_err(Failure::Interrupted)?;
        }
        Ok::<_, Failure>(())
    })?;
    progress(quads, kept.quads);
    throttle.note(bytes).map_err(Failure::Interrupted)?;
    Ok(match kept.difference_from(digest, quads) {
        None => StoreScrub::Whole { quads },
        Some(what) => StoreScrub::Damaged {
            applied: kept.applied,
            what,
        },
    })
}
