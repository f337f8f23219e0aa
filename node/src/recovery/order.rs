//! The order in which a volume's positions must stand, decided without touching it.
//!
//! Between any two steps of a node these hold; the first three at every instant, so also on what a
//! crash leaves (where a log without a vote is refused all the same), and the others as long as the node runs:
//!
//! ```text
//! last.term <= vote.term (the very first entry, of term 0, is written before any vote)
//! applied   <= last, or a snapshot reaches as far
//! purged    <= applied, or a snapshot reaches as far
//! purged    <= snapshot
//! purged    <= committed <= last
//! applied   <= committed, or a snapshot reaches as far
//! ```

use crate::planted::{Bug, is_planted};
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
    #[error("{lower_name} is {lower}, beyond {upper_name}, which is {upper:?}")]
    Beyond {
        lower_name: &'static str,
        lower: LogPosition,
        upper_name: &'static str,
        upper: Option<LogPosition>,
    },
}

impl OrderError {
    /// Whether only derived data is missing, while vote and log are whole.
    pub(crate) fn is_about_the_store(&self) -> bool {
        matches!(self, Self::StoreBehindLog { .. })
    }
}

fn vote_covers(last: Option<LogPosition>, vote_term: Option<u64>) -> Result<(), OrderError> {
    let Some(last) = last else {
        return Ok(());
    };
    let vote_term = vote_term.ok_or(OrderError::VoteLost)?;
    if vote_term < last.term {
        return Err(OrderError::VoteBehind {
            log_term: last.term,
            vote_term,
        });
    }
    Ok(())
}

/// Whether the log, or an installed snapshot, reaches as far as the store.
///
/// # Errors
/// When the store is ahead.
pub(crate) fn log_explains_store(positions: &Positions) -> Result<(), OrderError> {
    let Positions { last, applied, .. } = *positions;
    match applied {
        Some(position)
            if applied > last
                && applied > positions.snapshot
                && !is_planted(Bug::LogBehindStoreBelieved) =>
        {
            Err(OrderError::LogBehindStore {
                applied: position,
                last,
            })
        }
        _ => Ok(()),
    }
}

fn store_reaches_log(positions: &Positions) -> Result<(), OrderError> {
    let Positions {
        purged, applied, ..
    } = *positions;
    match purged {
        Some(position) if applied.max(positions.snapshot) < purged => {
            Err(OrderError::StoreBehindLog {
                purged: position,
                applied,
            })
        }
        _ => Ok(()),
    }
}

/// Checks every inequality of a running node.
///
/// # Errors
/// The first that is violated.
pub(crate) fn check_running(positions: &Positions) -> Result<(), OrderError> {
    let Positions {
        last,
        purged,
        committed,
        applied,
        snapshot,
        vote_term,
    } = *positions;
    // The first entry of a cluster is written before anybody votes.
    if vote_term.is_some() || last.is_some_and(|last| last.term > 0) {
        vote_covers(last, vote_term)?;
    }
    log_explains_store(positions)?;
    store_reaches_log(positions)?;
    for (lower_name, lower, upper_name, upper) in [
        ("purged", purged, "the snapshot", snapshot),
        ("purged", purged, "committed", committed),
        ("committed", committed, "the end of the log", last),
        (
            "applied",
            applied,
            "committed and the snapshot",
            committed.max(snapshot),
        ),
    ] {
        if let Some(position) = lower.filter(|_| lower > upper) {
            return Err(OrderError::Beyond {
                lower_name,
                lower: position,
                upper_name,
                upper,
            });
        }
    }
    Ok(())
}

/// Decides what a volume needs, so that [`check_running`] holds afterwards.
///
/// # Errors
/// The order that is violated and cannot be put right.
pub(crate) fn judge(positions: &Positions) -> Result<Mending, OrderError> {
    let Positions {
        last,
        purged,
        applied,
        snapshot,
        vote_term,
        ..
    } = *positions;
    vote_covers(last, vote_term)?;
    log_explains_store(positions)?;
    store_reaches_log(positions)?;
    // A received snapshot becomes durable under its name before the store and the log follow it.
    let snapshot_is_ahead_of_log = snapshot > last;
    let snapshot_is_ahead_of_store = snapshot > applied;
    let mut mending = Mending::default();
    if snapshot_is_ahead_of_log {
        mending.purge_through_snapshot = true;
        mending.install_snapshot = snapshot_is_ahead_of_store;
    }
    if let Some(purged) = purged {
        if applied < Some(purged) {
            mending.install_snapshot = true;
        }
        if snapshot < Some(purged) {
            mending.write_snapshot = true;
        }
    }
    Ok(mending)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn every_inequality_of_a_running_node_is_checked() {
        assert_eq!(check_running(&WHOLE), Ok(()));
        assert_eq!(check_running(&Positions::default()), Ok(()));
        let violated = [
            Positions {
                vote_term: Some(0),
                ..WHOLE
            },
            Positions {
                applied: at(21),
                ..WHOLE
            },
            Positions {
                applied: at(9),
                snapshot: at(9),
                ..WHOLE
            },
            Positions {
                snapshot: at(9),
                ..WHOLE
            },
            Positions {
                committed: at(9),
                applied: at(10),
                ..WHOLE
            },
            Positions {
                committed: at(21),
                ..WHOLE
            },
            Positions {
                applied: at(19),
                ..WHOLE
            },
        ];
        let errors: Vec<String> = violated
            .iter()
            .map(|positions| check_running(positions).unwrap_err().to_string())
            .collect();
        let mut different = errors.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), violated.len(), "{errors:#?}");
        let initialised = Positions {
            last: Some(LogPosition { term: 0, index: 0 }),
            ..Positions::default()
        };
        assert_eq!(check_running(&initialised), Ok(()));
        // A snapshot that was just installed stands for what the log does not have yet.
        let installed = Positions {
            applied: at(30),
            snapshot: at(30),
            ..WHOLE
        };
        assert_eq!(check_running(&installed), Ok(()));
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
