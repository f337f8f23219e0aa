//! What the log holds, by name: kept in memory, and rebuilt by reading the segments.

use std::collections::BTreeSet;

use super::layout::RecordKind;
use super::places::Places;
use crate::position::LogPosition;

/// Where an entry's record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLocation {
    pub position: LogPosition,
    pub segment: u64,
    /// Number of its slot among the segment's identifiers.
    pub slot: u64,
    /// Offset of the record in its segment.
    pub offset_bytes: u64,
    pub payload_bytes: usize,
}

/// The entries of the log in order of their indices.
///
/// Invariants, checked by [`LogContents::validate`]:
/// `purged.index < first entry's index`, indices are consecutive, terms never fall, and
/// `purged <= committed <= last`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogContents {
    entries: Places,
    /// Indices of entries whose payloads cannot be read. They are held all the same: not being able
    /// to read an entry is not the same as not having it.
    unreadable: BTreeSet<u64>,
    /// The position before the first entry held here, when entries before it are gone.
    before_first: Option<LogPosition>,
    purged: Option<LogPosition>,
    committed: Option<LogPosition>,
}

/// A record that contradicts those before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ContentsError {
    #[error("entry {found} follows {last:?}: indices must be consecutive and terms must not fall")]
    Gap {
        last: Option<LogPosition>,
        found: LogPosition,
    },
    #[error(
        "the log was to be truncated after index {after}, which is before the committed {committed}"
    )]
    TruncatesCommitted { after: u64, committed: LogPosition },
    #[error("{what} {position} is not in the order purged <= committed <= last")]
    Order {
        what: &'static str,
        position: LogPosition,
    },
    #[error("entries between {purged:?} and the first one kept, {first}, are missing")]
    Missing {
        purged: Option<LogPosition>,
        first: LogPosition,
    },
}

impl LogContents {
    /// A log whose earlier segments are gone, as the first remaining segment's header tells.
    pub(crate) fn starting_after(
        last: Option<LogPosition>,
        purged: Option<LogPosition>,
        committed: Option<LogPosition>,
    ) -> Self {
        Self {
            entries: Places::default(),
            unreadable: BTreeSet::new(),
            before_first: last,
            purged,
            committed,
        }
    }

    /// The last entry's position, or that of the last one purged.
    #[must_use]
    pub fn last(&self) -> Option<LogPosition> {
        self.entries.last().map(|entry| entry.position).or_else(|| {
            let before = [self.before_first, self.purged];
            before
                .into_iter()
                .flatten()
                .max_by_key(|position| position.index)
        })
    }

    #[must_use]
    pub fn purged(&self) -> Option<LogPosition> {
        self.purged
    }

    #[must_use]
    pub fn committed(&self) -> Option<LogPosition> {
        self.committed
    }

    /// The first entry that is held.
    #[must_use]
    pub fn first(&self) -> Option<EntryLocation> {
        self.entries.first()
    }

