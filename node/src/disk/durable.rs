//! Operations on names that are durable when they return.

use std::io;
use std::path::{Path, PathBuf};

use super::{File, FileSystem, OpenMode, read_what_can_be_read};
use crate::planted::{Bug, is_planted};

/// Files are copied in pieces of this length.
const COPIED_BYTES: u64 = 1024 * 1024;

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no parent folder"))
}

/// Makes a folder and those above it, each with a durable name.
///
/// # Errors
/// Those of the operating system.
pub fn create_directories(file_system: &dyn FileSystem, directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || file_system.exists(directory)? {
        return Ok(());
    }
    let Some(above) = directory.parent() else {
        return Ok(());
    };
    create_directories(file_system, above)?;
    file_system.create_directory(directory)?;
    file_system.sync_directory(if above.as_os_str().is_empty() {
        Path::new(".")
    } else {
        above
    })
}

/// Writes a whole file so that after a crash either the old content or the new one is there:
/// write beside it, fsync, rename over it, fsync the folder (Pillai et al., "All File Systems Are
/// Not Created Equal", OSDI 2014).
///
/// # Errors
/// Those of the operating system.
pub fn write_durably(file_system: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    if file_system.exists(&temporary)? {
        file_system.remove_file(&temporary)?;
    }
    let file = file_system.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(bytes, 0)?;
    if !is_planted(Bug::RenamedBeforeSync) {
        file.sync()?;
    }
    file_system.rename(&temporary, path)?;
    if is_planted(Bug::DirectoryNotSynced) {
        return Ok(());
    }
    file_system.sync_directory(parent(path)?)
}

/// Removes a file durably.
///
/// # Errors
/// Those of the operating system.
pub fn remove_durably(file_system: &dyn FileSystem, path: &Path) -> io::Result<()> {
    file_system.remove_file(path)?;
    file_system.sync_directory(parent(path)?)
}

/// Moves a file or folder into `quarantine` under the data folder, under a name that is not taken,
/// and returns where it is now. No byte is lost: a person may want to look at it.
///
/// # Errors
/// Those of the operating system.
pub fn quarantine(file_system: &dyn FileSystem, data: &Path, path: &Path) -> io::Result<PathBuf> {
    let target = free_place(file_system, data, path)?;
    file_system.rename(path, &target)?;
    file_system.sync_directory(parent(&target)?)?;
    file_system.sync_directory(parent(path)?)?;
    Ok(target)
}

/// Where something goes in `quarantine`, which exists when this returns.
fn free_place(file_system: &dyn FileSystem, data: &Path, path: &Path) -> io::Result<PathBuf> {
    let folder = data.join("quarantine");
    create_directories(file_system, &folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no name"))?;
    let mut number = 1_u32;
    loop {
        let candidate = folder.join(format!("{}.{number}", name.to_string_lossy()));
        if !file_system.exists(&candidate)? || is_planted(Bug::QuarantineReplaced) {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// Copies a file into `quarantine`, as [`quarantine`] names what it moves there, and returns where
/// the copy is; durable when it returns. Sectors that the disk does not give are zeros in it.
///
/// # Errors
/// Those of the operating system.
pub fn keep_copy(file_system: &dyn FileSystem, data: &Path, path: &Path) -> io::Result<PathBuf> {
    let target = free_place(file_system, data, path)?;
    let mut temporary = target.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    if file_system.exists(&temporary)? {
        file_system.remove_file(&temporary)?;
    }
    let from = file_system.open(path, OpenMode::Read)?;
    let to = file_system.open(&temporary, OpenMode::CreateNew)?;
    copy_what_can_be_read(from.as_ref(), to.as_ref())?;
    to.sync()?;
    file_system.rename(&temporary, &target)?;
    file_system.sync_directory(parent(&target)?)?;
    Ok(target)
}

fn copy_what_can_be_read(from: &dyn File, to: &dyn File) -> io::Result<()> {
    let length = from.length_bytes()?;
    let mut at = 0;
    while at < length {
        let count = COPIED_BYTES.min(length - at);
        let mut chunk = vec![0; usize::try_from(count).unwrap_or(0)];
        read_what_can_be_read(from, &mut chunk, at);
        to.write_at(&chunk, at)?;
        at += count;
    }
    Ok(())
}
