//! How far scrubbing is, for status and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quadraft_protocol::v1;

use super::record::{Record, Round};
use super::schedule::Part;
use crate::raft::ShowsScrub;

/// What scrubbing shows of itself.
#[derive(Debug, Default)]
pub(super) struct ScrubMonitor(Mutex<Shown>);

#[derive(Clone, Debug, Default)]
struct Shown {
    is_on: bool,
    part: Option<Part>,
    bytes_done: u64,
    bytes_total: u64,
    next_ms: Option<u64>,
    record: Record,
}

impl ScrubMonitor {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show_record(&self, record: &Record, next_ms: Option<u64>) {
        let mut shown = self.shown();
        shown.is_on = true;
        shown.record = record.clone();
        shown.next_ms = next_ms;
        shown.part = None;
        shown.bytes_done = 0;
        shown.bytes_total = 0;
    }

    pub(super) fn begin_part(&self, part: Part, bytes_total: u64) {
        let mut shown = self.shown();
        shown.part = Some(part);
        shown.bytes_done = 0;
        shown.bytes_total = bytes_total;
        shown.next_ms = None;
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        let mut shown = self.shown();
        shown.bytes_done += bytes;
        // What was estimated may be passed.
        shown.bytes_total = shown.bytes_total.max(shown.bytes_done);
    }

    pub(super) fn estimate_total(&self, done: u64, total: u64) {
        let mut shown = self.shown();
        if done > 0 && done < total {
            let estimate = u128::from(shown.bytes_done) * u128::from(total) / u128::from(done);
            shown.bytes_total = u64::try_from(estimate).unwrap_or(u64::MAX);
        } else {
            shown.bytes_total = shown.bytes_done;
        }
    }

    pub(super) fn bytes_done(&self) -> u64 {
        self.shown().bytes_done
    }
}

impl ShowsScrub for ScrubMonitor {
    fn message(&self) -> v1::Scrub {
        let shown = self.shown().clone();
        v1::Scrub {
            enabled: shown.is_on,
            part: shown.part.map(Part::name).unwrap_or_default().to_owned(),
            bytes_done: shown.bytes_done,
            bytes_total: shown.bytes_total,
            started_ms: shown
                .record
                .next_part
                .and(shown.record.started_ms)
                .unwrap_or(0),
            next_ms: shown.next_ms.unwrap_or(0),
            last: shown.record.last.map(round_message),
        }
    }
}

fn round_message(round: Round) -> v1::ScrubRound {
    v1::ScrubRound {
        started_ms: round.started_ms,
        ended_ms: round.ended_ms,
        checked_bytes: round.tally.checked_bytes,
        checked: round.tally.checked,
        mended: round.tally.mended,
        repaired_from_peers: round.tally.repaired_from_peers,
        unrepairable: round.tally.unrepairable,
        findings: round.tally.findings,
    }
}
