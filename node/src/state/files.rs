//! The files of a store, read as files: what RocksDB itself never reads again is noticed too.
//!
//! A table of RocksDB never changes between the time when it is written and the time when it is
//! removed. Once a scrub has found a store to be whole, the digests of its tables are kept beside
//! it, in `PATH/files-N.json`; from then on each byte of them is known. The file is derived: whoever
//! loses it loses that knowledge until the next scrub.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StateError;
use super::view::Generation;
use crate::disk::{Interrupted, Throttle};

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A consistent set of a store's files in a folder of its own, made of hard links where they never
/// change. The folder is removed with this value.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// Writes out what the store has in memory, and links what lies on the disk then. A file that
    /// is missing is an error.
    pub(super) fn take(generation: &Generation, path: PathBuf) -> Result<Self, StateError> {
        remove(&path)?;
        let checkpoint = Self { path };
        // In its turn.
        #[allow(clippy::disallowed_methods)]
        generation.flushing(|store| store.backup(&checkpoint.path))?;
        Ok(checkpoint)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            // Not fatal: the next start removes what is left.
            tracing::warn!(%error, "a checkpoint is left over");
        }
    }
}

fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::io(format!(
            "could not remove {}",
            path.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// The digests of a store's tables, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tables(BTreeMap<String, String>);

/// What is kept: digests, and a digest of them.
#[derive(Serialize, Deserialize)]
struct Kept {
    tables: Tables,
    digest: String,
}

/// Why tables were not read to their end.
#[derive(Debug)]
pub(super) enum ReadFailure {
    Interrupted(Interrupted),
    /// The disk does not give them.
    Unreadable(String),
}

impl Tables {
    /// Reads all tables in a folder, from the disk and not from what the kernel keeps of it.
    pub(super) fn read(folder: &Path, throttle: &mut dyn Throttle) -> Result<Self, ReadFailure> {
        let unreadable = |path: &Path, error: io::Error| {
            ReadFailure::Unreadable(format!("{} cannot be read: {error}", path.display()))
        };
        let mut tables = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name.filter(|name| name.ends_with(".sst")) else {
                continue;
            };
            let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
            let digest = digest(&file, throttle).map_err(|failure| match failure {
                Failure::Interrupted(interrupted) => ReadFailure::Interrupted(interrupted),
                Failure::Io(error) => unreadable(&path, error),
            })?;
            tables.insert(name, digest);
        }
        Ok(Self(tables))
    }

    /// Which table differs from what is known of it. Tables come and go.
    pub(super) fn difference_from(&self, known: &Self) -> Option<String> {
        self.0
            .iter()
            .find(|(name, digest)| known.0.get(*name).is_some_and(|known| known != *digest))
            .map(|(name, _)| format!("{name} is not what it was when it was found to be whole"))
    }

    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, digest) in &self.0 {
            hasher.update(name);
            hasher.update([0]);
            hasher.update(digest);
            hasher.update([0]);
        }
        hex(&hasher.finalize())
    }

    /// What was kept; nothing when that cannot be read.
    pub(super) fn kept(path: &Path) -> Self {
        let kept = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        kept.filter(|kept| kept.tables.digest() == kept.digest)
            .map(|kept| kept.tables)
            .unwrap_or_default()
    }

    /// Keeps the digests. What is only half written is nothing.
    pub(super) fn keep(self, path: &Path) {
        let digest = self.digest();
        let written = serde_json::to_vec(&Kept {
            tables: self,
            digest,
        })
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(path, bytes));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "digests of the store's files are not kept");
        }
    }
}

enum Failure {
    Interrupted(Interrupted),
    Io(io::Error),
}

fn digest(mut file: &File, throttle: &mut dyn Throttle) -> Result<String, Failure> {
    // What the kernel has in memory may be whole while the disk is not. Where it cannot be told to
    // forget, that is read all the same.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut buffer).map_err(Failure::Io)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return Ok(hex(&hasher.finalize()));
        };
        throttle.note(length as u64).map_err(Failure::Interrupted)?;
        hasher.update(piece);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with the file that says where a store begins. A checkpoint has one of its own.
pub(super) fn damage_of_current(folder: &Path) -> Option<String> {
    let path = folder.join("CURRENT");
    let named = match fs::read_to_string(&path) {
        Ok(text) => text.strip_suffix('\n').map(|name| folder.join(name)),
        Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
    };
    let is_manifest = named.is_some_and(|manifest| {
        let name = manifest.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("MANIFEST-") && manifest.is_file()
    });
    (!is_manifest).then(|| format!("{} names no manifest", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::disk::Unthrottled;

    #[test]
    fn a_table_that_changes_is_noticed_and_others_may_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let read = || Tables::read(path, &mut Unthrottled).unwrap();
        fs::write(path.join("000001.sst"), "one").unwrap();
        fs::write(path.join("000002.sst"), "two").unwrap();
        fs::write(path.join("LOG"), "anything").unwrap();
        let known = read();
        assert_eq!(known.0.len(), 2);
        fs::remove_file(path.join("000002.sst")).unwrap();
        fs::write(path.join("000003.sst"), "three").unwrap();
        assert_eq!(read().difference_from(&known), None);
        fs::write(path.join("000001.sst"), "onf").unwrap();
        let difference = read().difference_from(&known).unwrap();
        assert!(difference.contains("000001.sst"), "{difference}");
    }

    #[test]
    fn what_is_kept_is_read_back_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files-1.json");
        assert_eq!(Tables::kept(&path), Tables::default());
        let tables = Tables([("000001.sst".to_owned(), "ab".to_owned())].into());
        tables.clone().keep(&path);
        assert_eq!(Tables::kept(&path), tables);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let kept = Tables::kept(&path);
            assert!(kept == Tables::default() || kept == tables, "{place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert_eq!(Tables::kept(&path), Tables::default());
        }
    }

    #[test]
    fn the_file_that_says_where_a_store_begins_names_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(damage_of_current(path).is_some());
        fs::write(path.join("CURRENT"), "MANIFEST-000005\n").unwrap();
        assert!(damage_of_current(path).is_some());
        fs::write(path.join("MANIFEST-000005"), "").unwrap();
        assert_eq!(damage_of_current(path), None);
        for damaged in ["MANIFEST-000005", "MANIFEST-00000\n", "", "\n", "..\n"] {
            fs::write(path.join("CURRENT"), damaged).unwrap();
            assert!(damage_of_current(path).is_some(), "{damaged:?}");
        }
    }
}
