//! A disk in memory that crashes, fails and forgets as real disks do, for tests.
//!
//! A [`SimulatedDisk`] stands behind [`FileSystem`](super::FileSystem) like the machine's own file
//! system. It knows what the running process sees, the page cache, apart from what is durable, so it
//! can be asked for every disk that a power loss may leave ([`SimulatedDisk::crash`]), for the disk
//! that the next process finds ([`SimulatedDisk::kill`]), and for either at any point of a recorded
//! run ([`SimulatedDisk::at`]). It can be damaged ([`Damage`]) and made to fail ([`Fault`]).
//!
//! The model:
//!
//! * What is written, and a longer length, may be durable at any time and is for certain after
//!   `File::sync`. Until then each 512-byte sector is what was durable or what any write since made
//!   it, independent of all others, and never a mix.
//! * Names that are made, changed or removed are durable for certain after `sync_directory`; until
//!   then a crash keeps the first few of the operations on each folder and undoes the others. A move
//!   to another folder is durable for certain after a sync of the folder it leads to, but a file may
//!   still be found at both places until the other folder is synced too.
//! * A sync of a file promises nothing for its name, nor that of a folder for what the files hold.

mod change;
mod choice;
mod content;
mod crash;
mod damage;
mod directory;
mod error;
mod fault;
mod file_system;
mod inode;
mod record;
mod shared;
mod state;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use choice::{
    Choice, Coverage, Exhaustive, KeepEverything, KeepNothing, SeededChoice, SplitMix, Tendency,
};
pub use damage::Damage;
pub use fault::{Fault, FaultKind, PathMatch};
pub use record::{Operation, OperationKind};

use change::Change;
use directory::Entry;
use record::Recording;
use shared::{Note, Shared};
use state::{ROOT, State};

/// A disk in memory with one file system. Clones are handles of the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Mutex<Shared>>,
}

/// Goes on after a test that failed while it held the lock: the state is whole at all times.
fn enter(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for SimulatedDisk {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "SimulatedDisk({} files)", self.files().len())
    }
}

impl SimulatedDisk {
    /// An empty disk, with nothing but the folder at the top.
    #[must_use]
    pub fn new() -> Self {
        Self::with(State::new(), false)
    }

    fn with(state: State, short_writes_when_full: bool) -> Self {
        let shared = Shared {
            short_writes_when_full,
            ..Shared::new(state)
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The disk as it may be after a power loss now. Nothing is locked or open on it, and it has no
    /// faults and no recording. This one goes on as it was.
    #[must_use]
    pub fn crash(&self, choice: &mut dyn Choice) -> Self {
        let shared = enter(&self.shared);
        let (state, short) = (shared.state.clone(), shared.short_writes_when_full);
        drop(shared);
        Self::with(state.crash(choice), short)
    }

    /// The disk after the process died and the machine did not: reads show all that was written,
    /// also what a failed sync or a lost write keeps from the platter, as the page cache outlives the
    /// process (see [`Self::forget_all_cached`]). Nothing is locked or open on it, and it has no
    /// faults and no recording. This one goes on as it was.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.fork()
    }

    /// A copy with everything that is pending; nothing is locked or open on it, and it has no faults
    /// and no recording.
    #[must_use]
    pub fn fork(&self) -> Self {
        let shared = enter(&self.shared);
        let mut state = shared.state.clone();
        if !shared.open.is_empty() {
            state.prune(&BTreeMap::new());
        }
        Self::with(state, shared.short_writes_when_full)
    }

    /// Lets go of all cached pages that the platter does not have and that are not pending, as the
    /// machine does when it needs the memory: a failed sync or a lost write comes to light.
    pub fn forget_all_cached(&self) {
        let note = Note::on(OperationKind::ForgetCached, Path::new("/"));
        let _ = enter(&self.shared).perform(Change::ForgetAll, note);
    }

    /// Lets files have this many bytes in all, counted by their lengths.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        let note = Note::on(OperationKind::SetCapacity, Path::new("/"));
        let _ = enter(&self.shared).perform(Change::Capacity(capacity_bytes), note);
    }

    /// Whether a full disk writes the first bytes of a write that does not fit before it fails.
    pub fn set_short_writes_when_full(&self, short: bool) {
        enter(&self.shared).short_writes_when_full = short;
    }

