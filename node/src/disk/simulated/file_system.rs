//! The simulated disk as the node's file system.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::{File, FileLock, FileSystem, OpenMode};
use super::change::Change;
use super::directory::Entry;
use super::error::{BAD_HANDLE, EXISTS, INPUT_OUTPUT, IS_A_DIRECTORY, os};
use super::fault::{FaultKind, Target};
use super::record::OperationKind;
use super::shared::{Note, OpenFile, Shared};
use super::{SimulatedDisk, enter};

/// What is left on a disk without a capacity.
const PLENTY_BYTES: u64 = 1 << 50;

/// Stops when a fault strikes.
fn pass(fault: Option<FaultKind>) -> io::Result<()> {
    fault.map_or(Ok(()), |_| Err(os(INPUT_OUTPUT)))
}

impl FileSystem for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::Open, &[path]))?;
        let inode = match (mode, shared.state.find(path)) {
            (OpenMode::CreateNew, Ok(_)) => return Err(os(EXISTS)),
            (OpenMode::CreateNew, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                create(&mut shared, path)?
            }
            (_, Err(error)) => return Err(error),
            (_, Ok(Entry::Directory(_))) => return Err(os(IS_A_DIRECTORY)),
            (_, Ok(Entry::File(inode))) => inode,
        };
        *shared.open.entry(inode).or_default() += 1;
        Ok(Box::new(SimulatedFile {
            shared: Arc::clone(&self.shared),
            inode,
            path: path.to_owned(),
            writable: mode != OpenMode::Read,
        }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match enter(&self.shared).state.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::List, &[directory]))?;
        let number = shared.state.find_directory(directory)?;
        let names = shared.state.directory(number)?.cached.keys();
        Ok(names.map(|name| directory.join(name)).collect())
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::CreateDirectory, &[directory]))?;
        if shared.state.find(directory).is_ok() {
            return Ok(());
        }
        let place = shared.state.place(directory)?;
        let note = Note::on(OperationKind::CreateDirectory, directory);
        shared.perform(Change::CreateDirectory(place), note)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::Rename, &[from, to]))?;
        if !shared.state.check_rename(from, to)? {
            return Ok(());
        }
        let change = Change::Rename(shared.state.place(from)?, shared.state.place(to)?);
        shared.perform(change, Note::on(OperationKind::Rename, from).to(to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::Remove, &[path]))?;
        shared.state.find_file(path)?;
        let place = shared.state.place(path)?;
        let note = Note::on(OperationKind::RemoveFile, path);
        shared.perform(Change::Remove(place), note)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        enter(&self.shared).sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let mut shared = enter(&self.shared);
        pass(shared.fault(Target::Open, &[path]))?;
        let inode = match shared.state.find_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&mut shared, path)?,
            found => found?,
        };
        if !shared.locked.insert(inode) {
            return Ok(None);
        }
        *shared.open.entry(inode).or_default() += 1;
        Ok(Some(Box::new(SimulatedLock {
            shared: Arc::clone(&self.shared),
            inode,
        })))
    }

    fn reads_ahead(&self) -> bool {
        false
    }

    fn available_bytes(&self, directory: &Path) -> io::Result<u64> {
        let shared = enter(&self.shared);
        shared.state.find(directory)?;
        Ok(shared.available_bytes().unwrap_or(PLENTY_BYTES))
    }
}

/// Makes an empty file.
fn create(shared: &mut Shared, path: &Path) -> io::Result<u64> {
    let place = shared.state.place(path)?;
    let note = Note::on(OperationKind::CreateFile, path);
    shared.perform(Change::CreateFile(place), note)?;
    shared.state.find_file(path)
}

/// One handle fewer.
fn close(shared: &mut Shared, inode: u64) {
    if let Some(count) = shared.open.get_mut(&inode) {
        *count -= 1;
        if *count == 0 {
            shared.open.remove(&inode);
        }
    }
}

/// An open file.
struct SimulatedFile {
    shared: Arc<Mutex<Shared>>,
    inode: u64,
    path: PathBuf,
    writable: bool,
}

impl SimulatedFile {
    fn file(&self) -> OpenFile<'_> {
        OpenFile {
            inode: self.inode,
            path: &self.path,
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(os(BAD_HANDLE))
        }
    }
}

impl Debug for SimulatedFile {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "SimulatedFile({})", self.path.display())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        close(&mut enter(&self.shared), self.inode);
    }
}

impl File for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        enter(&self.shared).read(self.file(), buffer, offset_bytes)
    }

    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        enter(&self.shared).write(self.file(), bytes, offset_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        enter(&self.shared).sync(self.file())
    }

    fn length_bytes(&self) -> io::Result<u64> {
        let shared = enter(&self.shared);
        Ok(shared.state.inode(self.inode)?.cached.length_bytes)
    }

    fn allocate(&self, length_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        enter(&self.shared).allocate(self.file(), length_bytes)
    }

    fn forget_cached(&self) -> io::Result<()> {
        enter(&self.shared).forget(self.file())
    }
}

/// Unlocks when it is dropped.
struct SimulatedLock {
    shared: Arc<Mutex<Shared>>,
    inode: u64,
}

impl Debug for SimulatedLock {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "SimulatedLock({})", self.inode)
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut shared = enter(&self.shared);
        shared.locked.remove(&self.inode);
        close(&mut shared, self.inode);
    }
}

impl FileLock for SimulatedLock {}
