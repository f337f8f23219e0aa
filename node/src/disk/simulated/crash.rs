//! What a power loss may leave (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
//!
//! Each sector that pending writes touched is what was durable or what one of those writes made it:
//! never a mix. The length is the durable one or one that a pending write gave it. Of each folder a
//! prefix of the pending operations is there, as with ordered metadata journalling. What no name
//! leads to is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::choice::{Choice, pick};
use super::content::{PAGE_BYTES, SECTOR_BYTES, SharedPage, page_bytes, sectors};
use super::directory::{self, Directory, Entry, Prefixes};
use super::inode::{Inode, PageVersion};
use super::state::{ROOT, State};

impl State {
    /// The file system as it may be after a power loss now.
    pub(super) fn crash(&self, choice: &mut dyn Choice) -> Self {
        let mut prefixes = Prefixes::new();
        for (&number, directory) in &self.directories {
            let count = pick(choice, directory.pending.len() + 1);
            if count > 0 {
                prefixes.insert(number, count);
            }
        }
        directory::shorten(&self.directories, &mut prefixes);
        let mut crashed = Self {
            inodes: BTreeMap::new(),
            directories: BTreeMap::new(),
            ..*self
        };
        let mut files = BTreeSet::new();
        let mut left = vec![ROOT];
        while let Some(number) = left.pop() {
            if crashed.directories.contains_key(&number) {
                continue;
            }
            let Some(directory) = self.directories.get(&number) else {
                continue;
            };
            let directory = settled(directory, prefixes.get(&number).copied().unwrap_or(0));
            for &entry in directory.durable.values() {
                match entry {
                    Entry::File(number) => {
                        files.insert(number);
                    }
                    Entry::Directory(number) => left.push(number),
                }
            }
            crashed.directories.insert(number, directory);
        }
        crashed.inodes = files
            .into_iter()
            .filter_map(|number| Some((number, crash(self.inodes.get(&number)?, choice))))
            .collect();
        crashed
    }
}

/// A folder with a number of its pending operations made and the others undone.
fn settled(directory: &Arc<Directory>, count: usize) -> Arc<Directory> {
    if directory.pending.is_empty() && !directory.stuck {
        return Arc::clone(directory);
    }
    let names = directory.with(count);
    Arc::new(Directory {
        cached: names.clone(),
        durable: names,
        ..Directory::default()
    })
}

/// A file after a power loss.
fn crash(inode: &Arc<Inode>, choice: &mut dyn Choice) -> Arc<Inode> {
    if inode.is_settled() {
        return Arc::clone(inode);
    }
    let length = pick(choice, inode.pending_lengths.len() + 1)
        .checked_sub(1)
        .and_then(|place| inode.pending_lengths.get(place).copied())
        .unwrap_or(inode.durable.length_bytes);
    let mut content = inode.durable.clone();
    content.cut(length);
    let mut undone = inode.phantoms.clone();
    let mut found: Vec<(usize, &SharedPage)> = Vec::new();
    for (&page, versions) in &inode.pending {
        let touched = versions.iter().fold(0, |mask, version| mask | version.mask);
        let mut older = 0;
        found.clear();
        for sector in sectors(touched) {
            let start = page * PAGE_BYTES as u64 + (sector * SECTOR_BYTES) as u64;
            let size = length.saturating_sub(start).min(SECTOR_BYTES as u64) as usize;
            if size == 0 {
                older |= 1 << sector;
                continue;
            }
            let outcome = pick_sector(inode, page, sector, size, versions, choice);
            found.extend(outcome.page.map(|version| (sector, version)));
            if !outcome.newest {
                older |= 1 << sector;
            }
        }
        undone.insert(page, older);
        let as_shown =
            older == 0 && inode.phantoms.mask(page) == 0 && inode.cached.unreadable.mask(page) == 0;
        if as_shown {
            content.put_sectors(&inode.cached.shared_page(page), page, u8::MAX);
        } else {
            content.put_each(page, &found);
        }
    }
    // The last sector may have come from a version that was longer.
    content.cut(length);
    Arc::new(inode.after_crash(content, &undone))
}

struct Outcome<'a> {
    /// Where the sector comes from; `None` when it is as it was durable.
    page: Option<&'a SharedPage>,
    /// Whether the sector is what the process saw last.
    newest: bool,
}

/// Picks between the versions of a sector that can be told apart in their first `size` bytes.
fn pick_sector<'a>(
    inode: &'a Inode,
    page: u64,
    sector: usize,
    size: usize,
    versions: &'a [PageVersion],
    choice: &mut dyn Choice,
) -> Outcome<'a> {
    let range = sector * SECTOR_BYTES..sector * SECTOR_BYTES + size;
    let mask = 1 << sector;
    let durable = (inode.durable.unreadable.mask(page) & mask == 0)
        .then(|| &inode.durable.page(page)[range.clone()]);
    let mut touching = versions.iter().rev().filter(|v| v.mask & mask != 0);
    let Some(newest) = touching.next() else {
        return Outcome {
            page: None,
            newest: true,
        };
    };
    // From the newest to the oldest; the newest comes last, the durable one first.
    let bytes = |version: &'a PageVersion| &page_bytes(&version.page)[range.clone()];
    let last = bytes(newest);
    let mut between: Vec<&PageVersion> = Vec::new();
    for version in touching {
        let found = bytes(version);
        let known = Some(found) == durable
            || found == last
            || between.iter().any(|other| bytes(other) == found);
        if !known {
            between.push(version);
        }
    }
    if between.is_empty() && Some(last) == durable {
        return Outcome {
            page: None,
            newest: true,
        };
    }
    let picked = pick(choice, between.len() + 2);
    if picked == 0 {
        return Outcome {
            page: None,
            newest: Some(last) == durable,
        };
    }
    let version = between.iter().rev().nth(picked - 1).copied();
    Outcome {
        page: Some(&version.unwrap_or(newest).page),
        newest: version.is_none(),
    }
}
