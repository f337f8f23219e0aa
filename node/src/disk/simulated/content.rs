//! The bytes of one file: pages that are shared until written, and absent while they are zero.
//!
//! A preallocated file that is mostly empty costs almost nothing to keep, fork and compare.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use crate::disk::SECTOR_BYTES;

/// What memory is shared by.
pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const SECTORS_IN_A_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;

pub(super) type Page = [u8; PAGE_BYTES];
/// A page, or `None` when every byte is zero.
pub(super) type SharedPage = Option<Arc<Page>>;

static ZEROES: Page = [0; PAGE_BYTES];

/// The bytes of a shared page.
pub(super) fn page_bytes(page: &SharedPage) -> &Page {
    page.as_deref().unwrap_or(&ZEROES)
}

/// The part of a range that lies in one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) page: u64,
    /// First byte in the page.
    pub(super) start: usize,
    /// One past the last byte in the page.
    pub(super) end: usize,
    /// Where this part starts in the range.
    pub(super) position: usize,
}

impl Span {
    /// Sectors of which at least one byte is in the span, one bit each.
    pub(super) fn touched(&self) -> u8 {
        bits(self.start / SECTOR_BYTES, self.end.div_ceil(SECTOR_BYTES))
    }

    /// Sectors of which every byte is in the span, one bit each.
    pub(super) fn covered(&self) -> u8 {
        bits(self.start.div_ceil(SECTOR_BYTES), self.end / SECTOR_BYTES)
    }
}

/// Bits from `first` up to but not with `end`.
pub(super) fn bits(first: usize, end: usize) -> u8 {
    (first..end.min(SECTORS_IN_A_PAGE)).fold(0, |mask, sector| mask | 1 << sector)
}

/// Splits a range into its parts in each page.
pub(super) fn spans(offset_bytes: u64, length_bytes: usize) -> impl Iterator<Item = Span> {
    let mut position = 0;
    std::iter::from_fn(move || {
        if position >= length_bytes {
            return None;
        }
        let at = offset_bytes + position as u64;
        let start = (at % PAGE_BYTES as u64) as usize;
        let count = (PAGE_BYTES - start).min(length_bytes - position);
        let span = Span {
            page: at / PAGE_BYTES as u64,
            start,
            end: start + count,
            position,
        };
        position += count;
        Some(span)
    })
}

/// A set of sectors, as one mask for each page.
#[derive(Clone, Debug, Default)]
pub(super) struct SectorSet(BTreeMap<u64, u8>);

impl SectorSet {
    pub(super) fn insert(&mut self, page: u64, mask: u8) {
        if mask != 0 {
            *self.0.entry(page).or_default() |= mask;
        }
    }

    pub(super) fn remove(&mut self, page: u64, mask: u8) {
        if let Some(kept) = self.0.get_mut(&page) {
            *kept &= !mask;
            if *kept == 0 {
                self.0.remove(&page);
            }
        }
    }

    pub(super) fn mask(&self, page: u64) -> u8 {
        self.0.get(&page).copied().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u8)> {
        self.0.iter().map(|(&page, &mask)| (page, mask))
    }

    /// Removes the sectors that start at or after `length_bytes`.
    pub(super) fn trim(&mut self, length_bytes: u64) {
        let (page, start) = page_of(length_bytes);
        let beyond = self.0.split_off(&page);
        if let Some(&mask) = beyond.get(&page) {
            self.insert(page, mask & bits(0, start.div_ceil(SECTOR_BYTES)));
        }
    }
}

/// The page that holds a byte, and where in it.
pub(super) fn page_of(offset_bytes: u64) -> (u64, usize) {
    (
        offset_bytes / PAGE_BYTES as u64,
        (offset_bytes % PAGE_BYTES as u64) as usize,
    )
}

/// The bytes of one file, its length, and which of its sectors cannot be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) length_bytes: u64,
    pages: BTreeMap<u64, Arc<Page>>,
    pub(super) unreadable: SectorSet,
}

impl Content {
    pub(super) fn page(&self, page: u64) -> &Page {
        self.pages.get(&page).map_or(&ZEROES, |bytes| bytes)
    }

