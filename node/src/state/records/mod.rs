//! The store's own records: a few quads in the reserved graph, committed with the data.
//!
//! Every value is one that Oxigraph keeps inside its keys (integers of 64 bits, numbered blank
//! nodes), so that its dictionary of strings holds only the fixed names below however often the
//! values change. What changes with each commit begins with a number that grows, as subject and as
//! object: in each of the six indexes it lies behind what was written before, and RocksDB finds its
//! place from the last one (docs/decisions/0014). `docs/formats/snapshot.md` describes the layout.

use std::collections::HashSet;

use oxigraph::store::{QuadIter, Store, Transaction};
use oxrdf::{
    BlankNode, GraphNameRef, Literal, NamedNodeRef, NamedOrBlankNode, NamedOrBlankNodeRef, Quad,
    Term,
};

use super::effects::RESERVED;
use super::request::{Leaving, REMEMBERED_REQUESTS, Remembered, RequestTable};
use super::{Digest, LogPosition, StateError, StateStatus};

mod requests;

/// The version of the layout.
const FORMAT_VERSION: u64 = 3;

/// Membership is kept in pieces of this size, the largest that fits a numbered blank node.
const PIECE_BYTES: usize = 16;

const FORMAT: NamedNodeRef<'_> = NamedNodeRef::new_unchecked("urn:quadraft:reserved:format");
const TERM: NamedNodeRef<'_> = NamedNodeRef::new_unchecked("urn:quadraft:reserved:appliedTerm");
const COUNTS: NamedNodeRef<'_> = NamedNodeRef::new_unchecked("urn:quadraft:reserved:counts");
const DIGEST_HIGH: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:digestHigh");
const DIGEST_LOW: NamedNodeRef<'_> = NamedNodeRef::new_unchecked("urn:quadraft:reserved:digestLow");
const MEMBERSHIP_BYTES: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:membershipBytes");
const MEMBERSHIP_PIECE: NamedNodeRef<'_> =
    NamedNodeRef::new_unchecked("urn:quadraft:reserved:membershipPiece");

/// Everything that the reserved graph holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) status: StateStatus,
    pub(crate) requests: RequestTable,
}

fn integer(number: u64) -> Term {
    // Bit for bit: numbers above 2^63 are stored as negative ones.
    Literal::from(number.cast_signed()).into()
}

fn number_of(term: &Term) -> Option<u64> {
    match term {
        Term::Literal(literal) => literal.value().parse::<i64>().ok().map(i64::cast_unsigned),
        _ => None,
    }
}

fn wide_number_of(term: &Term) -> Option<u128> {
    match term {
        Term::BlankNode(node) => node.as_ref().unique_id(),
        _ => None,
    }
}

fn subject_number_of(quad: &Quad) -> Option<u128> {
    match &quad.subject {
        NamedOrBlankNode::BlankNode(node) => node.as_ref().unique_id(),
        NamedOrBlankNode::NamedNode(_) => None,
    }
}

fn numbered(number: u128) -> BlankNode {
    BlankNode::new_from_unique_id(number)
}

fn record(
    subject: impl Into<NamedOrBlankNode>,
    predicate: NamedNodeRef<'_>,
    object: impl Into<Term>,
) -> Quad {
    Quad::new(
        subject,
        predicate.into_owned(),
        object,
        RESERVED.into_owned(),
    )
}

fn fixed(predicate: NamedNodeRef<'_>, object: impl Into<Term>) -> Quad {
    record(RESERVED.into_owned(), predicate, object)
}

/// A number of 128 bits that sorts by the first half.
fn ordered(order: u64, value: u64) -> BlankNode {
    numbered(u128::from(order) << 64 | u128::from(value))
}

fn halves(number: u128) -> (u64, u64) {
    // The cast takes the lower half.
    #[allow(clippy::cast_possible_truncation)]
    ((number >> 64) as u64, number as u64)
}

/// A record that holds two numbers and sorts by a third.
fn ordered_record(order: u64, predicate: NamedNodeRef<'_>, first: u64, second: u64) -> Quad {
    record(ordered(order, first), predicate, ordered(order, second))
}