    /// Number of entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<EntryLocation> {
        self.entries.get(index)
    }

    /// The entries that are known by name only, in order.
    pub fn unreadable(&self) -> impl Iterator<Item = EntryLocation> {
        self.unreadable.iter().filter_map(|index| self.get(*index))
    }

    /// Whether the entry at `index` is known by name only.
    #[must_use]
    pub fn is_unreadable(&self, index: u64) -> bool {
        self.unreadable.contains(&index)
    }

    /// Notes that an entry cannot be read, if it is held.
    pub fn mark_unreadable(&mut self, index: u64) {
        if self.get(index).is_some() {
            self.unreadable.insert(index);
        }
    }

    /// Notes that an entry can be read again.
    pub fn mark_repaired(&mut self, index: u64) {
        self.unreadable.remove(&index);
    }

    /// The ends of this log without its entries: what a new segment's header needs.
    pub(crate) fn clone_ends(&self) -> Self {
        Self {
            entries: Places::default(),
            unreadable: BTreeSet::new(),
            before_first: self.last(),
            purged: self.purged,
            committed: self.committed,
        }
    }

    /// The part of [`Self::validate`] that takes no time.
    ///
    /// # Errors
    /// The first order that does not hold.
    pub(crate) fn validate_ends(&self) -> Result<(), ContentsError> {
        if let Some(purged) = self.purged
            && self.committed < Some(purged)
        {
            return Err(ContentsError::Order {
                what: "purged",
                position: purged,
            });
        }
        if let Some(committed) = self.committed
            && self.last() < Some(committed)
        {
            return Err(ContentsError::Order {
                what: "committed",
                position: committed,
            });
        }
        Ok(())
    }

    /// Takes in one record.
    pub(crate) fn apply(
        &mut self,
        kind: RecordKind,
        location: EntryLocation,
    ) -> Result<(), ContentsError> {
        let position = location.position;
        match kind {
            RecordKind::Entry => {
                let last = self.last();
                let follows = match last {
                    Some(last) => position.index == last.index + 1 && position.term >= last.term,
                    None => position.index == 0 || self.entries.is_empty(),
                };
                if !follows {
                    return Err(ContentsError::Gap {
                        last,
                        found: position,
                    });
                }
                self.entries.push_back(&location);
            }
            RecordKind::TruncateAfter => {
                // The index is stored plus one, zero standing for "before everything".
                let keep_below = position.index;
                if let Some(committed) = self.committed
                    && committed.index >= keep_below
                {
                    return Err(ContentsError::TruncatesCommitted {
                        after: keep_below.saturating_sub(1),
                        committed,
                    });
                }
                while self
                    .entries
                    .last()
                    .is_some_and(|entry| entry.position.index >= keep_below)
                {
                    self.entries.pop_back();
                }
                self.unreadable.split_off(&keep_below);
                // What is voided may stand in a segment that is gone. The entry that is the last
                // one now is known by its index only: no term is lower than zero.
                if self
                    .before_first
                    .is_some_and(|before| before.index >= keep_below)
                {
                    self.before_first = keep_below
                        .checked_sub(1)
                        .map(|index| LogPosition { term: 0, index });
                }
            }
            RecordKind::Purged => {
                while self
                    .entries
                    .first()
                    .is_some_and(|entry| entry.position.index <= position.index)
                {
                    if let Some(entry) = self.entries.pop_front() {
                        self.before_first = Some(entry.position);
                    }
                }
                self.unreadable = self.unreadable.split_off(&(position.index + 1));
                if self.before_first.map(|before| before.index) <= Some(position.index) {
                    // What was before is in the snapshot; it may even reach beyond the log.
                    self.before_first = None;
                }
                self.purged = self.purged.max(Some(position));
                // What is in a snapshot is committed.
                self.committed = self.committed.max(Some(position));
            }
            RecordKind::Committed => {
                if Some(position.index) > self.last().map(|last| last.index) {
                    return Err(ContentsError::Order {
                        what: "committed",
                        position,
                    });
                }
                self.committed = self.committed.max(Some(position));
            }
            RecordKind::Sealed => {}
        }
        Ok(())
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn validate(&self) -> Result<(), ContentsError> {
        if let Some(first) = self.entries.first()
            && Some(first.position.index)
                != self
                    .purged
                    .map_or(Some(0), |purged| purged.index.checked_add(1))
        {
            return Err(ContentsError::Missing {
                purged: self.purged,
                first: first.position,
            });
        }
        if let Some(before) = self.before_first
            && self.purged.map(|purged| purged.index) < Some(before.index)
        {
            return Err(ContentsError::Missing {
                purged: self.purged,
                first: before,
            });
        }
        let mut previous = self.purged;
        for position in self.entries.positions() {
            if let Some(previous) = previous
                && (position.index != previous.index + 1 || position.term < previous.term)
            {
                return Err(ContentsError::Gap {
                    last: Some(previous),
                    found: position,
                });
            }
            previous = Some(position);
        }
        self.validate_ends()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn location(term: u64, index: u64) -> EntryLocation {
        EntryLocation {
            position: LogPosition { term, index },
            segment: 1,
            slot: index,
            offset_bytes: 0,
            payload_bytes: 0,
        }
    }

    #[test]
    fn entries_are_consecutive_and_truncation_never_reaches_what_is_committed() {
        let mut contents = LogContents::default();
        for index in 0..5 {
            contents
                .apply(RecordKind::Entry, location(1, index))
                .unwrap();
        }
        assert!(contents.apply(RecordKind::Entry, location(1, 6)).is_err());
        assert!(contents.apply(RecordKind::Entry, location(0, 5)).is_err());
        contents
            .apply(RecordKind::Committed, location(1, 2))
            .unwrap();
        assert!(
            contents
                .apply(RecordKind::TruncateAfter, location(0, 2))
                .is_err()
        );
        contents
            .apply(RecordKind::TruncateAfter, location(0, 3))
            .unwrap();
        assert_eq!(contents.last(), Some(LogPosition { term: 1, index: 2 }));
        contents.validate().unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_held_until_it_is_void_or_purged() {
        let mut contents = LogContents::default();
        for index in 0..6 {
            contents
                .apply(RecordKind::Entry, location(1, index))
                .unwrap();
        }
        for index in [1, 3, 5, 9] {
            contents.mark_unreadable(index);
        }
        let unreadable = |contents: &LogContents| -> Vec<u64> {
            contents
                .unreadable()
                .map(|entry| entry.position.index)
                .collect()
        };
        assert_eq!(unreadable(&contents), [1, 3, 5]);
        contents
            .apply(RecordKind::TruncateAfter, location(0, 5))
            .unwrap();
        contents.apply(RecordKind::Purged, location(1, 1)).unwrap();
        assert_eq!(unreadable(&contents), [3]);
        assert_eq!(contents.last(), Some(LogPosition { term: 1, index: 4 }));
        contents.mark_repaired(3);
        assert_eq!(unreadable(&contents), Vec::<u64>::new());
    }

    #[test]
    fn entries_of_a_removed_segment_can_be_voided() {
        let end = LogPosition { term: 2, index: 41 };
        let mut contents = LogContents::starting_after(Some(end), None, None);
        contents
            .apply(RecordKind::TruncateAfter, location(0, 24))
            .unwrap();
        contents.apply(RecordKind::Entry, location(1, 24)).unwrap();
        contents.apply(RecordKind::Purged, location(1, 24)).unwrap();
        contents.validate().unwrap();
        assert_eq!(contents.last(), Some(LogPosition { term: 1, index: 24 }));
    }

    #[test]
    fn a_purge_below_what_earlier_segments_held_does_not_forget_their_end() {
        let end = LogPosition { term: 3, index: 49 };
        let mut contents = LogContents::starting_after(Some(end), None, None);
        contents.apply(RecordKind::Purged, location(2, 22)).unwrap();
        assert_eq!(contents.last(), Some(end));
        contents.apply(RecordKind::Entry, location(4, 50)).unwrap();
        contents.apply(RecordKind::Purged, location(4, 50)).unwrap();
        contents.validate().unwrap();
    }

    #[test]
    fn purging_keeps_the_order_also_beyond_the_end() {
        let mut contents = LogContents::default();
        for index in 0..5 {
            contents
                .apply(RecordKind::Entry, location(1, index))
                .unwrap();
        }
        contents.apply(RecordKind::Purged, location(1, 2)).unwrap();
        contents.validate().unwrap();
        assert_eq!(contents.first().unwrap().position.index, 3);
        assert_eq!(contents.get(2), None);
        assert_eq!(contents.get(4).unwrap().position.index, 4);
        contents.apply(RecordKind::Purged, location(3, 90)).unwrap();
        contents.validate().unwrap();
        assert_eq!(contents.last(), Some(LogPosition { term: 3, index: 90 }));
        contents.apply(RecordKind::Entry, location(3, 91)).unwrap();
        contents.validate().unwrap();
    }
}
