//! One folder: the names the process sees, and those that are durable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u64),
    Directory(u64),
}

pub(super) type Names = BTreeMap<OsString, Entry>;

/// One operation on the names of one folder, which a crash undoes or keeps as a whole.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) remove: Option<OsString>,
    pub(super) insert: Option<(OsString, Entry)>,
    /// Set when this is one half of a move to or from another folder.
    pub(super) half: Option<Half>,
}

/// One half of a move between folders. The new name comes before the old one goes, so that no
/// crash loses the file; a folder that is moved is never in two places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// The same in both halves.
    pub(super) transfer: u64,
    /// The folder that has the other half.
    pub(super) other: u64,
    /// Whether this half survives only with the other.
    pub(super) needs_other: bool,
}

/// One folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// What the process sees.
    pub(super) cached: Names,
    /// What is on the platter whatever happens.
    pub(super) durable: Names,
    /// Operations since the last sync of the folder, oldest first: any number of them from the
    /// front may be on the platter after a crash.
    pub(super) pending: Vec<Arc<NameChange>>,
    /// A sync of this folder failed: nothing in it becomes durable for certain any more, though
    /// later syncs say so.
    pub(super) stuck: bool,
}

impl Directory {
    /// Changes what the process sees.
    pub(super) fn change(&mut self, change: NameChange) {
        apply(&mut self.cached, &change);
        self.pending.push(Arc::new(change));
    }

    /// Makes the first `count` pending operations durable.
    pub(super) fn commit(&mut self, count: usize) {
        for change in self.pending.drain(..count.min(self.pending.len())) {
            apply(&mut self.durable, &change);
        }
    }

    /// The names on the platter when the first `count` pending operations are.
    pub(super) fn with(&self, count: usize) -> Names {
        let mut names = self.durable.clone();
        for change in self.pending.iter().take(count) {
            apply(&mut names, change);
        }
        names
    }

    /// Removes a name, durably, once nothing is pending.
    pub(super) fn strike(&mut self, name: &OsStr) {
        self.cached.remove(name);
        self.durable.remove(name);
    }
}

fn apply(names: &mut Names, change: &NameChange) {
    if let Some(name) = &change.remove {
        names.remove(name);
    }
    if let Some((name, entry)) = &change.insert {
        names.insert(name.clone(), *entry);
    }
}

/// How many pending operations of each folder are on the platter.
pub(super) type Prefixes = BTreeMap<u64, usize>;

/// The folder and the place of the other half, while that is pending.
fn other_half(
    directories: &BTreeMap<u64, Arc<Directory>>,
    change: &NameChange,
) -> Option<(u64, usize)> {
    let half = change.half.filter(|half| half.needs_other)?;
    let place =
        directories.get(&half.other)?.pending.iter().position(
            |other| matches!(other.half, Some(found) if found.transfer == half.transfer),
        )?;
    Some((half.other, place))
}

/// Halves of moves that a choice of prefixes keeps without the half they need: the folder and
/// place of each, with those of the half it needs.
fn orphan(
    directories: &BTreeMap<u64, Arc<Directory>>,
    prefixes: &Prefixes,
) -> Option<((u64, usize), (u64, usize))> {
    prefixes.iter().find_map(|(&number, &count)| {
        let pending = &directories.get(&number)?.pending;
        pending
            .iter()
            .take(count)
            .enumerate()
            .find_map(|(place, change)| {
                let (other, needed) = other_half(directories, change)?;
                let kept = prefixes.get(&other).copied().unwrap_or(0);
                (kept <= needed).then_some(((number, place), (other, needed)))
            })
    })
}

/// Shortens prefixes until no move is half kept.
pub(super) fn shorten(directories: &BTreeMap<u64, Arc<Directory>>, prefixes: &mut Prefixes) {
    while let Some(((number, place), _)) = orphan(directories, prefixes) {
        prefixes.insert(number, place);
    }
}

/// Lengthens prefixes until no move is half kept.
pub(super) fn lengthen(directories: &BTreeMap<u64, Arc<Directory>>, prefixes: &mut Prefixes) {
    while let Some((_, (other, needed))) = orphan(directories, prefixes) {
        prefixes.insert(other, needed + 1);
    }
}
