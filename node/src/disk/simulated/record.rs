//! A log of what was done to a disk, and the disk at any point of it.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use super::change::Change;
use super::damage::Damage;
use super::state::State;

/// A state is kept each time this many operations were recorded; others are replayed from there.
const INTERVAL: usize = 32;

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// A file was made, also by a lock.
    CreateFile,
    CreateDirectory,
    RemoveFile,
    Rename,
    SyncDirectory,
    /// A sync of a folder that failed by injection.
    FailedSyncDirectory,
    Write,
    /// A write of which only the first bytes were written; the length is theirs.
    ShortWrite,
    /// A write that the platter does not have.
    LostWrite,
    /// A write that went elsewhere on the platter.
    MisdirectedWrite {
        to_offset_bytes: u64,
    },
    Allocate,
    Sync,
    /// A sync that failed by injection.
    FailedSync,
    /// Cached pages that the platter does not have were let go.
    ForgetCached,
    /// A test put a whole file in place, durably.
    Put,
    Damage(Damage),
    /// A test changed the capacity.
    SetCapacity,
}

/// An operation that changed the disk, or could have made a change durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// 1 for the first of the recording.
    pub ordinal: usize,
    pub kind: OperationKind,
    /// Where the file was just after.
    pub path: PathBuf,
    /// Where a rename led to.
    pub target: Option<PathBuf>,
    /// For writes, where they start.
    pub offset_bytes: u64,
    /// For writes, their length; for allocations, the length of the file.
    pub length_bytes: u64,
}

impl Display for Operation {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(formatter, "{} {:?} {path}", self.ordinal, self.kind)?;
        if let Some(target) = &self.target {
            write!(formatter, " to {}", target.display())?;
        }
        if self.length_bytes > 0 {
            let (offset, length) = (self.offset_bytes, self.length_bytes);
            write!(formatter, " at {offset}, {length} bytes")?;
        }
        Ok(())
    }
}

/// A recording.
#[derive(Debug)]
pub(super) struct Recording {
    /// The states after 0, [`INTERVAL`], 2 × [`INTERVAL`] … operations.
    kept: Vec<State>,
    operations: Vec<(Operation, Change<'static>)>,
    marks: Vec<(usize, u64)>,
}

impl Recording {
    pub(super) fn new(start: State) -> Self {
        Self {
            kept: vec![start],
            operations: Vec::new(),
            marks: Vec::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.operations.len()
    }

    /// Notes an operation and the state right after it.
    pub(super) fn push(&mut self, mut operation: Operation, change: Change<'_>, after: &State) {
        operation.ordinal = self.operations.len() + 1;
        self.operations.push((operation, change.into_owned()));
        if self.operations.len().is_multiple_of(INTERVAL) {
            self.kept.push(after.clone());
        }
    }

    /// The operation with this ordinal.
    pub(super) fn operation(&self, ordinal: usize) -> Option<&Operation> {
        let (operation, _) = self.operations.get(ordinal.checked_sub(1)?)?;
        Some(operation)
    }

    /// The state right after this many operations, or after all.
    pub(super) fn at(&self, point: usize) -> Option<State> {
        let point = point.min(self.operations.len());
        let mut state = self.kept.get(point / INTERVAL)?.clone();
        for (_, change) in &self.operations[point - point % INTERVAL..point] {
            let applied = state.apply(change);
            debug_assert!(applied.is_ok(), "a replay does what was done: {applied:?}");
        }
        Some(state)
    }

    pub(super) fn mark(&mut self, label: u64) {
        self.marks.push((self.operations.len(), label));
    }

    pub(super) fn marks_before(&self, point: usize) -> Vec<u64> {
        let before = self.marks.iter().take_while(|(place, _)| *place <= point);
        before.map(|(_, label)| *label).collect()
    }
}
