//! The log as its readers see it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::identity::StoredVote;
use crate::log::contents::LogContents;
use crate::position::LogPosition;

/// Entries kept in memory behind those that still wait for the disk.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The log as its readers see it: with what is queued already in place.
pub(super) struct View {
    /// What is on the disk.
    pub(super) contents: LogContents,
    /// The newest entries, consecutive, among them all that are not on the disk yet.
    cache: VecDeque<(LogPosition, Bytes)>,
    cache_bytes: usize,
    /// Entries from the front of the cache that are on the disk already.
    written: usize,
    pub(super) last: Option<LogPosition>,
    pub(super) purged: Option<LogPosition>,
    pub(super) committed: Option<LogPosition>,
    pub(super) durable_committed_index: Option<u64>,
    pub(super) vote: Option<StoredVote>,
    pub(super) failure: Option<String>,
    /// Something waits because there is no room for it on the disk.
    pub(super) waits_for_space: bool,
}

impl std::fmt::Debug for View {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("View")
            .field("last", &self.last)
            .field("purged", &self.purged)
            .finish_non_exhaustive()
    }
}

pub(super) fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// A log that was just opened.
    pub(super) fn new(contents: LogContents, vote: Option<StoredVote>) -> Self {
        Self {
            last: contents.last(),
            purged: contents.purged(),
            committed: contents.committed(),
            durable_committed_index: None,
            contents,
            cache: VecDeque::new(),
            cache_bytes: 0,
            written: 0,
            vote,
            failure: None,
            waits_for_space: false,
        }
    }

    /// Shows entries that are about to be queued.
    pub(super) fn append(&mut self, entries: &[(LogPosition, Bytes)]) {
        for (position, payload) in entries {
            self.cache_bytes += payload.len();
            self.cache.push_back((*position, payload.clone()));
            self.last = Some(*position);
        }
    }

    /// Shows no entries after `keep` any more.
    pub(super) fn truncate_after(&mut self, keep: Option<LogPosition>) {
        let keep_index = keep.map(|keep| keep.index);
        while self
            .cache
            .back()
            .is_some_and(|(position, _)| Some(position.index) > keep_index)
        {
            if let Some((_, payload)) = self.cache.pop_back() {
                self.cache_bytes -= payload.len();
            }
        }
        self.written = self.written.min(self.cache.len());
        self.last = keep.max(self.purged);
    }

    /// Shows no entries up to `position` any more.
    pub(super) fn purge(&mut self, position: LogPosition) {
        while self
            .cache
            .front()
            .is_some_and(|(held, _)| held.index <= position.index)
        {
            if let Some((_, payload)) = self.cache.pop_front() {
                self.cache_bytes -= payload.len();
                self.written = self.written.saturating_sub(1);
            }
        }
        self.purged = self.purged.max(Some(position));
        self.last = self.last.max(Some(position));
        self.committed = self.committed.max(Some(position));
    }

    /// Brings up to date what is on the disk; gives the last entry there.
    pub(super) fn note_written(&mut self) -> Option<LogPosition> {
        let last_written = self.contents.last();
        self.written = self.cache.partition_point(|(position, _)| {
            Some(position.index) <= last_written.map(|last| last.index)
        });
        self.note_durable();
        self.shrink_cache();
        last_written
    }

    pub(super) fn holds(&self, position: LogPosition) -> bool {
        self.contents
            .get(position.index)
            .is_some_and(|location| location.position == position)
    }

    pub(super) fn cached(&self, index: u64) -> Option<&(LogPosition, Bytes)> {
        let first = self.cache.front()?.0.index;
        self.cache
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Brings up to date how far the log is durable and can never be taken back. What is on the disk
    /// may still end in entries that another leader's are about to replace, so an index alone proves
    /// nothing: entries of one term come from one leader, in one order.
    pub(super) fn note_durable(&mut self) {
        let (Some(last), Some(committed)) = (self.contents.last(), self.committed) else {
            return;
        };
        let holds_committed = self.contents.purged() >= Some(committed) || self.holds(committed);
        let index = if holds_committed {
            committed.index
        } else if last.term == committed.term && last.index < committed.index {
            last.index
        } else {
            return;
        };
        self.durable_committed_index = self.durable_committed_index.max(Some(index));
    }

    fn shrink_cache(&mut self) {
        while self.cache_bytes > CACHE_BYTES && self.written > 0 {
            if let Some((_, payload)) = self.cache.pop_front() {
                self.cache_bytes -= payload.len();
            }
            self.written -= 1;
        }
    }
}
