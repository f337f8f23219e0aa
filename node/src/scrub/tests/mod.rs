//! Scrubbing a volume that is in use: what is damaged is found and made good, what is whole is left
//! alone whatever goes on meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod concurrency;
mod derived;
mod identity;
mod log;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oxrdf::{GraphName, Literal, NamedNode, Quad};
use uuid::Uuid;

use super::parts::{LogPart, scrub_log};
use crate::disk::simulated::{Damage, SimulatedDisk};
use crate::disk::{SharedFileSystem, Unthrottled, VolumeLock};
use crate::identity::StoredVote;
use crate::log::{LogOptions, LogStore, OpenedLog};
use crate::position::LogPosition;
use crate::recovery::{OpenOptions, StorePlace, open_volume};
use crate::snapshots::SnapshotKeeper;
use crate::state::{Apply, Command, Effects, RequestId, State};
use quadraft_protocol::{NodeId, RecoveryReport};

const DATA: &str = "/data";

/// A volume that is in use, without a Raft core.
struct InUse {
    log: LogStore,
    keeper: Arc<SnapshotKeeper>,
    report: RecoveryReport,
    _lock: VolumeLock,
}

type StartLog = fn(
    OpenedLog,
    crate::identity::VoteFile,
    Arc<Mutex<crate::identity::SuperblockFile>>,
) -> std::io::Result<LogStore>;

impl InUse {
    fn open_with(
        file_system: &SharedFileSystem,
        data: &Path,
        store: StorePlace,
        start: StartLog,
    ) -> Self {
        let options = OpenOptions {
            data: data.to_owned(),
            cluster_uuid: Some(Uuid::from_u128(0xc1)),
            log: LogOptions {
                segment_bytes: 64 * 1024,
            },
            store,
            lets_go_of_applied: false,
        };
        let (volume, report) = open_volume(file_system, &options)
            .map_err(|refusal| refusal.report)
            .unwrap();
        let superblock = Arc::new(Mutex::new(volume.superblock));
        let log = start(volume.log, volume.vote, superblock).unwrap();
        let state = Arc::new(volume.state);
        Self {
            keeper: SnapshotKeeper::new(state, volume.snapshots, volume.snapshot),
            log,
            report,
            _lock: volume.lock,
        }
    }

    fn open(disk: &SimulatedDisk) -> Self {
        let file_system: SharedFileSystem = Arc::new(disk.clone());
        let data = Path::new(DATA);
        Self::open_with(
            &file_system,
            data,
            StorePlace::Memory,
            LogStore::start_inline,
        )
    }

    fn state(&self) -> &Arc<State> {
        self.keeper.state()
    }

    fn vote(&self, term: u64) {
        let vote = StoredVote {
            term,
            candidate: NodeId(1),
            committed: false,
        };
        self.log.save_vote(vote, Box::new(|saved| saved.unwrap()));
    }

    /// Appends entries one by one and commits them.
    fn append(&self, indices: std::ops::Range<u64>) {
        for index in indices {
            let entry = (at(index), payload(index));
            self.log
                .append(vec![entry], Box::new(|written| written.unwrap()));
            self.log.note_committed(at(index));
        }
    }

    fn apply(&self, indices: std::ops::Range<u64>) {
        for index in indices {
            let entry = (at(index), insert(index, self.state().data_index()));
            self.state().apply(&[entry]).unwrap();
        }
    }

    fn scrub(&self) -> LogPart {
        scrub_log(&self.log, &mut Unthrottled).unwrap()
    }

    /// Whether every entry is what was appended, whatever the page cache shows.
    fn assert_readable(&self, indices: std::ops::Range<u64>) {
        assert_eq!(self.log.unreadable(), []);
        let entries = self
            .log
            .read(indices.start, indices.end, usize::MAX)
            .unwrap();
        let expected: Vec<_> = indices.map(|index| (at(index), payload(index))).collect();
        assert_eq!(entries, expected);
    }
}

fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn payload(index: u64) -> Bytes {
    let length = 100 + usize::try_from(index).unwrap() * 37 % 2000;
    let bytes: Vec<u8> = (0..length as u64)
        .map(|at| (at * 7 + index * 13) as u8)
        .collect();
    bytes.into()
}

fn insert(number: u64, base_index: u64) -> Apply {
    let node = |name: String| NamedNode::new(format!("http://example.com/{name}")).unwrap();
    let quad = Quad::new(
        node(format!("s{number}")),
        node("p".to_owned()),
        Literal::new_simple_literal(format!("{number} {}", "x".repeat(3000))),
        GraphName::DefaultGraph,
    );
    let effects = Effects {
        inserts: vec![quad],
        ..Effects::default()
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number + 1).to_le_bytes());
    Apply::Command(Command {
        base_index,
        requests: vec![(RequestId(id), effects)],
    })
}

/// A volume with `entries` entries in several segments, in use.
fn in_use(entries: u64) -> (SimulatedDisk, InUse) {
    let disk = SimulatedDisk::new();
    let volume = InUse::open(&disk);
    volume.vote(1);
    volume.append(0..entries);
    (disk, volume)
}

/// The same after a restart: nothing is in memory.
fn restarted(disk: &SimulatedDisk) -> (SimulatedDisk, InUse) {
    let disk = disk.kill();
    let volume = InUse::open(&disk);
    (disk, volume)
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

fn flip(offset_bytes: u64) -> Damage {
    Damage::FlipBit {
        offset_bytes,
        bit: 4,
    }
}
