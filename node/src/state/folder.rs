//! Where the store lives: `PATH/generation-N`, one RocksDB folder, with what scrubbing knows of its
//! tables beside it, and nothing else.
//!
//! A snapshot is installed into `PATH/building`, made durable there and then renamed to the next
//! generation. The rename is what counts: before it the old content is in force, after it the new.
//! The generation with the highest number is the one in force; everything else is left over from
//! a crash and removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::StateError;

const BUILDING: &str = "building";
const PREFIX: &str = "generation-";
const CHECKPOINT: &str = "checkpoint";
const TABLES_PREFIX: &str = "tables-of-";

pub(crate) fn generation_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{PREFIX}{number:010}"))
}

/// Where the files of the generation in this folder are frozen to be read.
pub(crate) fn checkpoint_path(generation: &Path) -> PathBuf {
    generation.with_file_name(CHECKPOINT)
}

/// Where the digests of the tables of the generation in this folder are kept.
pub(crate) fn tables_path(generation: &Path) -> PathBuf {
    let name = generation.file_name().unwrap_or_default().to_string_lossy();
    generation.with_file_name(format!("{TABLES_PREFIX}{name}.json"))
}

pub(crate) fn building_path(path: &Path) -> PathBuf {
    path.join(BUILDING)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, StateError> {
    let failed = || StateError::io(format!("could not list {}", path.display()));
    fs::read_dir(path)
        .map_err(failed())?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed()))
        .collect()
}

/// The number of the generation in force, if there is one.
pub(crate) fn current(path: &Path) -> Result<Option<u64>, StateError> {
    Ok(entries(path)?
        .iter()
        .filter_map(|entry| number_of(entry.file_name()?.to_str()?))
        .max())
}

/// Removes what a crash left over beside the generation in force.
pub(crate) fn remove_leftovers(path: &Path, current: u64) -> Result<(), StateError> {
    for entry in entries(path)? {
        let name = entry.file_name().and_then(|name| name.to_str());
        let ours = name.is_some_and(|name| {
            name == BUILDING
                || name == CHECKPOINT
                || name.starts_with(TABLES_PREFIX)
                || number_of(name).is_some()
        });
        let generation = generation_path(path, current);
        if ours && entry != generation && entry != tables_path(&generation) {
            let removed = if entry.is_dir() {
                fs::remove_dir_all(&entry)
            } else {
                fs::remove_file(&entry)
            };
            removed.map_err(StateError::io(format!(
                "could not remove {}",
                entry.display()
            )))?;
        }
    }
    Ok(())
}

/// An empty folder to build the next generation in.
pub(crate) fn start_building(path: &Path) -> Result<PathBuf, StateError> {
    let building = building_path(path);
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StateError::io(format!(
                "could not remove {}",
                building.display()
            ))(error));
        }
        _ => {}
    }
    fs::create_dir_all(&building).map_err(StateError::io(format!(
        "could not create {}",
        building.display()
    )))?;
    Ok(building)
}

/// Makes what was built durable and puts it in force. The store in it must be closed.
pub(crate) fn put_in_force(path: &Path, number: u64) -> Result<(), StateError> {
    let building = building_path(path);
    for entry in entries(&building)? {
        sync(&entry)?;
    }
    sync(&building)?;
    let generation = generation_path(path, number);
    fs::rename(&building, &generation).map_err(StateError::io(format!(
        "could not rename to {}",
        generation.display()
    )))?;
    sync(path)
}

/// Copies the generation in force at `from` to the folder `to`, where [`super::State::open`] opens it.
/// No process may have it open. False when there is none. `progress` is told how many bytes of how many
/// were copied.
pub(crate) fn copy_store(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<bool, StateError> {
    if !from.exists() {
        return Ok(false);
    }
    let Some(number) = current(from)? else {
        return Ok(false);
    };
    let target = generation_path(to, number);
    fs::create_dir_all(&target).map_err(StateError::io(format!(
        "could not create {}",
        target.display()
    )))?;
    let mut files = Vec::new();
    for path in entries(&generation_path(from, number))? {
        let metadata = fs::metadata(&path);
        let metadata =
            metadata.map_err(StateError::io(format!("could not read {}", path.display())))?;
        if metadata.is_file() && path.file_name().is_some_and(is_needed) {
            files.push((path, metadata.len()));
        }
    }
    let total = files.iter().map(|(_, bytes)| bytes).sum();
    let mut done = 0;
    for (path, bytes) in files {
        let Some(name) = path.file_name() else {
            continue;
        };
        copy(&path, &target.join(name))
            .map_err(StateError::io(format!("could not copy {}", path.display())))?;
        done += bytes;
        progress(done, total);
    }
    Ok(true)
}

/// RocksDB makes its lock and its own logs anew.
fn is_needed(name: &std::ffi::OsStr) -> bool {
    name != "LOCK" && !name.to_string_lossy().starts_with("LOG")
}

/// The bytes alone: a copy may be written to where the original may not.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create(to)?).map(|_| ())
}

fn sync(path: &Path) -> Result<(), StateError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StateError::io(format!("could not sync {}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_highest_generation_is_in_force_and_the_rest_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(current(path).unwrap(), None);
        for number in [2, 10, 9] {
            fs::create_dir(generation_path(path, number)).unwrap();
        }
        fs::create_dir(building_path(path)).unwrap();
        fs::write(path.join("someone-elses"), "").unwrap();
        assert_eq!(current(path).unwrap(), Some(10));
        remove_leftovers(path, 10).unwrap();
        let mut left: Vec<_> = entries(path).unwrap();
        left.sort();
        assert_eq!(
            left,
            [generation_path(path, 10), path.join("someone-elses")]
        );
    }

    #[test]
    fn building_starts_empty_and_ends_with_a_rename() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let building = start_building(path).unwrap();
        fs::write(building.join("stale"), "").unwrap();
        let building = start_building(path).unwrap();
        assert!(!building.join("stale").exists());
        fs::write(building.join("fresh"), "").unwrap();
        put_in_force(path, 3).unwrap();
        assert!(!building.exists());
        assert!(generation_path(path, 3).join("fresh").exists());
    }
}
