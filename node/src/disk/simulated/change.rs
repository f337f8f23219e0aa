//! The steps that lead from one state of the file system to the next.
//!
//! A change says what happened after every fault and check was settled, so that replaying the
//! changes of a recording gives the same states again.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::damage::Damage;
use super::directory::{self, Directory, Entry, Half, NameChange, Prefixes};
use super::error::{IS_A_DIRECTORY, NOT_A_DIRECTORY, NOT_FOUND, os};
use super::inode::{Fate, Inode};
use super::state::{Place, ROOT, State, names};

/// One step of the file system.
#[derive(Clone, Debug)]
pub(super) enum Change<'a> {
    CreateFile(Place),
    CreateDirectory(Place),
    Remove(Place),
    Rename(Place, Place),
    SyncDirectory(u64),
    FailSyncDirectory(u64),
    Write {
        inode: u64,
        offset_bytes: u64,
        bytes: Cow<'a, [u8]>,
        fate: Fate,
    },
    Extend {
        inode: u64,
        length_bytes: u64,
    },
    Sync(u64),
    FailSync(u64),
    Forget(u64),
    ForgetAll,
    Damage(u64, Damage),
    Strike(Place),
    Put(PathBuf, Cow<'a, [u8]>),
    Capacity(Option<u64>),
}

impl Change<'_> {
    /// The same change with its own bytes.
    pub(super) fn into_owned(self) -> Change<'static> {
        match self {
            Self::Write {
                inode,
                offset_bytes,
                bytes,
                fate,
            } => Change::Write {
                inode,
                offset_bytes,
                bytes: Cow::Owned(bytes.into_owned()),
                fate,
            },
            Self::Put(path, bytes) => Change::Put(path, Cow::Owned(bytes.into_owned())),
            Self::CreateFile(place) => Change::CreateFile(place),
            Self::CreateDirectory(place) => Change::CreateDirectory(place),
            Self::Remove(place) => Change::Remove(place),
            Self::Rename(from, to) => Change::Rename(from, to),
            Self::SyncDirectory(number) => Change::SyncDirectory(number),
            Self::FailSyncDirectory(number) => Change::FailSyncDirectory(number),
            Self::Extend {
                inode,
                length_bytes,
            } => Change::Extend {
                inode,
                length_bytes,
            },
            Self::Sync(inode) => Change::Sync(inode),
            Self::FailSync(inode) => Change::FailSync(inode),
            Self::Forget(inode) => Change::Forget(inode),
            Self::ForgetAll => Change::ForgetAll,
            Self::Damage(inode, damage) => Change::Damage(inode, damage),
            Self::Strike(place) => Change::Strike(place),
            Self::Capacity(bytes) => Change::Capacity(bytes),
        }
    }
}

