//! What repair took: time and bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::position::LogPosition;

/// Figures of repair since the start.
#[derive(Debug)]
pub(super) struct RepairFigures {
    /// Since when each entry that cannot be read is known.
    noticed: Mutex<BTreeMap<LogPosition, Instant>>,
    durations: Histogram,
    message_bytes: Counter,
}

impl Default for RepairFigures {
    fn default() -> Self {
        Self {
            noticed: Mutex::default(),
            durations: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
            ]),
            message_bytes: Counter::default(),
        }
    }
}

impl RepairFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "log_repair_duration",
            "Time from noticing that an entry cannot be read until it was written anew and synced",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "log_repair_message",
            "Bytes of the messages exchanged with peers to repair entries, both ways",
            Unit::Bytes,
            self.message_bytes.clone(),
        );
    }

    /// These entries, and no others, cannot be read.
    pub(super) fn note_unreadable(&self, entries: &[LogPosition]) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.retain(|entry, _| entries.binary_search(entry).is_ok());
        let now = Instant::now();
        for entry in entries {
            noticed.entry(*entry).or_insert(now);
        }
    }

    pub(super) fn note_repaired(&self, entry: LogPosition) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = noticed.remove(&entry) {
            self.durations.observe(since.elapsed().as_secs_f64());
        }
    }

    pub(super) fn count_message_bytes(&self, bytes: u64) {
        self.message_bytes.inc_by(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_repair_is_counted_once_and_what_was_let_go_is_not() {
        let figures = RepairFigures::default();
        let mut registry = Registry::default();
        figures.register(&mut registry);
        let [first, second] = [3, 4].map(|index| LogPosition { term: 1, index });
        figures.note_unreadable(&[first, second]);
        figures.note_unreadable(&[first]);
        for entry in [first, first, second] {
            figures.note_repaired(entry);
        }
        figures.count_message_bytes(300);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "log_repair_duration_seconds_count 1",
            "log_repair_message_bytes_total 300",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
