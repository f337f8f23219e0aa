//! The records of the requests that are remembered: one for each run of them.
//!
//! A run is requests at neighbouring places of an entry whose keys follow each other and that have
//! the same content, as the ids have that a node gives one after the other. Each record costs fifteen
//! writes to the store's indexes until it is gone, more than a quad of a client does. What is a run
//! follows from the requests that are remembered, and from nothing else.

use oxrdf::{NamedNodeRef, Quad};

use super::{halves, ordered, record, subject_number_of, wide_number_of};
use crate::state::request::{Remembered, RequestId, RequestPlace};

pub(super) const REQUESTS: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:requests");

/// The object begins with enough of the log index to sort by, and the length of the run less one.
const INDEX_BITS: u32 = 32;
const LENGTH_BITS: u32 = 16;
const UNUSED_BITS: u32 = 64 - INDEX_BITS - LENGTH_BITS;

fn low_bits(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}

/// The record of a run that begins with this request and has so many more.
fn record_of((id, place): Remembered, more: u64) -> Quad {
    let (key, content) = halves(id.number());
    let order = low_bits(place.log_index(), INDEX_BITS) << LENGTH_BITS | more;
    record(
        ordered(place.number(), key),
        REQUESTS,
        ordered(order << UNUSED_BITS, content),
    )
}

/// The requests of a record, if it is one.
pub(super) fn read(quad: &Quad) -> Option<Vec<Remembered>> {
    let (place, key) = halves(subject_number_of(quad)?);
    let (order, content) = halves(wide_number_of(&quad.object)?);
    let more = low_bits(order >> UNUSED_BITS, LENGTH_BITS);
    let id = |key: u64| RequestId::from_number(u128::from(key) << 64 | u128::from(content));
    let first = (id(key), RequestPlace::from_number(place)?);
    let mut requests = vec![first];
    for number in 1..=more {
        let place = requests.last()?.1.next()?;
        requests.push((id(key.wrapping_add(number)), place));
    }
    (record_of(first, more) == *quad).then_some(requests)
}

/// Whether the second continues the run of the first.
fn follows((first, place): Remembered, (second, next): Remembered) -> bool {
    let (key, content) = halves(first.number());
    place.next() == Some(next) && halves(second.number()) == (key.wrapping_add(1), content)
}

/// The records of requests that are next to each other in the table.
fn records_of(requests: &[Remembered]) -> Vec<Quad> {
    requests
        .chunk_by(|first, second| follows(*first, *second))
        // An entry has no more places than a run can have requests.
        .map(|run| record_of(run[0], run.len() as u64 - 1))
        .collect()
}

/// The records that go and those that come when the oldest requests leave and others enter.
/// `staying` are those that stay of the entry of the last that leaves: a run may lose its first.
pub(super) fn changes(
    leaving: &[Remembered],
    staying: &[Remembered],
    entering: &[Remembered],
) -> (Vec<Quad>, Vec<Quad>) {
    let mut parted = leaving.last().map(|last| vec![*last]).unwrap_or_default();
    for request in staying {
        if parted.last().is_none_or(|last| !follows(*last, *request)) {
            break;
        }
        parted.push(*request);
    }
    let rest = parted.get(1..).unwrap_or_default();
    let gone = records_of(&[leaving, rest].concat());
    let new = [records_of(rest), records_of(entering)].concat();
    (gone, new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_that_a_node_gives_one_after_the_other_share_a_record() {
        let ids: Vec<RequestId> = (0..64).map(|_| RequestId::unique()).collect();
        let place = |number| RequestPlace::new(1 << 40, number).unwrap();
        let requests: Vec<Remembered> = ids.into_iter().zip((0..64).map(place)).collect();
        // Other tests take ids meanwhile.
        assert!(records_of(&requests).len() < 16);
        let with_key = |key| RequestId::of_key(key, &[0xff; 32]);
        let mixed = [(with_key("a"), place(0)), (with_key("b"), place(1))];
        assert_eq!(records_of(&mixed).len(), 2);
    }

    #[test]
    fn a_record_that_says_what_cannot_be_is_not_read() {
        let last = RequestPlace::new(7, (1 << 16) - 1).unwrap();
        let id = RequestId::unique();
        assert_eq!(read(&record_of((id, last), 0)), Some(vec![(id, last)]));
        assert_eq!(read(&record_of((id, last), 1)), None);
        let first = RequestPlace::new(7, 0).unwrap();
        let (key, content) = halves(id.number());
        let of_another_entry = record(
            ordered(first.number(), key),
            REQUESTS,
            ordered(8 << (LENGTH_BITS + UNUSED_BITS), content),
        );
        assert_eq!(read(&of_another_entry), None);
    }

    /// Few keys and contents, so that there are runs, also beyond the largest key.
    fn any_id() -> impl Strategy<Value = RequestId> {
        (0..8_u64, 0..2_u64).prop_map(|(key, content)| {
            let key = key.wrapping_sub(4);
            RequestId::from_number(u128::from(key) << 64 | u128::from(content))
        })
    }

    fn any_ids() -> impl Strategy<Value = Vec<RequestId>> {
        let run = (any_id(), 1..8_u64).prop_map(|(first, length)| {
            let (key, content) = halves(first.number());
            (0..length)
                .map(|number| key.wrapping_add(number))
                .map(|key| RequestId::from_number(u128::from(key) << 64 | u128::from(content)))
                .collect::<Vec<_>>()
        });
        prop_oneof![prop::collection::vec(any_id(), 0..6), run]
    }

    /// The requests of entries, in order.
    fn any_table() -> impl Strategy<Value = Vec<Remembered>> {
        (0_u64..1 << 46, prop::collection::vec(any_ids(), 1..6)).prop_map(|(start, entries)| {
            let entries = entries.into_iter().zip(start..);
            entries
                .flat_map(|(ids, index)| {
                    ids.into_iter()
                        .enumerate()
                        .map(move |(place, id)| (id, RequestPlace::new(index, place).unwrap()))
                })
                .collect()
        })
    }

    proptest! {
        /// However many leave at a time, the records are those of the requests that are left.
        #[test]
        fn records_say_what_is_remembered(
            table in any_table(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
        ) {
            let mut kept: HashSet<Quad> = records_of(&table).into_iter().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(table.len() + 1)).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for to in cuts {
                let leaving = &table[from..to];
                let staying: Vec<Remembered> = table[to..]
                    .iter()
                    .copied()
                    .take_while(|(_, place)| {
                        leaving.last().is_some_and(|(_, last)| last.log_index() == place.log_index())
                    })
                    .collect();
                let (gone, new) = changes(leaving, &staying, &[]);
                for record in &gone {
                    prop_assert!(kept.remove(record), "{record} was not there");
                }
                for record in new {
                    prop_assert!(kept.insert(record), "a record was there already");
                }
                let mut all: Vec<Remembered> = kept.iter().flat_map(|quad| read(quad).unwrap()).collect();
                all.sort_unstable_by_key(|(_, place)| *place);
                prop_assert_eq!(&all, &table[to..]);
                prop_assert_eq!(kept.len(), records_of(&table[to..]).len());
                from = to;
            }
        }
    }
}
