//! What is scrubbed next, and when. Pure: the times are given.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::Record;

/// How a volume is scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// From the beginning of one round to that of the next. Zero switches scrubbing off.
    pub interval: Duration,
    /// Bytes read in a second at most, over time. Zero switches scrubbing off.
    pub bytes_per_second: u64,
}

impl ScrubOptions {
    /// Whether anything is scrubbed at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.interval.is_zero() && self.bytes_per_second > 0
    }
}

/// Nothing is scrubbed so soon after a start, when the disk has other work.
const SETTLE: Duration = Duration::from_secs(60);
/// After a part that could not be read to its end for a reason that may pass.
const RETRY: Duration = Duration::from_secs(60);

/// A part of a round, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Both copies of the superblock and the vote.
    #[default]
    Identity,
    /// Every segment of the log.
    Log,
    /// The snapshot that counts.
    Snapshot,
    /// The store, against its digest.
    Store,
}

impl Part {
    pub(super) fn following(self) -> Option<Self> {
        match self {
            Self::Identity => Some(Self::Log),
            Self::Log => Some(Self::Snapshot),
            Self::Snapshot => Some(Self::Store),
            Self::Store => None,
        }
    }

    /// Its name in status, metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::Store => "store",
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait(Duration),
    /// A new round begins.
    Begin,
    /// The round goes on with this part, from its beginning.
    GoOn(Part),
}

/// The times that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Wall clock, milliseconds since 1970.
    pub(super) now_ms: u64,
    /// Since the node was started.
    pub(super) up: Duration,
    /// Since a part last failed, when one did.
    pub(super) since_failure: Option<Duration>,
}

/// Decides what is next. A clock that was set back only makes the next round come sooner: a round
/// that began in the future counts as none.
pub(super) fn next(record: &Record, options: &ScrubOptions, times: Times) -> Step {
    let settle = SETTLE.min(options.interval).saturating_sub(times.up);
    let retry = times.since_failure.map_or(Duration::ZERO, |since| {
        RETRY.min(options.interval).saturating_sub(since)
    });
    let earliest = settle.max(retry);
    if let Some(part) = record.next_part {
        return if earliest.is_zero() {
            Step::GoOn(part)
        } else {
            Step::Wait(earliest)
        };
    }
    let elapsed = record
        .started_ms
        .and_then(|started| times.now_ms.checked_sub(started))
        .map(Duration::from_millis);
    let due = elapsed.map_or(Duration::ZERO, |elapsed| {
        options.interval.saturating_sub(elapsed)
    });
    match due.max(earliest) {
        Duration::ZERO => Step::Begin,
        wait => Step::Wait(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const OPTIONS: ScrubOptions = ScrubOptions {
        interval: DAY,
        bytes_per_second: 1,
    };
    const NOW_MS: u64 = 1_800_000_000_000;

    fn times() -> Times {
        Times {
            now_ms: NOW_MS,
            up: SETTLE,
            since_failure: None,
        }
    }

    fn record(started_ms: Option<u64>, next_part: Option<Part>) -> Record {
        Record {
            started_ms,
            next_part,
            ..Record::default()
        }
    }

    #[test]
    fn the_first_round_begins_when_the_node_has_settled() {
        let settling = Times {
            up: SETTLE / 4,
            ..times()
        };
        assert_eq!(
            next(&record(None, None), &OPTIONS, settling),
            Step::Wait(SETTLE * 3 / 4)
        );
        assert_eq!(next(&record(None, None), &OPTIONS, times()), Step::Begin);
    }

    #[test]
    fn a_round_begins_an_interval_after_the_one_before_also_across_restarts() {
        let hour_ms = 3_600_000;
        assert_eq!(
            next(&record(Some(NOW_MS - hour_ms), None), &OPTIONS, times()),
            Step::Wait(DAY - Duration::from_millis(hour_ms))
        );
        assert_eq!(
            next(
                &record(Some(NOW_MS - 24 * hour_ms), None),
                &OPTIONS,
                times()
            ),
            Step::Begin
        );
    }

    #[test]
    fn an_interrupted_round_goes_on_with_the_part_that_was_not_finished() {
        let record = record(Some(NOW_MS - 1), Some(Part::Store));
        assert_eq!(next(&record, &OPTIONS, times()), Step::GoOn(Part::Store));
        let started = Times {
            up: Duration::ZERO,
            ..times()
        };
        assert_eq!(next(&record, &OPTIONS, started), Step::Wait(SETTLE));
    }

    #[test]
    fn a_part_that_failed_is_tried_again_after_a_while() {
        let record = record(Some(NOW_MS - 1), Some(Part::Log));
        let failed = Times {
            since_failure: Some(RETRY / 3),
            ..times()
        };
        assert_eq!(next(&record, &OPTIONS, failed), Step::Wait(RETRY * 2 / 3));
    }

    #[test]
    fn a_clock_that_was_set_back_delays_nothing() {
        assert_eq!(
            next(&record(Some(NOW_MS + 1), None), &OPTIONS, times()),
            Step::Begin
        );
    }

    #[test]
    fn a_short_interval_shortens_the_other_times_too() {
        let options = ScrubOptions {
            interval: Duration::from_secs(1),
            ..OPTIONS
        };
        let started = Times {
            up: Duration::from_secs(1),
            ..times()
        };
        assert_eq!(next(&record(None, None), &options, started), Step::Begin);
    }

    #[test]
    fn each_part_comes_once_in_a_round() {
        let mut parts = vec![Part::default()];
        while let Some(part) = parts.last().and_then(|part| part.following()) {
            parts.push(part);
        }
        assert_eq!(
            parts,
            [Part::Identity, Part::Log, Part::Snapshot, Part::Store]
        );
        assert!(parts.is_sorted());
    }
}
