//! Reads one part of a volume and says what became of it.

use crate::disk::{Interrupted, Throttle, Twin};
use crate::log::{LogScrubError, LogStore, Lost, ScrubbedChain};
use crate::position::LogPosition;
use crate::snapshots::{SnapshotKeeper, SnapshotScrub, SnapshotScrubError};
use crate::state::{State, StoreScrub, StoreScrubError};

use super::record::Tally;

/// Why a part was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("{0}")]
    Failed(String),
}

impl From<LogScrubError> for PartError {
    fn from(error: LogScrubError) -> Self {
        match error {
            LogScrubError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            error => Self::Failed(crate::describe::describe(&error)),
        }
    }
}

/// Bytes of superblock and vote that are read.
pub(super) const IDENTITY_BYTES: u64 = 2 * Twin::SCRUBBED_BYTES;

/// Both copies of superblock and vote, by the thread that writes them.
pub(super) fn scrub_identity(
    log: &LogStore,
    throttle: &mut dyn Throttle,
) -> Result<Tally, PartError> {
    throttle.note(IDENTITY_BYTES)?;
    let (superblock, vote) = log
        .alone(|alone| {
            let mut superblock = alone
                .superblock
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok((superblock.scrub()?, alone.vote.scrub()?))
        })
        .map_err(|error| PartError::Failed(error.to_string()))?;
    let mut tally = Tally {
        checked: 4,
        ..Tally::default()
    };
    for (file, copies) in [("superblock", superblock), ("vote", vote)] {
        for copy in copies {
            tally.mended(format!("copy {copy} of the {file}"));
        }
    }
    Ok(tally)
}

/// What scrubbing the log came to, before peers have given anything.
#[derive(Debug, Default)]
pub(super) struct LogPart {
    pub(super) tally: Tally,
    pub(super) unreadable: Vec<LogPosition>,
    pub(super) lost: Vec<Lost>,
}

/// Every segment, oldest first.
pub(super) fn scrub_log(log: &LogStore, throttle: &mut dyn Throttle) -> Result<LogPart, PartError> {
    let mut part = LogPart::default();
    let mut chain: ScrubbedChain = None;
    for number in log.scrub_extent().0 {
        let Some(segment) = log.scrub_segment(number, &mut chain, throttle)? else {
            continue;
        };
        part.tally.checked += segment.records;
        for what in segment.mended {
            part.tally.mended(what);
        }
        part.unreadable.extend(segment.unreadable);
        part.lost.extend(segment.lost);
    }
    Ok(part)
}

/// The snapshot that counts.
pub(super) fn scrub_snapshot(
    keeper: &SnapshotKeeper,
    throttle: &mut dyn Throttle,
) -> Result<Tally, PartError> {
    let mut tally = Tally::default();
    match keeper.scrub(throttle) {
        Ok(SnapshotScrub::Nothing) => {}
        Ok(SnapshotScrub::Whole { .. }) => tally.checked += 1,
        Ok(SnapshotScrub::Rebuilt { what }) => {
            tally.checked += 1;
            tally.mended(format!("a snapshot: {what}"));
        }
        Err(SnapshotScrubError::Interrupted(interrupted)) => return Err(interrupted.into()),
        Err(error @ SnapshotScrubError::NotRebuilt(_)) => {
            tally.checked += 1;
            tally.unrepairable(crate::describe::describe(&error));
        }
    }
    Ok(tally)
}

/// The store, against its digest. Damage counts when it is found twice; then the node rebuilds it.
pub(super) fn scrub_store(
    state: &State,
    throttle: &mut dyn Throttle,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tally, PartError> {
    let mut tally = Tally::default();
    let mut look = || {
        state
            .scrub(throttle, progress)
            .map_err(|error| match error {
                StoreScrubError::Interrupted(interrupted) => PartError::Interrupted(interrupted),
                error @ StoreScrubError::State(_) => {
                    PartError::Failed(crate::describe::describe(&error))
                }
            })
    };
    let mut found = look()?;
    if let StoreScrub::Damaged { what, .. } = &found {
        tracing::error!(what, "the store seems to be damaged; it is read again");
        found = look()?;
    }
    match found {
        StoreScrub::Whole { quads } => tally.checked += quads,
        StoreScrub::Replaced => {}
        StoreScrub::Damaged { what, .. } => {
            state.note_damage(&what);
            tally.unrepairable(what);
        }
    }
    Ok(tally)
}