/// What the records of a state sort by: the applied index plus one, 0 for none.
fn order_of(status: &StateStatus) -> u64 {
    // No log comes to the last index.
    status
        .applied
        .map_or(0, |applied| applied.index.saturating_add(1))
}

fn counts_record(status: &StateStatus) -> Quad {
    ordered_record(order_of(status), COUNTS, status.quads, status.data_index)
}

/// The records that are there once.
fn single_records(status: &StateStatus) -> Vec<Quad> {
    let order = order_of(status);
    let digest = |predicate, half| {
        let (first, second) = halves(half);
        ordered_record(order, predicate, first, second)
    };
    let (high, low) = status.digest.halves();
    let mut records = vec![
        fixed(FORMAT, integer(FORMAT_VERSION)),
        counts_record(status),
        digest(DIGEST_HIGH, high),
        digest(DIGEST_LOW, low),
        fixed(
            MEMBERSHIP_BYTES,
            integer(stated_length(status.membership.as_deref())),
        ),
    ];
    if let Some(applied) = status.applied {
        records.push(fixed(TERM, integer(applied.term)));
    }
    records
}

/// The length of the membership plus one, or 0 for none: the record always exists, so that its
/// loss is noticed even if there are no pieces.
fn stated_length(membership: Option<&[u8]>) -> u64 {
    membership.map_or(0, |bytes| bytes.len() as u64 + 1)
}

fn membership_records(membership: &[u8]) -> Vec<Quad> {
    let mut records = Vec::new();
    for (number, chunk) in membership.chunks(PIECE_BYTES).enumerate() {
        let mut piece = [0; PIECE_BYTES];
        piece[..chunk.len()].copy_from_slice(chunk);
        records.push(record(
            numbered(number as u128),
            MEMBERSHIP_PIECE,
            numbered(u128::from_be_bytes(piece)),
        ));
    }
    records
}

/// Writes what differs between two states of the records.
pub(crate) fn write_changes(
    transaction: &mut Transaction<'_>,
    before: Option<&StateStatus>,
    after: &StateStatus,
) {
    let old = before.map(single_records).unwrap_or_default();
    replace(transaction, &old, &single_records(after));
    let membership_before = before.and_then(|status| status.membership.as_deref());
    if membership_before != after.membership.as_deref() {
        let records =
            |membership: Option<&[u8]>| membership.map(membership_records).unwrap_or_default();
        replace(
            transaction,
            &records(membership_before),
            &records(after.membership.as_deref()),
        );
    }
}

fn replace(transaction: &mut Transaction<'_>, old: &[Quad], new: &[Quad]) {
    let kept: HashSet<&Quad> = old.iter().collect();
    let added: Vec<&Quad> = new.iter().filter(|record| !kept.contains(record)).collect();
    let wanted: HashSet<&Quad> = new.iter().collect();
    for record in old.iter().filter(|record| !wanted.contains(record)) {
        transaction.remove(record);
    }
    for record in added {
        transaction.insert(record);
    }
}

/// Writes the requests that enter the table and removes those that leave it; returns how many
/// records changed.
pub(crate) fn write_requests(
    transaction: &mut Transaction<'_>,
    leaving: &Leaving,
    entering: &[Remembered],
) -> usize {
    let (gone, new) = requests::changes(&leaving.requests, &leaving.staying, entering);
    for record in &gone {
        transaction.remove(record);
    }
    for record in &new {
        transaction.insert(record);
    }
    gone.len() + new.len()
}

/// Whether this is the store in this state, which one record tells.
pub(crate) fn is_at(
    transaction: &Transaction<'_>,
    status: &StateStatus,
) -> Result<bool, StateError> {
    Ok(transaction.contains(&counts_record(status))?)
}

/// The single values and the membership, without the request table.
pub(crate) fn read_status(transaction: &Transaction<'_>) -> Result<StateStatus, StateError> {
    let graph = Some(GraphNameRef::NamedNode(RESERVED));
    status_of(|subject, predicate| transaction.quads_for_pattern(subject, predicate, None, graph))
}

