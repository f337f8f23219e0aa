//! The order in which a volume's positions must stand, decided without touching it.

use crate::position::LogPosition;

/// Where everything on a volume stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    pub(crate) last: Option<LogPosition>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) committed: Option<LogPosition>,
    pub(crate) applied: Option<LogPosition>,
    pub(crate) snapshot: Option<LogPosition>,
    pub(crate) vote_term: Option<u64>,
}

/// What has to be done before the volume can be served from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mending {
    /// The store must be replaced by the snapshot.
    pub(crate) install_snapshot: bool,
    /// The log must be purged through the snapshot's position.
    pub(crate) purge_through_snapshot: bool,
    /// There is no snapshot at or above the purged position: one must be written from the store.
    pub(crate) write_snapshot: bool,
}

/// A volume that contradicts itself.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum OrderError {
    #[error("the log has entries, but no vote was found: a promise is lost")]
    VoteLost,
    #[error("the log reaches term {log_term}, but the vote only term {vote_term}: a vote is lost")]
    VoteBehind { log_term: u64, vote_term: u64 },
    #[error(
        "the store has applied {applied}, but the log ends at {last:?} and no installed snapshot explains it: \
         acknowledged entries are lost"
    )]
    LogBehindStore {
        applied: LogPosition,
        last: Option<LogPosition>,
    },
    #[error(
        "the log begins after {purged}, but the store has applied only {applied:?} and no snapshot reaches it"
    )]
    StoreBehindLog {
        purged: LogPosition,
        applied: Option<LogPosition>,
    },
}

impl OrderError {
    /// Whether only derived data is missing, while vote and log are whole.
    pub(crate) fn is_about_the_store(&self) -> bool {
        matches!(self, Self::StoreBehindLog { .. })
    }
}

/// Decides what a volume needs: `purged <= applied <= last`, `purged <= snapshot` and
/// `last.term <= vote.term` must hold afterwards.
pub(crate) fn judge(positions: &Positions) -> Result<Mending, OrderError> {
    let Positions {
        last,
        purged,
        applied,
        snapshot,
        vote_term,
        ..
    } = *positions;
    if let Some(last) = last {
        let vote_term = vote_term.ok_or(OrderError::VoteLost)?;
        if vote_term < last.term {
            return Err(OrderError::VoteBehind {
                log_term: last.term,
                vote_term,
            });
        }
    }
    // A received snapshot becomes durable under its name before the store and the log follow it.
    let snapshot_is_ahead_of_log = snapshot > last;
    let snapshot_is_ahead_of_store = snapshot > applied;
    let mut mending = Mending::default();
    if snapshot_is_ahead_of_log {
        mending.purge_through_snapshot = true;
        mending.install_snapshot = snapshot_is_ahead_of_store;
    }
    if let Some(applied) = applied
        && Some(applied) > last
        && Some(applied) > snapshot
    {
        return Err(OrderError::LogBehindStore { applied, last });
    }
    if let Some(purged) = purged {
        if applied < Some(purged) {
            if snapshot < Some(purged) {
                return Err(OrderError::StoreBehindLog { purged, applied });
            }
            mending.install_snapshot = true;
        }
        if snapshot < Some(purged) {
            mending.write_snapshot = true;
        }
    }
    Ok(mending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Option<LogPosition> {
        Some(LogPosition { term: 1, index })
    }

    const WHOLE: Positions = Positions {
        last: Some(LogPosition { term: 1, index: 20 }),
        purged: Some(LogPosition { term: 1, index: 10 }),
        committed: Some(LogPosition { term: 1, index: 18 }),
        applied: Some(LogPosition { term: 1, index: 18 }),
        snapshot: Some(LogPosition { term: 1, index: 10 }),
        vote_term: Some(1),
    };

    #[test]
    fn a_whole_volume_and_an_empty_one_need_nothing() {
        assert_eq!(judge(&WHOLE), Ok(Mending::default()));
        assert_eq!(judge(&Positions::default()), Ok(Mending::default()));
    }

    #[test]
    fn a_lost_vote_is_never_taken_for_none() {
        assert_eq!(
            judge(&Positions {
                vote_term: None,
                ..WHOLE
            }),
            Err(OrderError::VoteLost)
        );
        assert!(matches!(
            judge(&Positions {
                vote_term: Some(0),
                ..WHOLE
            }),
            Err(OrderError::VoteBehind { .. })
        ));
    }

    #[test]
    fn a_store_ahead_of_the_log_is_lawful_only_behind_an_installed_snapshot() {
        assert!(matches!(
            judge(&Positions {
                applied: at(21),
                ..WHOLE
            }),
            Err(OrderError::LogBehindStore { .. })
        ));
        assert_eq!(
            judge(&Positions {
                applied: at(30),
                snapshot: at(30),
                ..WHOLE
            }),
            Ok(Mending {
                purge_through_snapshot: true,
                ..Mending::default()
            })
        );
        assert_eq!(
            judge(&Positions {
                snapshot: at(30),
                ..WHOLE
            }),
            Ok(Mending {
                purge_through_snapshot: true,
                install_snapshot: true,
                ..Mending::default()
            })
        );
    }

    #[test]
    fn a_store_that_was_lost_is_rebuilt_from_the_snapshot_or_refused() {
        assert_eq!(
            judge(&Positions {
                applied: None,
                ..WHOLE
            }),
            Ok(Mending {
                install_snapshot: true,
                ..Mending::default()
            })
        );
        assert!(matches!(
            judge(&Positions {
                applied: None,
                snapshot: None,
                ..WHOLE
            }),
            Err(OrderError::StoreBehindLog { .. })
        ));
        assert_eq!(
            judge(&Positions {
                snapshot: None,
                ..WHOLE
            }),
            Ok(Mending {
                write_snapshot: true,
                ..Mending::default()
            })
        );
        let never_purged = Positions {
            purged: None,
            snapshot: None,
            applied: None,
            ..WHOLE
        };
        assert_eq!(judge(&never_purged), Ok(Mending::default()));
    }
}
