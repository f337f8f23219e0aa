//! What rounds have come to: shown in the status, and kept on the volume for the next start.
//!
//! The file `scrub` is derived: whoever loses it loses the time of the last round.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::schedule::Part;
use crate::disk::{OpenMode, SharedFileSystem, read_exact_at, write_durably};

/// Findings that are kept by their words; all are counted.
const MAXIMUM_FINDINGS: usize = 20;
/// A longer file was not written by this program.
const MAXIMUM_BYTES: u64 = 64 * 1024;

/// What was found, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    pub(crate) checked_bytes: u64,
    /// Copies, records, snapshots and quads that were read and compared.
    pub(crate) checked: u64,
    /// What was written anew from what this node has.
    pub(crate) mended: u64,
    /// Entries that were fetched from other members.
    pub(crate) repaired_from_peers: u64,
    /// What could not be made good so far.
    pub(crate) unrepairable: u64,
    /// The first findings, one sentence each.
    pub(crate) findings: Vec<String>,
}

impl Tally {
    /// Notes something that was made good here.
    pub(crate) fn mended(&mut self, what: String) {
        self.mended += 1;
        self.note(what);
    }

    /// Notes something that is not made good.
    pub(crate) fn unrepairable(&mut self, what: String) {
        self.unrepairable += 1;
        self.note(what);
    }

    /// Notes an entry that another member gave.
    pub(crate) fn repaired(&mut self, what: String) {
        self.repaired_from_peers += 1;
        self.note(what);
    }

    fn note(&mut self, what: String) {
        if self.findings.len() < MAXIMUM_FINDINGS {
            self.findings.push(what);
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.checked_bytes += other.checked_bytes;
        self.checked += other.checked;
        self.mended += other.mended;
        self.repaired_from_peers += other.repaired_from_peers;
        self.unrepairable += other.unrepairable;
        other.findings.into_iter().for_each(|what| self.note(what));
    }
}

/// A round that went to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Round {
    /// Wall clock, milliseconds since 1970.
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) tally: Tally,
}

/// Where scrubbing stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// When the newest round began, wall clock, milliseconds since 1970.
    pub(crate) started_ms: Option<u64>,
    /// The part that the round goes on with; none between two rounds.
    pub(crate) next_part: Option<Part>,
    /// What the parts of this round that are finished have come to.
    pub(crate) tally: Tally,
    /// The last round that went to its end.
    pub(crate) last: Option<Round>,
}

impl Record {
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.started_ms = Some(now_ms);
        self.next_part = Some(Part::default());
        self.tally = Tally::default();
    }

    /// A part was read to its end.
    pub(super) fn finish(&mut self, part: Part, tally: Tally, now_ms: u64) {
        self.tally.add(tally);
        self.next_part = part.following();
        if self.next_part.is_none() {
            self.last = Some(Round {
                started_ms: self.started_ms.unwrap_or(now_ms),
                ended_ms: now_ms,
                tally: std::mem::take(&mut self.tally),
            });
        }
    }

    fn path(data: &Path) -> PathBuf {
        data.join("scrub")
    }

    /// What an earlier process has left; nothing when that cannot be read.
    pub(super) fn read(file_system: &SharedFileSystem, data: &Path) -> Self {
        let path = Self::path(data);
        let read = || {
            if !file_system.exists(&path)? {
                return Ok(None);
            }
            let file = file_system.open(&path, OpenMode::Read)?;
            let length = file.length_bytes()?.min(MAXIMUM_BYTES);
            let length = usize::try_from(length).unwrap_or(0);
            read_exact_at(file.as_ref(), 0, length).map(Some)
        };
        let bytes: std::io::Result<Option<Vec<u8>>> = read();
        let parsed = bytes.map(|bytes| bytes.map(|bytes| serde_json::from_slice(&bytes)));
        match parsed {
            Ok(Some(Ok(record))) => record,
            Ok(None) => Self::default(),
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, path = %path.display(), "scrubbing begins anew");
                Self::default()
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "scrubbing begins anew");
                Self::default()
            }
        }
    }

    /// Keeps it for the next start. A failure costs no more than time.
    pub(super) fn write(&self, file_system: &SharedFileSystem, data: &Path) {
        let path = Self::path(data);
        let written = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::other)
            .and_then(|bytes| write_durably(file_system.as_ref(), &path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "the progress of scrubbing is not kept");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::simulated::SimulatedDisk;

    #[test]
    fn a_round_adds_up_its_parts_and_is_kept_for_the_next_start() {
        let disk = SimulatedDisk::new();
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let data = Path::new("/");
        assert_eq!(Record::read(&file_system, data), Record::default());
        let mut record = Record::default();
        record.begin(5);
        let tally = Tally {
            checked: 2,
            mended: 1,
            findings: vec!["a copy".to_owned()],
            ..Tally::default()
        };
        record.finish(Part::Identity, tally.clone(), 6);
        record.write(&file_system, data);
        let mut record = Record::read(&file_system, data);
        assert_eq!(
            (record.next_part, record.started_ms),
            (Some(Part::Log), Some(5))
        );
        for part in [Part::Log, Part::Snapshot, Part::Store] {
            record.finish(part, tally.clone(), 9);
        }
        assert_eq!(record.next_part, None);
        let last = record.last.unwrap();
        assert_eq!((last.started_ms, last.ended_ms), (5, 9));
        assert_eq!((last.tally.checked, last.tally.mended), (8, 4));
        disk.write(Path::new("/scrub"), b"{ no").unwrap();
        assert_eq!(Record::read(&file_system, data), Record::default());
    }

    #[test]
    fn findings_are_counted_without_bound_and_told_with_one() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.unrepairable(number.to_string());
        }
        assert_eq!((tally.unrepairable, tally.findings.len()), (1000, 20));
    }
}
