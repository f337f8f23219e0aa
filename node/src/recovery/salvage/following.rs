//! The entries of the log that follow what a store has applied.

use bytes::Bytes;
use quadraft_protocol::NodeId;

use super::{Progress, SalvageError, SalvageReport};
use crate::describe::describe;
use crate::entry::{Content, is_only_voter, membership_in_entry};
use crate::log::{EntryLocation, InspectedLog};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::state::{Apply, State};

/// Entries and bytes applied in one store transaction.
const MAXIMUM_BATCH_ENTRIES: usize = 256;
const MAXIMUM_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Applies the committed entries that follow, up to the first that cannot be read.
pub(super) fn apply(
    node_id: NodeId,
    log: &InspectedLog,
    state: &State,
    report: &mut SalvageReport,
    progress: Progress<'_>,
) -> Result<(), SalvageError> {
    let Some(last) = log.contents.last() else {
        return Ok(());
    };
    let applied = state.applied();
    let next = applied.map_or(0, |applied| applied.index + 1);
    if last.index < next {
        return Ok(());
    }
    if let Some(problem) = does_not_go_on(log, applied) {
        report.left_out.push(problem);
        return Ok(());
    }

    let alone = state
        .membership()
        .is_some_and(|membership| is_only_voter(&membership, node_id));
    let mut commitment = Commitment::new(log.contents.committed(), alone);
    let mut end = last.index + 1;
    let mut problem = None;
    for index in next..=last.index {
        progress("reading the log", index - next, last.index + 1 - next);
        match read(log, index) {
            Ok((location, payload)) => {
                let membership = membership_in_entry(location.position, &payload);
                let alone = membership.map(|membership| is_only_voter(&membership, node_id));
                commitment.note(index, alone);
            }
            Err(what) => {
                (end, problem) = (index, Some(what));
                break;
            }
        }
    }
    let committed_end = commitment.end().clamp(next, end);
    let reached = replay(log, state, next..committed_end, progress)?;
    report.replayed_entries = reached.end - next;
    if reached.problem.is_some() {
        (end, problem) = (reached.end, reached.problem);
    }
    if let Some(what) = problem {
        report.left_out.push(format!(
            "{} from {} to {last}: {what}",
            entries(last.index + 1 - end),
            name(log, end),
        ));
    }
    if committed_end < end {
        report.uncommitted = Some(format!(
            "{} from {} to {}",
            entries(end - committed_end),
            name(log, committed_end),
            name(log, end - 1),
        ));
    }
    Ok(())
}

fn entries(count: u64) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

fn name(log: &InspectedLog, index: u64) -> String {
    log.contents
        .get(index)
        .map_or_else(|| index.to_string(), |entry| entry.position.to_string())
}

/// Why the entries of the log cannot be applied on top of a store that has applied `applied`.
fn does_not_go_on(log: &InspectedLog, applied: Option<LogPosition>) -> Option<String> {
    let next = applied.map_or(0, |applied| applied.index + 1);
    let first = log.contents.first()?.position;
    if first.index > next {
        return Some(format!(
            "{} before {first}: the log does not have them any more",
            entries(first.index - next)
        ));
    }
    let applied = applied?;
    let in_log = log.contents.get(applied.index)?.position;
    (in_log != applied).then(|| {
        format!(
            "all of the log from {in_log} on: the store has applied {applied} in the place of that"
        )
    })
}

/// Which entries of a log are committed, as far as the log alone can tell.
///
/// Those up to the mark that the node kept; and those up to any entry under which this node was the
/// only voter: nobody can ever be elected without having it. A configuration holds from its own entry
/// on, and what is committed commits all before it (Ongaro and Ousterhout, "In Search of an
/// Understandable Consensus Algorithm", extended version, sections 5.3 and 6).
#[derive(Debug)]
struct Commitment {
    end: u64,
    alone: bool,
}

impl Commitment {
    /// `alone` is whether this node was the only voter before the first entry that is noted.
    fn new(committed: Option<LogPosition>, alone: bool) -> Self {
        Self {
            end: committed.map_or(0, |committed| committed.index + 1),
            alone,
        }
    }