/// The same of a store that nobody writes to.
pub(crate) fn status_of_store(store: &Store) -> Result<StateStatus, StateError> {
    let graph = Some(GraphNameRef::NamedNode(RESERVED));
    status_of(|subject, predicate| store.quads_for_pattern(subject, predicate, None, graph))
}

fn status_of<'a>(
    quads: impl Fn(Option<NamedOrBlankNodeRef<'a>>, Option<NamedNodeRef<'a>>) -> QuadIter<'a>,
) -> Result<StateStatus, StateError> {
    let mut reader = Reader::default();
    let others = [MEMBERSHIP_PIECE, COUNTS, DIGEST_HIGH, DIGEST_LOW];
    let others = others
        .into_iter()
        .flat_map(|predicate| quads(None, Some(predicate)));
    for quad in quads(Some(RESERVED.into()), None).chain(others) {
        reader.take(&quad?)?;
    }
    reader.status()
}

/// All records, checked to be complete and in order. `None` when there are none at all.
pub(crate) fn read_all(transaction: &Transaction<'_>) -> Result<Option<Records>, StateError> {
    let graph = GraphNameRef::NamedNode(RESERVED);
    let mut reader = Reader::default();
    let mut found = false;
    for quad in transaction.quads_for_pattern(None, None, None, Some(graph)) {
        reader.take(&quad?)?;
        found = true;
    }
    if !found {
        return Ok(None);
    }
    let status = reader.status()?;
    let requests = RequestTable::from_places(std::mem::take(&mut reader.requests))
        .ok_or_else(|| inconsistent("the request table has repeated or too many requests"))?;
    check(&status, &requests)?;
    Ok(Some(Records { status, requests }))
}

/// The relations that hold between the records of every state that was committed.
fn check(status: &StateStatus, requests: &RequestTable) -> Result<(), StateError> {
    let applied_index = status.applied.map_or(0, |applied| applied.index);
    if status.data_index > applied_index {
        return Err(inconsistent(format!(
            "data changed at entry {} but only {applied_index} is applied",
            status.data_index
        )));
    }
    if status.quads == 0 && status.digest != Digest::ZERO {
        return Err(inconsistent(
            "there are no quads but the digest is not zero",
        ));
    }
    if let Some((id, place)) = requests
        .iter()
        .find(|(_, place)| place.log_index() > status.data_index)
    {
        return Err(inconsistent(format!(
            "request {id} was applied by entry {} but data last changed at {}",
            place.log_index(),
            status.data_index
        )));
    }
    Ok(())
}

fn inconsistent(reason: impl Into<String>) -> StateError {
    StateError::Inconsistent(reason.into())
}

/// Two numbers of a record, and what it sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ordered {
    order: u64,
    first: u64,
    second: u64,
}

impl Ordered {
    fn of(quad: &Quad) -> Option<Self> {
        let (order, first) = halves(subject_number_of(quad)?);
        let (again, second) = halves(wide_number_of(&quad.object)?);
        (order == again).then_some(Self {
            order,
            first,
            second,
        })
    }

    fn number(self) -> u128 {
        u128::from(self.first) << 64 | u128::from(self.second)
    }
}

/// Collects records while they are read in any order.
#[derive(Debug, Default)]
struct Reader {
    format: Option<u64>,
    term: Option<u64>,
    counts: Option<Ordered>,
    digest_high: Option<Ordered>,
    digest_low: Option<Ordered>,
    membership_bytes: Option<u64>,
    pieces: Vec<(u128, u128)>,
    requests: Vec<Remembered>,
}

