//! One file: what the process sees, what is durable, and what is on its way between the two.

use std::collections::BTreeMap;

use super::content::{
    Content, SECTOR_BYTES, SectorSet, SharedPage, Span, bits, page_bytes, page_of, spans,
};

/// A page as it was at one time, of which only the sectors in the mask count.
#[derive(Clone, Debug)]
pub(super) struct PageVersion {
    pub(super) mask: u8,
    pub(super) page: SharedPage,
}

/// What becomes of a write on its way to the platter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable after the next sync, and may be before.
    Pending,
    /// It is acknowledged, and the platter keeps what it had.
    Lost,
    /// It is acknowledged, and lands elsewhere in the same file.
    Misdirected { to_offset_bytes: u64 },
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What reads show: the page cache.
    pub(super) cached: Content,
    /// What is on the platter whatever happens. Bytes beyond its length may be there when damage
    /// struck a part of the file whose length is not durable yet.
    pub(super) durable: Content,
    /// Versions of each page that the platter may hold after a crash, oldest first.
    pub(super) pending: BTreeMap<u64, Vec<PageVersion>>,
    /// Lengths that the file may have after a crash, besides the durable one; they grow.
    pub(super) pending_lengths: Vec<u64>,
    /// Sectors where the page cache shows what neither is nor will be on the platter, as after a
    /// failed fsync or a lost write.
    pub(super) phantoms: SectorSet,
    /// Each sector as it was before its last write; the masks of one page do not overlap.
    former: BTreeMap<u64, Vec<PageVersion>>,
}

