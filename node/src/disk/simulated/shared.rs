//! What all handles of one disk share.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::change::Change;
use super::error::{INPUT_OUTPUT, INVALID, NO_SPACE, NOT_FOUND, os};
use super::fault::{FaultKind, Faults, Target};
use super::inode::Fate;
use super::record::{Operation, OperationKind, Recording};
use super::state::{State, from_the_top};

/// What all handles of one disk share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: State,
    /// Files that are locked.
    pub(super) locked: BTreeSet<u64>,
    /// How many handles each open file has.
    pub(super) open: BTreeMap<u64, usize>,
    pub(super) faults: Faults,
    pub(super) recording: Option<Recording>,
    /// Whether a full disk takes the first bytes of a write that does not fit.
    pub(super) short_writes_when_full: bool,
}

/// What is recorded of an operation.
#[derive(Debug)]
pub(super) struct Note<'a> {
    kind: OperationKind,
    path: &'a Path,
    /// Set when the path is the one at which the file was opened.
    inode: Option<u64>,
    target: Option<&'a Path>,
    offset_bytes: u64,
    length_bytes: u64,
}

impl<'a> Note<'a> {
    /// An operation on a path.
    pub(super) fn on(kind: OperationKind, path: &'a Path) -> Self {
        Self {
            kind,
            path,
            inode: None,
            target: None,
            offset_bytes: 0,
            length_bytes: 0,
        }
    }

    /// An operation from one path to another.
    pub(super) fn to(mut self, target: &'a Path) -> Self {
        self.target = Some(target);
        self
    }

    /// An operation on an open file.
    pub(super) fn of(kind: OperationKind, file: OpenFile<'a>) -> Self {
        Self {
            inode: Some(file.inode),
            ..Self::on(kind, file.path)
        }
    }

    pub(super) fn range(mut self, offset_bytes: u64, length_bytes: u64) -> Self {
        self.offset_bytes = offset_bytes;
        self.length_bytes = length_bytes;
        self
    }
}