impl Reader {
    fn take(&mut self, quad: &Quad) -> Result<(), StateError> {
        let malformed = || inconsistent(format!("the record {quad} is malformed"));
        let predicate = quad.predicate.as_ref();
        if predicate == MEMBERSHIP_PIECE {
            let number = subject_number_of(quad);
            let piece = wide_number_of(&quad.object).ok_or_else(malformed)?;
            self.pieces.push((number.ok_or_else(malformed)?, piece));
            return Ok(());
        }
        if predicate == requests::REQUESTS {
            self.requests
                .extend(requests::read(quad).ok_or_else(malformed)?);
            // Few bytes may say many requests.
            return if self.requests.len() > REMEMBERED_REQUESTS {
                Err(inconsistent("there are too many requests"))
            } else {
                Ok(())
            };
        }
        let ordered = if predicate == COUNTS {
            Some(&mut self.counts)
        } else if predicate == DIGEST_HIGH {
            Some(&mut self.digest_high)
        } else if predicate == DIGEST_LOW {
            Some(&mut self.digest_low)
        } else {
            None
        };
        if let Some(place) = ordered {
            let record = Ordered::of(quad).ok_or_else(malformed)?;
            return fill(place, record, quad);
        }
        let place = match predicate {
            FORMAT => &mut self.format,
            TERM => &mut self.term,
            MEMBERSHIP_BYTES => &mut self.membership_bytes,
            _ => return Err(inconsistent(format!("the record {quad} is unknown"))),
        };
        let number = number_of(&quad.object).ok_or_else(malformed)?;
        fill(place, number, quad)
    }

    fn status(&mut self) -> Result<StateStatus, StateError> {
        let missing = |name: &str| inconsistent(format!("the record of the {name} is missing"));
        let format = self.format.ok_or_else(|| missing("format"))?;
        if format != FORMAT_VERSION {
            return Err(inconsistent(format!(
                "the records have format version {format}, this program reads version {FORMAT_VERSION}"
            )));
        }
        let counts = self.counts.ok_or_else(|| missing("counts"))?;
        let high = self.digest_high.ok_or_else(|| missing("digest"))?;
        let low = self.digest_low.ok_or_else(|| missing("digest"))?;
        if high.order != counts.order || low.order != counts.order {
            return Err(inconsistent("the records are of different states"));
        }
        let applied = match (self.term, counts.order.checked_sub(1)) {
            (Some(term), Some(index)) => Some(LogPosition { term, index }),
            (None, None) => None,
            _ => return Err(missing("other half of the applied position")),
        };
        Ok(StateStatus {
            applied,
            membership: self.membership()?,
            digest: Digest::from_halves(high.number(), low.number()),
            quads: counts.first,
            data_index: counts.second,
        })
    }

    fn membership(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        let stated = self
            .membership_bytes
            .ok_or_else(|| inconsistent("the record of the membership's length is missing"))?;
        let length = stated.saturating_sub(1);
        self.pieces.sort_unstable();
        let in_order = self
            .pieces
            .iter()
            .enumerate()
            .all(|(number, (place, _))| *place == number as u128);
        if !in_order || length.div_ceil(PIECE_BYTES as u64) != self.pieces.len() as u64 {
            return Err(inconsistent(
                "pieces of the membership are missing or repeated",
            ));
        }
        let mut bytes: Vec<u8> = self
            .pieces
            .iter()
            .flat_map(|(_, piece)| piece.to_be_bytes())
            .collect();
        let length = usize::try_from(length).unwrap_or(bytes.len());
        if bytes.drain(length..).any(|padding| padding != 0) {
            return Err(inconsistent("the membership is longer than its length"));
        }
        Ok((stated > 0).then_some(bytes))
    }
}

