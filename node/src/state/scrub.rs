//! Reading all of the store again and comparing it with the digest that is kept beside it.

use super::store::State;
use super::view::View;
use super::{LogPosition, StateError};
use crate::disk::{Interrupted, Throttle};

/// Quads between two words to the throttle.
const NOTED_QUADS: u64 = 1024;

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
}

impl State {
    /// Reads all quads of one state, at the pace of `throttle`, and compares their digest and
    /// number with those that are kept in the same state: what is applied meanwhile does not
    /// matter. Bytes are those of the quads as lines. `progress` is told how many quads of how many
    /// were read.
    ///
    /// # Errors
    /// When the reading is interrupted.
    pub fn scrub(
        &self,
        throttle: &mut dyn Throttle,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<StoreScrub, StoreScrubError> {
        let view = self.view();
        let applied = view.status().applied;
        let scrub = match compare(&view, throttle, progress) {
            Ok(scrub) => scrub,
            Err(Failure::Interrupted(interrupted)) => return Err(interrupted.into()),
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

fn compare(
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
