//! Whether the log has grown enough for another snapshot.
//!
//! A snapshot holds all of the data, however little of it has changed. One for every so many entries
//! would make each write dearer the more data there is; one for as much log as the last snapshot was
//! long costs each entry the same for ever, and the log takes no more of the disk than the data does
//! (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 5.1.3).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What takes so little time to write that entries are counted only.
const SMALL_SNAPSHOT_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry counts for at least: each has a place in memory and a header on the disk.
const LEAST_ENTRY_BYTES: u64 = 1024;
/// More than any snapshot has.
const UNKNOWN_BYTES: u64 = u64::MAX / 2;

/// The log behind the last snapshot.
#[derive(Debug)]
pub(crate) struct LogGrowth {
    bytes: AtomicU64,
    is_asked_for: AtomicBool,
}

impl Default for LogGrowth {
    /// Nothing is known of the log that was there before: the next snapshot is not put off.
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(UNKNOWN_BYTES),
            is_asked_for: AtomicBool::new(false),
        }
    }
}

impl LogGrowth {
    /// Notes an entry with a payload of so many bytes.
    pub(crate) fn note_entry(&self, payload_bytes: usize) {
        let bytes = u64::try_from(payload_bytes).unwrap_or(LEAST_ENTRY_BYTES);
        self.bytes
            .fetch_add(bytes.max(LEAST_ENTRY_BYTES), Ordering::Relaxed);
    }

    /// Notes that a snapshot stands for the log so far.
    pub(super) fn note_snapshot(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.is_asked_for.store(false, Ordering::Relaxed);
    }

    /// Somebody waits for the next snapshot: it is not put off.
    pub(crate) fn ask(&self) {
        self.is_asked_for.store(true, Ordering::Relaxed);
    }

    /// Whether another snapshot is due, when the last one has so many bytes.
    pub(crate) fn is_enough(&self, last_snapshot_bytes: u64) -> bool {
        last_snapshot_bytes <= SMALL_SNAPSHOT_BYTES
            || self.bytes.load(Ordering::Relaxed) >= last_snapshot_bytes
            || self.is_asked_for.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_snapshot_is_put_off_until_the_log_is_as_long() {
        let growth = LogGrowth::default();
        // After a start.
        assert!(growth.is_enough(u64::MAX / 4));
        growth.note_snapshot();
        assert!(growth.is_enough(SMALL_SNAPSHOT_BYTES));
        let large = SMALL_SNAPSHOT_BYTES + 2048;
        growth.note_entry(8 * 1024 * 1024);
        growth.note_entry(0);
        assert!(!growth.is_enough(large));
        growth.note_entry(0);
        assert!(growth.is_enough(large));
        growth.note_snapshot();
        assert!(!growth.is_enough(large));
        growth.ask();
        assert!(growth.is_enough(large));
    }

    #[test]
    fn snapshots_cost_each_entry_the_same_however_much_data_there_is() {
        // Entries of 256 bytes, each adding as much to the data; looked at after every 5,000.
        let growth = LogGrowth::default();
        let (mut last, mut written) = (0, 0);
        for entry in 1..=1_000_000_u64 {
            growth.note_entry(256);
            if entry % 5000 == 0 && growth.is_enough(last) {
                last = entry * 256;
                written += last;
                growth.note_snapshot();
            }
        }
        // A hundred times the data without it.
        assert!(written < 8 * 1_000_000 * 256, "{written}");
    }
}
