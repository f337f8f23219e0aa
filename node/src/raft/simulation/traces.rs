//! What each operation that openraft asks for does to the disk, in order: docs/order-on-disk.md
//! argues from these traces, and holds them word for word.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quadraft_protocol::NodeId;

use super::cluster::{DATA, open_options, place_of};
use crate::disk::SharedFileSystem;
use crate::disk::simulated::{Damage, Operation, OperationKind, SimulatedDisk};
use crate::identity::StoredVote;
use crate::log::{Completion, LogStore};
use crate::position::LogPosition;
use crate::recovery::open_volume;
use crate::snapshots::SnapshotKeeper;
use crate::state::Apply;

/// Where the identifiers of a segment end, and how long it is, in what the simulated nodes write.
const SEGMENT_NAMES_END: u64 = 4096 + SEGMENT_BYTES / 8;
const SEGMENT_BYTES: u64 = 128 * 1024;

const DOCUMENT: &str = include_str!("../../../../docs/order-on-disk.md");

/// The operations on a disk since the last look at it, as text.
#[derive(Clone)]
struct Trace {
    disk: SimulatedDisk,
    inner: Arc<Mutex<(usize, String)>>,
}

impl Trace {
    fn of(disk: &SimulatedDisk) -> Self {
        disk.record();
        Self {
            disk: disk.clone(),
            inner: Arc::default(),
        }
    }

    /// Tells what was done since, and then `what`.
    fn say(&self, what: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, text) = &mut *inner;
        while *seen < self.disk.operations() {
            *seen += 1;
            if let Some(operation) = self.disk.operation(*seen) {
                let line = describe(&operation);
                // Space is marked in pieces.
                if !text.ends_with(&line) {
                    text.push_str(&line);
                }
            }
        }
        writeln!(text, "{what}").unwrap();
    }

    /// A completion that says when it is called.
    fn completion(&self) -> Completion {
        let trace = self.clone();
        Box::new(move |result| {
            result.unwrap();
            trace.say("  => completed");
        })
    }

    fn text(&self) -> String {
        self.inner.lock().unwrap().1.clone()
    }
}

fn describe(operation: &Operation) -> String {
    let name = |path: &Path| {
        let path = path
            .strip_prefix(DATA)
            .unwrap_or(path)
            .display()
            .to_string();
        // Random names.
        match path.strip_suffix(".new") {
            Some(stem) if stem.starts_with("snapshots/") => "snapshots/….new".to_owned(),
            _ => path,
        }
    };
    let file = name(&operation.path);
    let place = if file.starts_with("log/") {
        match operation.offset_bytes {
            0 => ", first header",
            offset if offset < SEGMENT_NAMES_END => ", identifiers",
            offset if offset + 4096 >= SEGMENT_BYTES => ", second header",
            _ => ", records",
        }
    } else if ["superblock", "vote"].contains(&file.as_str()) {
        if operation.offset_bytes == 0 {
            ", first copy"
        } else {
            ", second copy"
        }
    } else {
        ""
    };
    let done = match &operation.kind {
        OperationKind::CreateFile => format!("create {file}"),
        OperationKind::CreateDirectory => format!("create folder {file}"),
        OperationKind::RemoveFile => format!("remove {file}"),
        OperationKind::Rename => {
            let to = operation.target.as_deref().map(name).unwrap_or_default();
            format!("rename {file} to {to}")
        }
        OperationKind::SyncDirectory => {
            format!("sync folder {}", if file.is_empty() { "." } else { &file })
        }
        OperationKind::Write => format!("write {file}{place}"),
        OperationKind::Allocate => format!("allocate {file}"),
        OperationKind::Sync => format!("sync {file}"),
        OperationKind::Damage(_) => format!("(damage to {file})"),
        other => format!("{other:?} {file}"),
    };
    format!("  {done}\n")
}

fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn vote(term: u64) -> StoredVote {
    StoredVote {
        term,
        candidate: NodeId(7),
        committed: false,
    }
}

fn traces() -> String {
    let disk = SimulatedDisk::new();
    let file_system: SharedFileSystem = Arc::new(disk.clone());
    let (volume, _) = open_volume(&file_system, &open_options()).unwrap();
    let superblock = Arc::new(Mutex::new(volume.superblock));
    let log = LogStore::start_inline(volume.log, volume.vote, superblock).unwrap();
    let state = Arc::new(volume.state);
    let keeper = SnapshotKeeper::new(state.clone(), volume.snapshots.clone(), volume.snapshot);
    let trace = Trace::of(&disk);

    trace.say("the first promise of a volume, a vote");
    log.save_vote(vote(1), trace.completion());
    trace.say("\na vote");
    log.save_vote(vote(2), trace.completion());

    trace.say("\nan append");
    let small = Bytes::from_static(b"small");
    log.append(vec![(at(0), small.clone())], trace.completion());
    trace.say("\nan append and a note of what is committed");
    log.append(vec![(at(1), small)], trace.completion());
    log.note_committed(at(1));
    trace.say("\nan append that goes on to the next segment");
    let large = Bytes::from(vec![1; 31_000]);
    let entries = (2..=4).map(|index| (at(index), large.clone())).collect();
    log.append(entries, trace.completion());
    trace.say("\na truncation");
    log.truncate_after(Some(at(3)), trace.completion());

    let blanks: Vec<_> = (0..=3).map(|index| (at(index), Apply::Blank)).collect();
    state.apply(&blanks).unwrap();
    trace.say("\nwriting a snapshot");
    let snapshot = keeper.build().unwrap();
    trace.say("  => built");
    trace.say("\na purge up to it");
    log.purge(at(1), trace.completion());

    trace.say("\nthe repair of an entry");
    let (path, place) = place_of(&disk, 3);
    let damage = Damage::FlipBit {
        offset_bytes: place.offset_bytes + 1000,
        bit: 1,
    };
    disk.damage(&path, damage).unwrap();
    log.repair(at(3), &large).unwrap();
    trace.say("  => repaired");

    trace.say("\na snapshot from the leader");
    let mut bytes = Vec::new();
    snapshot.open().unwrap().read_to_end(&mut bytes).unwrap();
    let (path, mut file) = volume.snapshots.receive().unwrap();
    file.write_all(&bytes).unwrap();
    file.file().sync().unwrap();
    drop(file);
    trace.say("  => received");
    let accepted = volume.snapshots.accept(&path, Some(at(3))).unwrap();
    trace.say("  => accepted");
    keeper.install(&accepted).unwrap();
    trace.say("  => installed");
    trace.text()
}

#[test]
fn traces_are_those_of_the_document() {
    let traces = traces();
    assert!(
        DOCUMENT.contains(&format!("```text\n{traces}```")),
        "docs/order-on-disk.md has other traces than:\n{traces}"
    );
}
