//! A log that is worked with, and a model of what it must hold.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quadraft_protocol::NodeId;
use uuid::Uuid;

use crate::disk::SharedFileSystem;
use crate::disk::simulated::{SimulatedDisk, SplitMix};
use crate::log::layout::{
    FormatVersion, SegmentHeaderRead, decode_segment_header, encode_segment_header,
};
use crate::log::segment::segment_path;
use crate::log::{
    LogContents, LogError, LogFiles, LogIdentity, LogOptions, OpenedLog, RecordKind, open_log,
};
use crate::position::LogPosition;

pub(super) const FOLDER: &str = "/volume/log";

pub(super) const IDENTITY: LogIdentity = LogIdentity {
    cluster_uuid: Uuid::from_u128(0x11),
    node_id: NodeId(0x22),
    incarnation: Uuid::from_u128(0x33),
};

/// What a log holds: entries from the first to the last, and the ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) entries: Vec<(LogPosition, Bytes)>,
    pub(super) purged: Option<LogPosition>,
    pub(super) committed: Option<LogPosition>,
}

impl Model {
    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogPosition> {
        self.entries.last().map(|entry| entry.0).or(self.purged)
    }

    pub(super) fn payload(&self, position: LogPosition) -> Option<&Bytes> {
        self.entries
            .iter()
            .find(|entry| entry.0 == position)
            .map(|entry| &entry.1)
    }

    /// Whether a log has exactly these entries by name, with these payloads where it can read them.
    pub(super) fn check(&self, opened: &OpenedLog) -> Result<(), String> {
        let contents = &opened.contents;
        if contents.len() != self.entries.len() || contents.purged() != self.purged {
            return Err(format!(
                "{} entries after {:?} instead of {} after {:?}",
                contents.len(),
                contents.purged(),
                self.entries.len(),
                self.purged
            ));
        }
        let unreadable: Vec<_> = contents.unreadable().map(|entry| entry.position).collect();
        let readers = opened.files.readers();
        for (position, payload) in &self.entries {
            let location = contents
                .get(position.index)
                .filter(|location| location.position == *position)
                .ok_or_else(|| format!("entry {position} is missing"))?;
            match readers.read(&location) {
                Ok(found) if found == payload[..] => {}
                Ok(_) => return Err(format!("entry {position} has another payload")),
                Err(LogError::Unreadable { .. }) if unreadable.contains(position) => {}
                Err(error) => return Err(format!("entry {position}: {error}")),
            }
        }
        Ok(())
    }
}

/// What is done to a log.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(LogPosition, Bytes)>),
    Truncate(u64),
    Commit(LogPosition),
    Purge(LogPosition),
}

impl Step {
    /// One that the model allows.
    fn random(random: &mut SplitMix, model: &Model, maximum_payload_bytes: usize) -> Self {
        let committed = model.committed.map_or(0, |committed| committed.index + 1);
        match random.below(10) {
            0 if model.next_index() > committed => {
                let span = usize::try_from(model.next_index() - committed).unwrap();
                Self::Truncate(committed + random.below(span) as u64)
            }
            1 if model.committed > model.purged => Self::Purge(model.committed.unwrap()),
            2 | 3 if model.next_index() > committed => Self::Commit(model.last().unwrap()),
            _ => {
                let most = [1, 2, 30][random.below(3)];
                let count = 1 + random.below(most);
                let term = model.last().map_or(1, |last| last.term) + random.below(2) as u64;
                let entries = (0..count as u64)
                    .map(|number| {
                        let most = [16, 300, maximum_payload_bytes][random.below(3)];
                        let length = random.below(most);
                        let payload: Vec<u8> =
                            (0..length).map(|_| random.next_u64() as u8).collect();
                        let index = model.next_index() + number;
                        (LogPosition { term, index }, payload.into())
                    })
                    .collect();
                Self::Append(entries)
            }
        }
    }