fn fill<T>(place: &mut Option<T>, value: T, quad: &Quad) -> Result<(), StateError> {
    if place.replace(value).is_some() {
        return Err(inconsistent(format!(
            "the record {} is repeated",
            quad.predicate
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use oxigraph::store::Store;
    use proptest::prelude::*;

    use super::*;
    use crate::state::request::{RequestId, RequestPlace};

    fn written(records: &Records) -> Store {
        let store = Store::new().unwrap();
        let mut transaction = store.start_transaction().unwrap();
        write_changes(&mut transaction, None, &records.status);
        let requests: Vec<_> = records.requests.iter().collect();
        write_requests(&mut transaction, &Leaving::default(), &requests);
        transaction.commit().unwrap();
        store
    }

    fn read(store: &Store) -> Result<Option<Records>, StateError> {
        read_all(&store.start_transaction().unwrap())
    }

    fn any_status() -> impl Strategy<Value = StateStatus> {
        (
            proptest::option::of((any::<u64>(), 0..u64::MAX)),
            any::<Option<Vec<u8>>>(),
            any::<[u8; 32]>(),
            1..u64::MAX,
        )
            .prop_map(|(applied, membership, digest, quads)| StateStatus {
                applied: applied.map(|(term, index)| LogPosition { term, index }),
                membership,
                digest: Digest::from_bytes(digest),
                quads,
                data_index: applied.map_or(0, |(_, index)| index),
            })
    }

    proptest! {
        #[test]
        fn records_are_read_back(before in any_status(), after in any_status()) {
            let store = written(&Records { status: before.clone(), requests: RequestTable::default() });
            let mut transaction = store.start_transaction().unwrap();
            prop_assert_eq!(&read_status(&transaction).unwrap(), &before);
            write_changes(&mut transaction, Some(&before), &after);
            transaction.commit().unwrap();
            let records = read(&store).unwrap().unwrap();
            prop_assert_eq!(&records.status, &after);
            let count = single_records(&after).len()
                + after.membership.as_deref().map_or(0, |bytes| membership_records(bytes).len());
            prop_assert_eq!(store.len().unwrap(), count);
        }

        #[test]
        fn what_changes_lies_behind_what_was_written_before(before in any_status(), after in any_status()) {
            let numbers = |status: &StateStatus| -> Vec<(u128, u128)> {
                single_records(status)
                    .iter()
                    .filter_map(|quad| Some((subject_number_of(quad)?, wide_number_of(&quad.object)?)))
                    .collect()
            };
            prop_assume!(before.applied.map(|applied| applied.index) < after.applied.map(|applied| applied.index));
            for (old, new) in numbers(&before).into_iter().zip(numbers(&after)) {
                prop_assert!(old.0 < new.0 && old.1 < new.1);
            }
        }

        #[test]
        fn a_missing_record_is_noticed(status in any_status(), victim: prop::sample::Index) {
            let store = written(&Records { status, requests: RequestTable::default() });
            let records: Vec<_> = store.iter().map(Result::unwrap).collect();
            store.remove(&records[victim.index(records.len())]).unwrap();
            prop_assert!(read(&store).is_err());
        }
    }

    fn small_records() -> Records {
        let place = |index| RequestPlace::new(index, 0).unwrap();
        let mut requests = RequestTable::default();
        requests.append(&[
            (RequestId([1; 16]), place(3)),
            (RequestId([2; 16]), place(5)),
        ]);
        Records {
            status: StateStatus {
                applied: Some(LogPosition { term: 2, index: 7 }),
                data_index: 5,
                membership: Some(vec![9; 40]),
                ..StateStatus::default()
            },
            requests,
        }
    }

    #[test]
    fn an_empty_store_has_no_records() {
        assert!(read(&Store::new().unwrap()).unwrap().is_none());
    }

    #[test]
    fn the_request_table_is_read_back_in_order() {
        let records = small_records();
        assert_eq!(read(&written(&records)).unwrap(), Some(records));
    }

    #[test]
    fn contradictions_between_records_are_noticed() {
        for (spoil, expected) in [
            (
                (|records: &mut Records| records.status.data_index = 8) as fn(&mut Records),
                "data changed at entry 8",
            ),
            (
                |records| records.status.digest = Digest::from_bytes([1; 32]),
                "the digest is not zero",
            ),
            (|records| records.status.data_index = 4, "request 0202"),
        ] {
            let mut records = small_records();
            spoil(&mut records);
            let error = read(&written(&records)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unknown_and_repeated_records_are_noticed() {
        let store = written(&small_records());
        store.insert(&fixed(RESERVED, integer(1))).unwrap();
        assert!(read(&store).unwrap_err().to_string().contains("unknown"));
        let store = written(&small_records());
        store.insert(&ordered_record(9, COUNTS, 1, 1)).unwrap();
        assert!(read(&store).unwrap_err().to_string().contains("repeated"));
        let records = small_records();
        let store = written(&records);
        store.remove(&counts_record(&records.status)).unwrap();
        store.insert(&ordered_record(9, COUNTS, 0, 5)).unwrap();
        let error = read(&store).unwrap_err().to_string();
        assert!(error.contains("different states"), "{error}");
    }
}
