//! The places of consecutive entries, in little memory: twelve bytes each, and what neighbours
//! share once.

use std::collections::VecDeque;

use super::contents::EntryLocation;
use crate::position::LogPosition;

/// Records stand at multiples of this; docs/formats/log.md.
const OFFSET_UNIT_BYTES: u64 = 8;

/// One entry. The numbers are as wide as in its slot on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: u32,
    offset_units: u32,
    payload_bytes: u32,
}

/// Entries of one term that stand in one segment, up to where the next run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first_index: u64,
    term: u64,
    segment: u64,
}

/// Where entries of consecutive indices stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    places: VecDeque<Place>,
    /// The first begins with the first entry; neighbours differ.
    runs: VecDeque<Run>,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn first_index(&self) -> Option<u64> {
        self.runs.front().map(|run| run.first_index)
    }

    pub(super) fn get(&self, index: u64) -> Option<EntryLocation> {
        let number = usize::try_from(index.checked_sub(self.first_index()?)?).ok()?;
        let place = self.places.get(number)?;
        let next_run = self.runs.partition_point(|run| run.first_index <= index);
        let run = self.runs.get(next_run.checked_sub(1)?)?;
        Some(EntryLocation {
            position: LogPosition {
                term: run.term,
                index,
            },
            segment: run.segment,
            slot: u64::from(place.slot),
            offset_bytes: u64::from(place.offset_units) * OFFSET_UNIT_BYTES,
            payload_bytes: place.payload_bytes as usize,
        })
    }

    pub(super) fn first(&self) -> Option<EntryLocation> {
        self.get(self.first_index()?)
    }

    pub(super) fn last(&self) -> Option<EntryLocation> {
        let count = self.places.len() as u64;
        self.get(self.first_index()? + count.checked_sub(1)?)
    }

    /// Positions in order.
    pub(super) fn positions(&self) -> impl Iterator<Item = LogPosition> {
        let ends = self.runs.iter().skip(1).map(|run| run.first_index);
        let end = self.first_index().unwrap_or(0) + self.places.len() as u64;
        self.runs
            .iter()
            .zip(ends.chain(std::iter::once(end)))
            .flat_map(|(run, end)| {
                let term = run.term;
                (run.first_index..end).map(move |index| LogPosition { term, index })
            })
    }

    /// Adds the entry behind the last one; its index must follow.
    pub(super) fn push_back(&mut self, location: &EntryLocation) {
        let EntryLocation {
            position: LogPosition { term, index },
            segment,
            ..
        } = *location;
        debug_assert!(
            self.last()
                .is_none_or(|last| last.position.index + 1 == index)
        );
        if self
            .runs
            .back()
            .is_none_or(|run| run.term != term || run.segment != segment)
        {
            self.runs.push_back(Run {
                first_index: index,
                term,
                segment,
            });
        }
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.places.push_back(Place {
            slot: narrow(location.slot),
            offset_units: narrow(location.offset_bytes / OFFSET_UNIT_BYTES),
            payload_bytes: narrow(location.payload_bytes as u64),
        });
    }

    pub(super) fn pop_back(&mut self) {
        let Some(last) = self.last() else {
            return;
        };
        self.places.pop_back();
        if self
            .runs
            .back()
            .is_some_and(|run| run.first_index == last.position.index)
        {
            self.runs.pop_back();
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<EntryLocation> {
        let first = self.first()?;
        self.places.pop_front();
        let next_index = first.position.index + 1;
        let run_is_over = self.places.is_empty()
            || self.runs.get(1).map(|run| run.first_index) == Some(next_index);
        if run_is_over {
            self.runs.pop_front();
        } else if let Some(run) = self.runs.front_mut() {
            run.first_index = next_index;
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push {
            new_term: bool,
            new_segment: bool,
            payload_bytes: usize,
        },
        PopBack,
        PopFront,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<bool>(), any::<bool>(), 0..5000_usize).prop_map(
                |(new_term, new_segment, payload_bytes)| Step::Push {
                    new_term,
                    new_segment,
                    payload_bytes,
                }
            ),
            1 => Just(Step::PopBack),
            1 => Just(Step::PopFront),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_queue_holds(steps in prop::collection::vec(step(), 0..80)) {
            let mut plain: VecDeque<EntryLocation> = VecDeque::new();
            let mut places = Places::default();
            let (mut index, mut term, mut segment, mut slot) = (3, 1, 1, 0);
            for step in steps {
                match step {
                    Step::Push { new_term, new_segment, payload_bytes } => {
                        term += u64::from(new_term);
                        segment += u64::from(new_segment);
                        let location = EntryLocation {
                            position: LogPosition { term, index },
                            segment,
                            slot,
                            offset_bytes: 4096 + slot * 64,
                            payload_bytes,
                        };
                        index += 1;
                        slot += 1;
                        plain.push_back(location);
                        places.push_back(&location);
                    }
                    Step::PopBack => {
                        if plain.pop_back().is_some() {
                            index -= 1;
                        }
                        places.pop_back();
                    }
                    Step::PopFront => prop_assert_eq!(places.pop_front(), plain.pop_front()),
                }
                prop_assert_eq!(places.len(), plain.len());
                prop_assert_eq!(places.is_empty(), plain.is_empty());
                prop_assert_eq!(places.first(), plain.front().copied());
                prop_assert_eq!(places.last(), plain.back().copied());
                let positions: Vec<_> = plain.iter().map(|location| location.position).collect();
                prop_assert_eq!(places.positions().collect::<Vec<_>>(), positions);
                for location in &plain {
                    prop_assert_eq!(places.get(location.position.index), Some(*location));
                }
                prop_assert_eq!(places.get(index), None);
            }
        }
    }
}