    fn apply(&self, model: &mut Model) {
        match self {
            Self::Append(entries) => model.entries.extend(entries.iter().cloned()),
            Self::Truncate(first) => model.entries.retain(|entry| entry.0.index < *first),
            Self::Commit(position) => model.committed = Some(*position),
            Self::Purge(position) => {
                model.entries.retain(|entry| entry.0.index > position.index);
                model.purged = Some(*position);
            }
        }
    }
}

/// A log on a simulated disk, with what it must hold after every step.
pub(super) struct Workload {
    pub(super) disk: SimulatedDisk,
    pub(super) files: LogFiles,
    contents: LogContents,
    /// After step 0 (nothing), 1, 2, …
    pub(super) models: Vec<Model>,
    maximum_payload_bytes: usize,
}

pub(super) fn open(disk: &SimulatedDisk, must_exist: bool) -> Result<OpenedLog, LogError> {
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let options = LogOptions {
        segment_bytes: 96 * 1024,
    };
    open_log(
        &file_system,
        Path::new(FOLDER),
        IDENTITY,
        options,
        must_exist,
    )
}

impl Workload {
    pub(super) fn new() -> Self {
        let disk = SimulatedDisk::new();
        let opened = open(&disk, false).unwrap();
        Self {
            disk,
            files: opened.files,
            contents: opened.contents,
            models: vec![Model::default()],
            maximum_payload_bytes: 6000,
        }
    }

    /// Each fifth goes on with a log of the version before.
    pub(super) fn numbered(seed: u64) -> Self {
        if seed % 5 == 4 {
            Self::of_the_version_before()
        } else {
            Self::new()
        }
    }

    /// With a first segment of the version before, which is appended to.
    pub(super) fn of_the_version_before() -> Self {
        let mut workload = Self::new();
        workload.files.begin(&workload.contents).unwrap();
        let path = segment_path(Path::new(FOLDER), 1);
        let mut bytes = workload.disk.read(&path).unwrap();
        let SegmentHeaderRead::Good { mut header, .. } = decode_segment_header(&bytes) else {
            panic!("the segment was just made");
        };
        header.version = FormatVersion::Two;
        let encoded = encode_segment_header(&IDENTITY, &header);
        for offset in [0, header.geometry.second_header()] {
            let start = usize::try_from(offset).unwrap();
            bytes[start..start + encoded.len()].copy_from_slice(&encoded);
        }
        workload.disk.write(&path, &bytes).unwrap();
        let opened = open(&workload.disk, true).unwrap();
        Self {
            files: opened.files,
            contents: opened.contents,
            ..workload
        }
    }

    pub(super) fn model(&self) -> &Model {
        self.models.last().unwrap()
    }

    /// Does a random step; the disk is marked with the number of each step that has returned.
    pub(super) fn step(&mut self, random: &mut SplitMix) {
        let step = Step::random(random, self.model(), self.maximum_payload_bytes);
        let mut model = self.model().clone();
        step.apply(&mut model);
        self.models.push(model);
        let records: Vec<(RecordKind, LogPosition, &[u8])> = match &step {
            Step::Append(entries) => entries
                .iter()
                .map(|(position, payload)| (RecordKind::Entry, *position, &payload[..]))
                .collect(),
            Step::Truncate(first) => {
                let position = LogPosition {
                    term: 0,
                    index: *first,
                };
                vec![(RecordKind::TruncateAfter, position, &[][..])]
            }
            Step::Commit(position) => vec![(RecordKind::Committed, *position, &[][..])],
            Step::Purge(position) => vec![(RecordKind::Purged, *position, &[][..])],
        };
        let locations = self.files.append(&records, &self.contents).unwrap();
        for ((kind, _, _), location) in records.iter().zip(locations) {
            self.contents.apply(*kind, location).unwrap();
        }
        self.contents.validate().unwrap();
        if let Step::Purge(position) = step {
            self.files.remove_purged(position).unwrap();
        }
        self.disk.mark(self.models.len() as u64 - 1);
    }
}