impl Inode {
    /// Whether the platter holds exactly what reads show.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
            && self.pending_lengths.is_empty()
            && self.phantoms.is_empty()
            && self.cached.length_bytes == self.durable.length_bytes
    }

    /// The length after a sync that succeeds.
    pub(super) fn coming_length_bytes(&self) -> u64 {
        self.pending_lengths
            .last()
            .copied()
            .unwrap_or(self.durable.length_bytes)
    }

    /// Whether a write needs a sector that cannot be read, because it keeps a part of it.
    pub(super) fn needs_unreadable(&self, offset_bytes: u64, length_bytes: usize) -> bool {
        !self.cached.unreadable.is_empty()
            && spans(offset_bytes, length_bytes).any(|span| {
                let kept = span.touched() & !self.replaced(span, offset_bytes, length_bytes);
                self.cached.unreadable.mask(span.page) & kept != 0
            })
    }

    /// Sectors of which a write leaves nothing. The last sector of the file ends where it ends.
    fn replaced(&self, mut span: Span, offset_bytes: u64, length_bytes: usize) -> u8 {
        if offset_bytes + length_bytes as u64 >= self.cached.length_bytes {
            span.end = span.end.next_multiple_of(SECTOR_BYTES);
        }
        span.covered()
    }

    /// Writes to the page cache, and further as its fate will have it.
    pub(super) fn write(&mut self, bytes: &[u8], offset_bytes: u64, fate: Fate) {
        for span in spans(offset_bytes, bytes.len()) {
            let page = span.page;
            let before = self.cached.shared_page(page);
            let part = &bytes[span.position..][..span.end - span.start];
            self.cached.put(page, span.start, part);
            let replaced = self.replaced(span, offset_bytes, bytes.len());
            self.cached.unreadable.remove(page, replaced);
            let after = self.cached.shared_page(page);
            let touched = span.touched();
            if before.is_some() || after.is_some() || self.former.contains_key(&page) {
                remember(self.former.entry(page).or_default(), touched, before);
            }
            if fate == Fate::Pending {
                self.phantoms.remove(page, touched);
                self.expect(page, touched, after);
            } else {
                self.phantoms.insert(page, touched);
            }
        }
        self.extend(offset_bytes + bytes.len() as u64);
        if let Fate::Misdirected { to_offset_bytes } = fate {
            self.misdirect(bytes, to_offset_bytes);
        }
    }

    /// Notes a version of some sectors that may become durable.
    fn expect(&mut self, page: u64, mask: u8, version: SharedPage) {
        // Zeroes on zeroes: nothing can be told apart.
        if version.is_none()
            && self.durable.is_absent(page)
            && self.durable.unreadable.mask(page) == 0
            && !self.pending.contains_key(&page)
        {
            return;
        }
        self.pending.entry(page).or_default().push(PageVersion {
            mask,
            page: version,
        });
    }

    /// Puts bytes on the platter, where the page cache knows nothing of it.
    fn misdirect(&mut self, bytes: &[u8], to_offset_bytes: u64) {
        let room = self.durable.length_bytes.saturating_sub(to_offset_bytes);
        let count = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
        for span in spans(to_offset_bytes, count) {
            let part = &bytes[span.position..][..span.end - span.start];
            self.durable.put(span.page, span.start, part);
            self.durable.unreadable.remove(span.page, span.covered());
            self.phantoms.insert(span.page, span.touched());
        }
    }

    /// Makes the file at least this long.
    pub(super) fn extend(&mut self, length_bytes: u64) {
        self.cached.length_bytes = self.cached.length_bytes.max(length_bytes);
        if length_bytes > self.coming_length_bytes() {
            self.pending_lengths.push(length_bytes);
        }
    }

    /// Makes what is pending durable.
    pub(super) fn sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.pending) {
            let mask = versions.iter().fold(0, |mask, version| mask | version.mask);
            if self.phantoms.mask(page) == 0 && self.cached.unreadable.mask(page) == 0 {
                self.durable.set_page(page, self.cached.shared_page(page));
                self.durable.unreadable.remove(page, mask);
            } else {
                for version in versions {
                    self.durable.put_sectors(&version.page, page, version.mask);
                }
            }
        }
        self.durable.length_bytes = self.coming_length_bytes();
        self.pending_lengths.clear();
    }

    /// A sync that fails: what was pending never becomes durable, and reads go on showing it.
    /// A later sync has nothing left to do (Rebello et al., ATC 2020).
    pub(super) fn fail_sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.pending) {
            for version in versions {
                self.phantoms.insert(page, version.mask);
            }
        }
        self.pending_lengths.clear();
        self.durable.cut(self.durable.length_bytes);
    }

    /// Lets go of what the page cache shows and the platter does not have.
    pub(super) fn forget(&mut self) {
        let phantoms = std::mem::take(&mut self.phantoms);
        for (page, mask) in phantoms.iter() {
            self.cached.copy_sectors(&self.durable, page, mask);
            for version in self.pending.get(&page).into_iter().flatten() {
                self.cached
                    .put_sectors(&version.page, page, version.mask & mask);
            }
        }
        self.cached.cut(self.coming_length_bytes());
    }

    /// Makes some sectors durable as reads show them, whatever was pending there.
    pub(super) fn settle(&mut self, page: u64, mask: u8) {
        self.drop_pending(page, mask);
        self.phantoms.remove(page, mask);
        self.durable.copy_sectors(&self.cached, page, mask);
    }

    /// Nothing that is pending for these sectors comes about.
    fn drop_pending(&mut self, page: u64, mask: u8) {
        if let Some(versions) = self.pending.get_mut(&page) {
            versions.retain_mut(|version| {
                version.mask &= !mask;
                version.mask != 0
            });
            if versions.is_empty() {
                self.pending.remove(&page);
            }
        }
    }

    /// Cuts the file, durably.
    pub(super) fn truncate(&mut self, length_bytes: u64) {
        let (page, start) = page_of(length_bytes);
        self.cached.cut(length_bytes);
        if start > 0 {
            self.settle(page, bits(start / SECTOR_BYTES, start / SECTOR_BYTES + 1));
            self.drop_pending(page, bits(start / SECTOR_BYTES, usize::MAX));
            self.pending.split_off(&(page + 1));
        } else {
            self.pending.split_off(&page);
        }
        self.durable.cut(length_bytes);
        self.phantoms.trim(length_bytes);
        self.pending_lengths.clear();
    }

    /// Replaces the whole file, durably and whatever was pending.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.truncate(self.cached.length_bytes.min(bytes.len() as u64));
        self.write(bytes, 0, Fate::Pending);
        self.durable = self.cached.clone();
        self.pending.clear();
        self.pending_lengths.clear();
        self.phantoms.clear();
    }

    /// A range as it was before the last write of each of its sectors. A sector that was never
    /// written is as it is.
    pub(super) fn former(&self, offset_bytes: u64, length_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; length_bytes];
        self.cached.read(&mut bytes, offset_bytes);
        for span in spans(offset_bytes, length_bytes) {
            for version in self.former.get(&span.page).into_iter().flatten() {
                for at in span.start..span.end {
                    if version.mask & 1 << (at / SECTOR_BYTES) != 0 {
                        bytes[span.position + at - span.start] = page_bytes(&version.page)[at];
                    }
                }
            }
        }
        bytes
    }

    /// The file after a power loss: what is durable now, and nothing else.
    pub(super) fn after_crash(&self, content: Content, undone: &SectorSet) -> Self {
        let mut former = self.former.clone();
        for (page, mask) in undone.iter() {
            if let Some(versions) = former.get_mut(&page) {
                forget(versions, mask);
            }
        }
        Self {
            cached: content.clone(),
            durable: content,
            former,
            ..Self::default()
        }
    }
}

fn forget(versions: &mut Vec<PageVersion>, mask: u8) {
    versions.retain_mut(|version| {
        version.mask &= !mask;
        version.mask != 0
    });
}

fn remember(versions: &mut Vec<PageVersion>, mask: u8, page: SharedPage) {
    forget(versions, mask);
    versions.push(PageVersion { mask, page });
}
