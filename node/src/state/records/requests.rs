//! The records of the requests that are remembered: one for each, or one for two.
//!
//! Two that follow each other in an entry share a record when neither has more than 16 bits of
//! content, as those that clients gave no key have: each record costs fifteen writes to the store's
//! indexes until it is gone, more than a quad of a client. Which requests share one follows from
//! their places alone: a request of an even place and the next one, as long as both are remembered.

use oxrdf::{NamedNodeRef, Quad};

use super::{Ordered, halves, ordered, ordered_record, record, wide_number_of};
use crate::state::request::{RequestId, RequestPlace};

pub(super) const REQUEST: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:request");
pub(super) const TWO_REQUESTS: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:twoRequests");

/// The most content of a request that shares a record.
const SHORT_CONTENT_BITS: u32 = 16;

type Remembered = (RequestId, RequestPlace);

fn single(id: RequestId, place: RequestPlace) -> Quad {
    let (key, content) = halves(id.number());
    ordered_record(place.number(), REQUEST, key, content)
}

/// What the object begins with: enough of the log index for the records to sort by it.
fn short_order(place: RequestPlace) -> u32 {
    // The cast takes the lower half.
    #[allow(clippy::cast_possible_truncation)]
    let order = place.log_index() as u32;
    order
}

fn pair((first, place): Remembered, (second, _): Remembered) -> Quad {
    let (first_key, first_content) = halves(first.number());
    let (second_key, second_content) = halves(second.number());
    let contents = first_content << SHORT_CONTENT_BITS | second_content;
    let order = u64::from(short_order(place)) << (2 * SHORT_CONTENT_BITS);
    record(
        ordered(place.number(), first_key),
        TWO_REQUESTS,
        ordered(order | contents, second_key),
    )
}

/// The two requests of such a record.
pub(super) fn read_pair(quad: &Quad) -> Option<[Remembered; 2]> {
    let (order, first_key) = halves(super::subject_number_of(quad)?);
    let (rest, second_key) = halves(wide_number_of(&quad.object)?);
    let first = RequestPlace::from_number(order)?;
    let second = first.next().filter(|_| first.is_even())?;
    if rest >> (2 * SHORT_CONTENT_BITS) != u64::from(short_order(first)) {
        return None;
    }
    let short = (1 << SHORT_CONTENT_BITS) - 1;
    let id =
        |key, content| RequestId::from_number(u128::from(key) << 64 | u128::from(content & short));
    Some([
        (id(first_key, rest >> SHORT_CONTENT_BITS), first),
        (id(second_key, rest), second),
    ])
}

/// The request of a record of one.
pub(super) fn read_single(quad: &Quad) -> Option<Remembered> {
    let record = Ordered::of(quad)?;
    let place = RequestPlace::from_number(record.order)?;
    Some((RequestId::from_number(record.number()), place))
}

/// Whether the two share a record while both are remembered.
fn share((first, place): Remembered, (second, next): Remembered) -> bool {
    let is_short = |id: RequestId| halves(id.number()).1 >> SHORT_CONTENT_BITS == 0;
    place.is_even() && place.next() == Some(next) && is_short(first) && is_short(second)
}

/// The records of requests that are next to each other in the table.
fn records_of(requests: &[Remembered]) -> Vec<Quad> {
    let mut records = Vec::with_capacity(requests.len());
    let mut rest = requests;
    while let [first, others @ ..] = rest {
        rest = others;
        match others {
            [second, others @ ..] if share(*first, *second) => {
                records.push(pair(*first, *second));
                rest = others;
            }
            _ => records.push(single(first.0, first.1)),
        }
    }
    records
}

/// The records that go and those that come when the oldest requests leave, of whom `oldest` is the
/// first that stays, and others enter.
pub(super) fn changes(
    leaving: &[Remembered],
    oldest: Option<Remembered>,
    entering: &[Remembered],
) -> (Vec<Quad>, Vec<Quad>) {
    let parted = match (leaving.last(), oldest) {
        (Some(last), Some(oldest)) if share(*last, oldest) => Some(oldest),
        _ => None,
    };
    let gone: Vec<Remembered> = leaving.iter().copied().chain(parted).collect();
    let mut new = records_of(entering);
    new.extend(parted.map(|(id, place)| single(id, place)));
    (records_of(&gone), new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn read(quad: &Quad) -> Vec<Remembered> {
        if quad.predicate.as_ref() == TWO_REQUESTS {
            read_pair(quad).unwrap().to_vec()
        } else {
            vec![read_single(quad).unwrap()]
        }
    }

    #[test]
    fn requests_without_a_key_of_a_client_take_half_a_record_each() {
        let requests: Vec<Remembered> = (0..64)
            .map(|number| {
                (
                    RequestId::random(),
                    RequestPlace::new(1 << 40, number).unwrap(),
                )
            })
            .collect();
        assert_eq!(records_of(&requests).len(), 32);
        let with_key = RequestId::of_key("k", &[0xff; 32]);
        let place = |number| RequestPlace::new(1, number).unwrap();
        let mixed = [(with_key, place(0)), (RequestId::random(), place(1))];
        assert_eq!(records_of(&mixed).len(), 2);
    }

    fn any_id() -> impl Strategy<Value = RequestId> {
        let content = prop_oneof![
            3 => 0..1_u64 << 16,
            1 => any::<u64>(),
        ];
        (any::<u64>(), content).prop_map(|(key, content)| {
            RequestId::from_number(u128::from(key) << 64 | u128::from(content))
        })
    }

    /// The requests of entries, in order.
    fn any_table() -> impl Strategy<Value = Vec<Remembered>> {
        (
            0_u64..1 << 46,
            prop::collection::vec(prop::collection::vec(any_id(), 0..6), 1..6),
        )
            .prop_map(|(start, entries)| {
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
                let oldest = table.get(to).copied();
                let (gone, new) = changes(&table[from..to], oldest, &[]);
                for record in &gone {
                    prop_assert!(kept.remove(record), "{record} was not there");
                }
                kept.extend(new);
                let mut read: Vec<Remembered> = kept.iter().flat_map(read).collect();
                read.sort_unstable_by_key(|(_, place)| *place);
                prop_assert_eq!(&read, &table[to..]);
                from = to;
            }
        }
    }
}