    /// Damages a file, or removes a file or folder.
    ///
    /// # Errors
    /// `InvalidInput` when the damage does not lie in the file or changes nothing that can be read,
    /// so that no test counts damage that was none; otherwise that of finding the path.
    pub fn damage(&self, path: &Path, damage: Damage) -> io::Result<()> {
        let mut shared = enter(&self.shared);
        let note = Note::on(OperationKind::Damage(damage.clone()), path);
        let change = if damage == Damage::Remove {
            shared.state.find(path)?;
            Change::Strike(shared.state.place(path)?)
        } else {
            Change::Damage(shared.state.find_file(path)?, damage)
        };
        shared.perform(change, note)
    }

    /// Makes an operation to come fail.
    pub fn inject(&self, fault: Fault) {
        enter(&self.shared).faults.add(fault);
    }

    /// Takes back all faults to come.
    pub fn clear_faults(&self) {
        enter(&self.shared).faults.clear();
    }

    /// How many faults are still to come or lasting. 0 means that all have struck.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        enter(&self.shared).faults.count()
    }

    /// Starts a recording, and ends the one before.
    pub fn record(&self) {
        let mut shared = enter(&self.shared);
        shared.recording = Some(Recording::new(shared.state.clone()));
    }

    /// How many operations were recorded.
    #[must_use]
    pub fn operations(&self) -> usize {
        let shared = enter(&self.shared);
        shared.recording.as_ref().map_or(0, Recording::count)
    }

    /// A recorded operation; the first is number 1.
    #[must_use]
    pub fn operation(&self, ordinal: usize) -> Option<Operation> {
        let shared = enter(&self.shared);
        shared.recording.as_ref()?.operation(ordinal).cloned()
    }

    /// The disk right after the operation `point`, as the running process saw it and with what was
    /// pending then; 0 is the start of the recording, and what is beyond its end is its end. Without
    /// a recording, the disk as it is.
    #[must_use]
    pub fn at(&self, point: usize) -> Self {
        let shared = enter(&self.shared);
        let recorded = shared.recording.as_ref().and_then(|r| r.at(point));
        let state = recorded.unwrap_or_else(|| shared.state.clone());
        Self::with(state, shared.short_writes_when_full)
    }

    /// Notes in the recording that something is so from here on, such as that a write was
    /// acknowledged.
    pub fn mark(&self, label: u64) {
        if let Some(recording) = &mut enter(&self.shared).recording {
            recording.mark(label);
        }
    }

    /// Labels of the marks that were made up to the operation `point` and before the next one.
    #[must_use]
    pub fn marks_before(&self, point: usize) -> Vec<u64> {
        let shared = enter(&self.shared);
        let recording = shared.recording.as_ref();
        recording.map_or_else(Vec::new, |recording| recording.marks_before(point))
    }

    /// The whole of a file as a process sees it. Faults do not strike this.
    ///
    /// # Errors
    /// Those of finding the file, and EIO when a sector is unreadable.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        enter(&self.shared).whole(path)
    }

    /// Puts a whole file in its place, durably, with the folders above it. Faults do not strike
    /// this, and it needs no space. A file that is there keeps its handles and locks.
    ///
    /// # Errors
    /// `NotADirectory` or `IsADirectory` when a name on the path stands for something else.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let note = Note::on(OperationKind::Put, path).range(0, bytes.len() as u64);
        let change = Change::Put(path.to_owned(), Cow::Borrowed(bytes));
        enter(&self.shared).perform(change, note)
    }

    /// Paths of all files, from the top and sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let shared = enter(&self.shared);
        shared.state.walk(ROOT, Path::new("/"), &mut |path, entry| {
            if matches!(entry, Entry::File(_)) {
                files.push(path);
            }
        });
        files.sort();
        files
    }

    /// One line for each file and for each folder with pending operations.
    #[must_use]
    pub fn describe(&self) -> String {
        let shared = enter(&self.shared);
        let mut text = String::new();
        let mut line = |path: PathBuf, entry| {
            let path = path.display();
            let _ = match entry {
                Entry::File(number) => shared.state.inode(number).map(|inode| {
                    let length = inode.cached.length_bytes;
                    let durable = inode.durable.length_bytes;
                    let pages = inode.pending.len();
                    let phantoms = inode.phantoms.iter().count();
                    writeln!(
                        text,
                        "{path}: {length} bytes, {durable} durable, {pages} pages pending, \
                         {phantoms} pages only cached"
                    )
                }),
                Entry::Directory(number) => shared.state.directory(number).map(|directory| {
                    let pending = directory.pending.len();
                    writeln!(text, "{path}/: {pending} operations pending")
                }),
            };
        };
        line(PathBuf::from("/"), Entry::Directory(ROOT));
        shared.state.walk(ROOT, Path::new("/"), &mut line);
        text
    }
}
