//! The whole file system at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::directory::{Directory, Entry};
use super::error::{BUSY, INVALID, IS_A_DIRECTORY, NOT_A_DIRECTORY, NOT_EMPTY, NOT_FOUND, os};
use super::inode::Inode;

/// The number of the folder at the top.
pub(super) const ROOT: u64 = 0;

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: u64,
    pub(super) name: OsString,
}

/// The whole file system. Cloning shares everything until it is changed.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Arc<Inode>>,
    pub(super) directories: BTreeMap<u64, Arc<Directory>>,
    pub(super) next_number: u64,
    pub(super) capacity_bytes: Option<u64>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            inodes: BTreeMap::new(),
            directories: BTreeMap::from([(ROOT, Arc::default())]),
            next_number: ROOT + 1,
            capacity_bytes: None,
        }
    }

    pub(super) fn inode(&self, number: u64) -> io::Result<&Arc<Inode>> {
        self.inodes.get(&number).ok_or_else(|| os(NOT_FOUND))
    }

    pub(super) fn directory(&self, number: u64) -> io::Result<&Directory> {
        self.directories
            .get(&number)
            .map(Arc::as_ref)
            .ok_or_else(|| os(NOT_FOUND))
    }

    /// What a path stands for.
    pub(super) fn find(&self, path: &Path) -> io::Result<Entry> {
        self.find_names(&names(path)?)
    }

    fn find_names(&self, names: &[&OsStr]) -> io::Result<Entry> {
        let mut entry = Entry::Directory(ROOT);
        for name in names {
            let Entry::Directory(number) = entry else {
                return Err(os(NOT_A_DIRECTORY));
            };
            entry = self.entry(number, name).ok_or_else(|| os(NOT_FOUND))?;
        }
        Ok(entry)
    }

    pub(super) fn find_directory(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Entry::Directory(number) => Ok(number),
            Entry::File(_) => Err(os(NOT_A_DIRECTORY)),
        }
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Entry::File(number) => Ok(number),
            Entry::Directory(_) => Err(os(IS_A_DIRECTORY)),
        }
    }

    /// The folder that holds, or could hold, the last name of a path.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut above = names(path)?;
        let name = above.pop().ok_or_else(|| os(BUSY))?.to_owned();
        match self.find_names(&above)? {
            Entry::Directory(directory) => Ok(Place { directory, name }),
            Entry::File(_) => Err(os(NOT_A_DIRECTORY)),
        }
    }

    pub(super) fn entry(&self, directory: u64, name: &OsStr) -> Option<Entry> {
        self.directories.get(&directory)?.cached.get(name).copied()
    }

    /// Every file and folder below a folder, as the process sees it.
    pub(super) fn walk(&self, from: u64, path: &Path, visit: &mut impl FnMut(PathBuf, Entry)) {
        for (name, &entry) in self.directories.get(&from).iter().flat_map(|d| &d.cached) {
            let path = path.join(name);
            visit(path.clone(), entry);
            if let Entry::Directory(number) = entry {
                self.walk(number, &path, visit);
            }
        }
    }

    /// Where a file is now, or was when it was opened if it has no name any more.
    pub(super) fn path_of(&self, inode: u64, opened: &Path) -> PathBuf {
        if self.find_file(opened).is_ok_and(|found| found == inode) {
            return from_the_top(opened);
        }
        let mut found = None;
        self.walk(ROOT, Path::new("/"), &mut |path, entry| {
            if entry == Entry::File(inode) {
                found.get_or_insert(path);
            }
        });
        found.unwrap_or_else(|| from_the_top(opened))
    }

    /// Bytes of all files that have a name or are open.
    pub(super) fn used_bytes(&self, open: &BTreeMap<u64, usize>) -> u64 {
        let mut used: BTreeSet<u64> = open.keys().copied().collect();
        self.walk(ROOT, Path::new("/"), &mut |_, entry| {
            if let Entry::File(number) = entry {
                used.insert(number);
            }
        });
        used.iter()
            .filter_map(|number| self.inodes.get(number))
            .map(|inode| inode.cached.length_bytes)
            .fold(0, u64::saturating_add)
    }

    /// Lets go of files and folders that no name, pending name or handle leads to.
    pub(super) fn prune(&mut self, open: &BTreeMap<u64, usize>) {
        let mut files: BTreeSet<u64> = open.keys().copied().collect();
        let mut folders = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(directory) = left.pop().and_then(|number| self.directories.get(&number)) {
            let pending = directory.pending.iter().filter_map(|c| c.insert.as_ref());
            let entries = directory.cached.values().chain(directory.durable.values());
            for &entry in entries.chain(pending.map(|(_, entry)| entry)) {
                match entry {
                    Entry::File(number) => {
                        files.insert(number);
                    }
                    Entry::Directory(number) => {
                        if folders.insert(number) {
                            left.push(number);
                        }
                    }
                }
            }
        }
        self.inodes.retain(|number, _| files.contains(number));
        self.directories
            .retain(|number, _| folders.contains(number));
    }

    /// Whether a rename is allowed, and changes something.
    pub(super) fn check_rename(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let (source, target) = (self.place(from)?, self.place(to)?);
        let (from, to) = (names(from)?, names(to)?);
        let source = self.entry(source.directory, &source.name);
        let target = self.entry(target.directory, &target.name);
        if from != to && to.starts_with(&from) && source.is_some() {
            return Err(os(INVALID));
        }
        let source = source.ok_or_else(|| os(NOT_FOUND))?;
        if from != to && from.starts_with(&to) {
            return Err(os(NOT_EMPTY));
        }
        match (source, target) {
            (_, None) | (Entry::File(_), Some(Entry::File(_))) => {}
            (_, Some(same)) if same == source => {}
            (Entry::File(_), Some(Entry::Directory(_))) => return Err(os(IS_A_DIRECTORY)),
            (Entry::Directory(_), Some(Entry::File(_))) => return Err(os(NOT_A_DIRECTORY)),
            (Entry::Directory(_), Some(Entry::Directory(number))) => {
                if !self.directory(number)?.cached.is_empty() {
                    return Err(os(NOT_EMPTY));
                }
            }
        }
        Ok(target != Some(source))
    }
}

/// The path as an absolute one.
pub(super) fn from_the_top(path: &Path) -> PathBuf {
    let names = names(path).unwrap_or_default();
    std::iter::once("/".as_ref()).chain(names).collect()
}

/// The names on a path from the top. A relative path starts there too.
pub(super) fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    if path.as_os_str().is_empty() {
        return Err(os(NOT_FOUND));
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