    pub(super) fn shared_page(&self, page: u64) -> SharedPage {
        self.pages.get(&page).cloned()
    }

    pub(super) fn is_absent(&self, page: u64) -> bool {
        !self.pages.contains_key(&page)
    }

    pub(super) fn set_page(&mut self, page: u64, bytes: SharedPage) {
        match bytes {
            Some(bytes) => self.pages.insert(page, bytes),
            None => self.pages.remove(&page),
        };
    }

    /// Reads up to the end of the file, whether or not the sectors are readable.
    pub(super) fn read(&self, buffer: &mut [u8], offset_bytes: u64) -> usize {
        let left = self.length_bytes.saturating_sub(offset_bytes);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        for span in spans(offset_bytes, count) {
            let bytes = &self.page(span.page)[span.start..span.end];
            buffer[span.position..][..bytes.len()].copy_from_slice(bytes);
        }
        count
    }

    /// Whether every sector in the range can be read.
    pub(super) fn is_readable(&self, offset_bytes: u64, length_bytes: usize) -> bool {
        self.unreadable.is_empty()
            || spans(offset_bytes, length_bytes)
                .all(|span| self.unreadable.mask(span.page) & span.touched() == 0)
    }

    /// Puts bytes into one page from `start`. The length is not changed.
    pub(super) fn put(&mut self, page: u64, start: usize, bytes: &[u8]) {
        let zero = bytes == &ZEROES[..bytes.len()];
        if zero && (bytes.len() == PAGE_BYTES || self.is_absent(page)) {
            self.pages.remove(&page);
            return;
        }
        let kept = self.pages.entry(page).or_insert_with(|| Arc::new(ZEROES));
        Arc::make_mut(kept)[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Sets the length, and lets go of what lies beyond it.
    pub(super) fn cut(&mut self, length_bytes: u64) {
        self.length_bytes = length_bytes;
        let (page, start) = page_of(length_bytes);
        let beyond = self.pages.split_off(&page);
        if start > 0
            && let Some(mut bytes) = beyond
                .into_iter()
                .next()
                .filter(|(number, _)| *number == page)
        {
            if bytes.1[start..] != ZEROES[start..] {
                Arc::make_mut(&mut bytes.1)[start..].fill(0);
            }
            self.pages.insert(page, bytes.1);
        }
        self.unreadable.trim(length_bytes);
    }

    /// Makes the sectors of `mask` what they are in `other`.
    pub(super) fn copy_sectors(&mut self, other: &Self, page: u64, mask: u8) {
        self.put_sectors(&other.shared_page(page), page, mask);
        self.unreadable
            .insert(page, other.unreadable.mask(page) & mask);
    }

    /// Makes each sector what it is in its source, and readable.
    pub(super) fn put_each(&mut self, page: u64, sources: &[(usize, &SharedPage)]) {
        if sources.is_empty() {
            return;
        }
        if sources.iter().all(|(_, source)| source.is_none()) && self.is_absent(page) {
            let mask = sources
                .iter()
                .fold(0, |mask, (sector, _)| mask | 1 << sector);
            self.unreadable.remove(page, mask);
            return;
        }
        let kept = self.pages.entry(page).or_insert_with(|| Arc::new(ZEROES));
        let bytes = Arc::make_mut(kept);
        for (sector, source) in sources {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            bytes[range.clone()].copy_from_slice(&page_bytes(source)[range]);
            self.unreadable.remove(page, 1 << sector);
        }
    }

    /// Makes the sectors of `mask` what they are in `source`, and readable.
    pub(super) fn put_sectors(&mut self, source: &SharedPage, page: u64, mask: u8) {
        self.unreadable.remove(page, mask);
        if mask == u8::MAX {
            self.set_page(page, source.clone());
            return;
        }
        for sector in sectors(mask) {
            let start = sector * SECTOR_BYTES;
            self.put(
                page,
                start,
                &page_bytes(source)[start..start + SECTOR_BYTES],
            );
        }
    }
}

/// Numbers of the sectors in a mask.
pub(super) fn sectors(mask: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS_IN_A_PAGE).filter(move |sector| mask & 1 << sector != 0)
}