    /// Notes that the log has the entry `index`, and, when it is a membership, whether this node is
    /// the only voter in it. A membership holds from its own entry on.
    fn note(&mut self, index: u64, alone: Option<bool>) {
        self.alone = alone.unwrap_or(self.alone);
        if self.alone || is_planted(Bug::UncommittedExported) {
            self.end = self.end.max(index + 1);
        }
    }

    /// The index behind the last committed entry.
    fn end(&self) -> u64 {
        self.end
    }
}

fn read(log: &InspectedLog, index: u64) -> Result<(EntryLocation, Bytes), String> {
    let location = log
        .contents
        .get(index)
        .ok_or_else(|| "the log does not have it".to_owned())?;
    if log.contents.is_unreadable(index) {
        return Err("the first of them cannot be read".to_owned());
    }
    match log.readers.read(&location) {
        Ok(payload) => Ok((location, payload.into())),
        Err(error) => Err(describe(&error)),
    }
}

/// How far entries were applied.
struct Reached {
    /// The index behind the last one.
    end: u64,
    /// Why the next one was not.
    problem: Option<String>,
}

fn replay(
    log: &InspectedLog,
    state: &State,
    indexes: std::ops::Range<u64>,
    progress: Progress<'_>,
) -> Result<Reached, SalvageError> {
    let mut reached = Reached {
        end: indexes.start,
        problem: None,
    };
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for index in indexes.clone() {
        match read_apply(log, index) {
            Ok((position, apply, bytes)) => {
                batch.push((position, apply));
                batch_bytes += bytes;
            }
            Err(what) => {
                reached.problem = Some(what);
                break;
            }
        }
        if batch.len() >= MAXIMUM_BATCH_ENTRIES || batch_bytes >= MAXIMUM_BATCH_BYTES {
            reached.end += apply_batch(state, &mut batch)?;
            batch_bytes = 0;
            progress(
                "applying the log",
                reached.end - indexes.start,
                indexes.end - indexes.start,
            );
        }
    }
    reached.end += apply_batch(state, &mut batch)?;
    Ok(reached)
}

fn read_apply(log: &InspectedLog, index: u64) -> Result<(LogPosition, Apply, usize), String> {
    let (location, payload) = read(log, index)?;
    let apply = Content::decode(&payload)
        .and_then(|content| content.into_apply(location.position))
        .map_err(|error| describe(&error))?;
    Ok((location.position, apply, payload.len()))
}

/// Applies the batch and empties it; gives how many entries it had.
fn apply_batch(state: &State, batch: &mut Vec<(LogPosition, Apply)>) -> Result<u64, SalvageError> {
    state.apply(batch).map_err(SalvageError::Scratch)?;
    let count = batch.len() as u64;
    batch.clear();
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(index: u64) -> LogPosition {
        LogPosition { term: 1, index }
    }

    fn end(committed: Option<u64>, alone: bool, entries: &[(u64, Option<bool>)]) -> u64 {
        let mut commitment = Commitment::new(committed.map(at), alone);
        for (index, alone) in entries {
            commitment.note(*index, *alone);
        }
        commitment.end()
    }

    #[test]
    fn what_the_only_voter_has_is_committed() {
        assert_eq!(end(None, true, &[(5, None), (6, None)]), 7);
        assert_eq!(end(Some(5), true, &[(5, None), (6, None)]), 7);
    }

    #[test]
    fn with_other_voters_only_the_mark_counts() {
        assert_eq!(end(None, false, &[(5, None), (6, None)]), 0);
        assert_eq!(end(Some(5), false, &[(5, None), (6, None)]), 6);
    }

    #[test]
    fn a_membership_holds_from_its_own_entry_on() {
        // Others join: what came before had this node as its only voter.
        assert_eq!(
            end(None, true, &[(5, None), (6, Some(false)), (7, None)]),
            6
        );
        // Others have left: that was committed by this node, and with it everything before.
        assert_eq!(end(None, false, &[(5, None), (6, Some(true))]), 7);
        assert_eq!(
            end(None, false, &[(5, Some(true)), (6, Some(false)), (7, None)]),
            6
        );
    }
}