impl State {
    fn inode_mut(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&number)
            .map(Arc::make_mut)
            .ok_or_else(|| os(NOT_FOUND))
    }

    fn directory_mut(&mut self, number: u64) -> io::Result<&mut Directory> {
        self.directories
            .get_mut(&number)
            .map(Arc::make_mut)
            .ok_or_else(|| os(NOT_FOUND))
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn insert(&mut self, place: Place, entry: Entry) -> io::Result<()> {
        self.directory_mut(place.directory)?.change(NameChange {
            remove: None,
            insert: Some((place.name, entry)),
            half: None,
        });
        Ok(())
    }

    /// Makes a change. When it fails, nothing is changed.
    pub(super) fn apply(&mut self, change: &Change<'_>) -> io::Result<()> {
        match change {
            Change::CreateFile(place) => {
                let number = self.number();
                self.insert(place.clone(), Entry::File(number))?;
                self.inodes.insert(number, Arc::default());
            }
            Change::CreateDirectory(place) => {
                let number = self.number();
                self.insert(place.clone(), Entry::Directory(number))?;
                self.directories.insert(number, Arc::default());
            }
            Change::Remove(place) => {
                self.directory_mut(place.directory)?.change(NameChange {
                    remove: Some(place.name.clone()),
                    insert: None,
                    half: None,
                });
            }
            Change::Rename(from, to) => self.rename(from, to)?,
            Change::SyncDirectory(number) => self.commit(*number, false),
            Change::FailSyncDirectory(number) => self.directory_mut(*number)?.stuck = true,
            Change::Write {
                inode,
                offset_bytes,
                bytes,
                fate,
            } => self.inode_mut(*inode)?.write(bytes, *offset_bytes, *fate),
            Change::Extend {
                inode,
                length_bytes,
            } => self.inode_mut(*inode)?.extend(*length_bytes),
            Change::Sync(inode) => self.inode_mut(*inode)?.sync(),
            Change::FailSync(inode) => self.inode_mut(*inode)?.fail_sync(),
            Change::Forget(inode) => self.inode_mut(*inode)?.forget(),
            Change::ForgetAll => {
                for inode in self.inodes.values_mut().filter(|inode| !inode.is_settled()) {
                    Arc::make_mut(inode).forget();
                }
            }
            Change::Damage(inode, damage) => damage.strike(self.inode_mut(*inode)?)?,
            Change::Strike(place) => {
                self.commit(place.directory, true);
                self.directory_mut(place.directory)?.strike(&place.name);
            }
            Change::Put(path, bytes) => self.put(path, bytes)?,
            Change::Capacity(bytes) => self.capacity_bytes = *bytes,
        }
        Ok(())
    }

    fn rename(&mut self, from: &Place, to: &Place) -> io::Result<()> {
        let entry = self
            .entry(from.directory, &from.name)
            .ok_or_else(|| os(NOT_FOUND))?;
        let remove = Some(from.name.clone());
        let insert = Some((to.name.clone(), entry));
        if from.directory == to.directory {
            self.directory_mut(from.directory)?.change(NameChange {
                remove,
                insert,
                half: None,
            });
            return Ok(());
        }
        let transfer = self.number();
        self.directory_mut(to.directory)?.change(NameChange {
            remove: None,
            insert,
            half: Some(Half {
                transfer,
                other: from.directory,
                needs_other: matches!(entry, Entry::Directory(_)),
            }),
        });
        self.directory_mut(from.directory)?.change(NameChange {
            remove,
            insert: None,
            half: Some(Half {
                transfer,
                other: to.directory,
                needs_other: true,
            }),
        });
        Ok(())
    }

    /// Makes the names in a folder durable, with what of other folders they need. With `force`
    /// also where a sync failed before.
    fn commit(&mut self, number: u64, force: bool) {
        let mut most: Prefixes = self
            .directories
            .iter()
            .filter(|(_, directory)| force || !directory.stuck)
            .map(|(&number, directory)| (number, directory.pending.len()))
            .filter(|(_, count)| *count > 0)
            .collect();
        directory::shorten(&self.directories, &mut most);
        let Some(&count) = most.get(&number) else {
            return;
        };
        let mut prefixes = Prefixes::from([(number, count)]);
        directory::lengthen(&self.directories, &mut prefixes);
        for (number, count) in prefixes {
            if let Some(directory) = self.directories.get_mut(&number) {
                Arc::make_mut(directory).commit(count);
            }
        }
    }

    /// Puts a whole file in its place, durably, with the folders above it.
    fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.find(path) {
            Ok(Entry::Directory(_)) => return Err(os(IS_A_DIRECTORY)),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(error),
            Ok(Entry::File(_)) | Err(_) => {}
        }
        let mut above = names(path)?;
        let name = above.pop().ok_or_else(|| os(IS_A_DIRECTORY))?;
        let mut directory = ROOT;
        for folder in above {
            directory = match self.entry(directory, folder) {
                Some(Entry::Directory(number)) => number,
                Some(Entry::File(_)) => return Err(os(NOT_A_DIRECTORY)),
                None => self.put_entry(directory, folder, Entry::Directory)?,
            };
            self.commit(directory, true);
        }
        self.commit(directory, true);
        let inode = match self.entry(directory, name) {
            Some(Entry::File(number)) => number,
            Some(Entry::Directory(_)) => return Err(os(IS_A_DIRECTORY)),
            None => self.put_entry(directory, name, Entry::File)?,
        };
        self.inode_mut(inode)?.replace(bytes);
        Ok(())
    }

    fn put_entry(
        &mut self,
        directory: u64,
        name: &OsStr,
        make: fn(u64) -> Entry,
    ) -> io::Result<u64> {
        let number = self.number();
        let entry = make(number);
        match entry {
            Entry::File(_) => {
                self.inodes.insert(number, Arc::default());
            }
            Entry::Directory(_) => {
                self.directories.insert(number, Arc::default());
            }
        }
        let name = name.to_owned();
        self.insert(Place { directory, name }, entry)?;
        self.commit(directory, true);
        Ok(number)
    }
}