/// An open file, and where it was when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile<'a> {
    pub(super) inode: u64,
    pub(super) path: &'a Path,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            locked: BTreeSet::new(),
            open: BTreeMap::new(),
            faults: Faults::default(),
            recording: None,
            short_writes_when_full: false,
        }
    }

    /// Makes a change and records it.
    pub(super) fn perform(&mut self, change: Change<'_>, note: Note<'_>) -> io::Result<()> {
        self.state.apply(&change)?;
        let Some(recording) = &mut self.recording else {
            return Ok(());
        };
        let path = match note.inode {
            Some(inode) => self.state.path_of(inode, note.path),
            None => from_the_top(note.path),
        };
        let operation = Operation {
            ordinal: 0,
            kind: note.kind,
            path,
            target: note.target.map(from_the_top),
            offset_bytes: note.offset_bytes,
            length_bytes: note.length_bytes,
        };
        recording.push(operation, change, &self.state);
        Ok(())
    }

    /// The fault that strikes an operation on paths.
    pub(super) fn fault(&mut self, target: Target, paths: &[&Path]) -> Option<FaultKind> {
        self.faults.strike(target, paths)
    }

    /// The fault that strikes an operation on an open file.
    fn file_fault(&mut self, target: Target, file: OpenFile<'_>) -> Option<FaultKind> {
        if self.faults.is_empty() {
            return None;
        }
        let path = self.state.path_of(file.inode, file.path);
        self.faults.strike(target, &[&path])
    }

    /// Bytes by which files may still grow.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        let capacity = self.state.capacity_bytes?;
        Some(capacity.saturating_sub(self.state.used_bytes(&self.open)))
    }

    pub(super) fn read(
        &mut self,
        file: OpenFile<'_>,
        buffer: &mut [u8],
        offset_bytes: u64,
    ) -> io::Result<usize> {
        check_range(offset_bytes, buffer.len())?;
        if self.file_fault(Target::Read, file).is_some() {
            return Err(os(INPUT_OUTPUT));
        }
        let content = &self.state.inode(file.inode)?.cached;
        let left = content.length_bytes.saturating_sub(offset_bytes);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if !content.is_readable(offset_bytes, count) {
            return Err(os(INPUT_OUTPUT));
        }
        Ok(content.read(buffer, offset_bytes))
    }

    pub(super) fn write(
        &mut self,
        file: OpenFile<'_>,
        bytes: &[u8],
        offset_bytes: u64,
    ) -> io::Result<()> {
        check_range(offset_bytes, bytes.len())?;
        let mut written = bytes;
        let mut fate = Fate::Pending;
        let mut kind = OperationKind::Write;
        let mut failure = None;
        match self.file_fault(Target::Write, file) {
            None => {}
            Some(FaultKind::LostWrite) => {
                fate = Fate::Lost;
                kind = OperationKind::LostWrite;
            }
            Some(FaultKind::MisdirectedWrite { to_offset_bytes }) => {
                check_range(to_offset_bytes, bytes.len())?;
                fate = Fate::Misdirected { to_offset_bytes };
                kind = OperationKind::MisdirectedWrite { to_offset_bytes };
            }
            Some(FaultKind::ShortWriteThenError { written_bytes }) => {
                written = &bytes[..written_bytes.min(bytes.len())];
                kind = OperationKind::ShortWrite;
                failure = Some(INPUT_OUTPUT);
            }
            Some(_) => return Err(os(INPUT_OUTPUT)),
        }
        let inode = self.state.inode(file.inode)?;
        if inode.needs_unreadable(offset_bytes, written.len()) {
            return Err(os(INPUT_OUTPUT));
        }
        let length = inode.cached.length_bytes;
        let end = offset_bytes + written.len() as u64;
        if let Some(room) = self.room_below(length, end) {
            let fitting = (length + room).saturating_sub(offset_bytes) as usize;
            written = &written[..if self.short_writes_when_full {
                fitting
            } else {
                0
            }];
            fate = Fate::Pending;
            kind = OperationKind::ShortWrite;
            failure = Some(NO_SPACE);
        }
        if !written.is_empty() {
            let change = Change::Write {
                inode: file.inode,
                offset_bytes,
                bytes: Cow::Borrowed(written),
                fate,
            };
            let note = Note::of(kind, file).range(offset_bytes, written.len() as u64);
            self.perform(change, note)?;
        }
        failure.map_or(Ok(()), |number| Err(os(number)))
    }

    /// Bytes by which a file may grow, when that is too little.
    fn room_below(&self, length_bytes: u64, end_bytes: u64) -> Option<u64> {
        let wanted = end_bytes.checked_sub(length_bytes)?;
        if wanted == 0 {
            return None;
        }
        self.available_bytes().filter(|room| *room < wanted)
    }

    pub(super) fn allocate(&mut self, file: OpenFile<'_>, length_bytes: u64) -> io::Result<()> {
        if length_bytes == 0 {
            return Err(os(INVALID));
        }
        check_range(length_bytes, 0)?;
        if self.file_fault(Target::Allocate, file).is_some() {
            return Err(os(INPUT_OUTPUT));
        }
        let inode = self.state.inode(file.inode)?;
        let length = inode.cached.length_bytes;
        if length_bytes <= length.min(inode.coming_length_bytes()) {
            return Ok(());
        }
        if self.room_below(length, length_bytes).is_some() {
            return Err(os(NO_SPACE));
        }
        let change = Change::Extend {
            inode: file.inode,
            length_bytes,
        };
        let note = Note::of(OperationKind::Allocate, file).range(0, length_bytes);
        self.perform(change, note)
    }

    pub(super) fn sync(&mut self, file: OpenFile<'_>) -> io::Result<()> {
        if self.file_fault(Target::Sync, file).is_some() {
            let note = Note::of(OperationKind::FailedSync, file);
            self.perform(Change::FailSync(file.inode), note)?;
            return Err(os(INPUT_OUTPUT));
        }
        let note = Note::of(OperationKind::Sync, file);
        self.perform(Change::Sync(file.inode), note)
    }

    pub(super) fn forget(&mut self, file: OpenFile<'_>) -> io::Result<()> {
        let inode = self.state.inode(file.inode)?;
        if inode.phantoms.is_empty() && inode.cached.length_bytes == inode.coming_length_bytes() {
            return Ok(());
        }
        let note = Note::of(OperationKind::ForgetCached, file);
        self.perform(Change::Forget(file.inode), note)
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let number = self.state.find_directory(path)?;
        if self.fault(Target::SyncDirectory, &[path]).is_some() {
            let note = Note::on(OperationKind::FailedSyncDirectory, path);
            self.perform(Change::FailSyncDirectory(number), note)?;
            return Err(os(INPUT_OUTPUT));
        }
        let note = Note::on(OperationKind::SyncDirectory, path);
        self.perform(Change::SyncDirectory(number), note)?;
        self.state.prune(&self.open);
        Ok(())
    }

    /// The whole of a file, without counting as an operation.
    pub(super) fn whole(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = &self.state.inode(self.state.find_file(path)?)?.cached;
        let size = usize::try_from(content.length_bytes).map_err(|_| os(NOT_FOUND))?;
        if !content.is_readable(0, size) {
            return Err(os(INPUT_OUTPUT));
        }
        let mut bytes = vec![0; size];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }
}

/// Offsets go up to the greatest that the operating system takes.
fn check_range(offset_bytes: u64, length_bytes: usize) -> io::Result<()> {
    let end = offset_bytes.checked_add(length_bytes as u64);
    match end.map(i64::try_from) {
        Some(Ok(_)) => Ok(()),
        _ => Err(os(INVALID)),
    }
}
