//! Fuzzing of what the state reads: entries, snapshots, its own records.

#![allow(clippy::expect_used)]

use std::io::Cursor;

use oxigraph::store::Store;
use oxrdf::{BlankNode, Literal, NamedNode, NamedOrBlankNode, Quad, Term};

use super::request::Leaving;
use super::snapshot::fuzzing::framed;
use super::{Apply, Command, LogPosition, RESERVED_GRAPH, State, records, verify_snapshot};
use crate::fuzzing::Input;

/// A command: a byte that says whether it is also applied, and the command.
///
/// What is read is, written and read again, the same; applied, it keeps the digest and never changes
/// the reserved graph.
pub fn command(data: &[u8]) {
    let mut input = Input::new(data);
    let apply = input.byte() & 1 != 0;
    let Ok(command) = Command::decode(input.rest()) else {
        return;
    };
    let encoded = command.encode();
    assert_eq!(Command::decode(&encoded).as_ref(), Ok(&command));
    if apply {
        let state = State::in_memory().expect("an empty store opens");
        let position = LogPosition { term: 1, index: 1 };
        let base = Command {
            base_index: 0,
            ..command
        };
        state
            .apply(&[(position, Apply::Command(base))])
            .expect("what was agreed upon is applied");
        check_state(&state);
    }
}

/// The digest that is kept is that of the data, and a snapshot of the state can be installed.
fn check_state(state: &State) {
    let (digest, quads, applied) = state.recompute().expect("the store can be read");
    let status = state.status();
    assert_eq!(
        (digest, quads, applied),
        (status.digest, status.quads, status.applied)
    );
    let mut bytes = Vec::new();
    let written = state
        .write_snapshot(&mut bytes)
        .expect("a snapshot of a whole state is written");
    let read = verify_snapshot(&mut bytes.as_slice()).expect("a snapshot that was written is good");
    assert_eq!(read, written);
}

/// A snapshot: a byte that says whether the checksums of its frames are made to match, and its bytes;
/// in the first case frames without checksums, each its kind and its length in two bytes before it.
///
/// What verifies can be installed, has then the state that it says, and is written again as such.
pub fn snapshot(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes = if input.byte() & 1 == 0 {
        input.rest().to_vec()
    } else {
        framed(input)
    };
    let summary = super::read_snapshot_summary(&mut bytes.as_slice());
    let Ok(verified) = verify_snapshot(&mut bytes.as_slice()) else {
        return;
    };
    let summary = summary.expect("the beginning of a good snapshot is good");
    assert_eq!(summary.status, verified.status);
    let state = State::in_memory().expect("an empty store opens");
    // A snapshot may have the same quad twice, which only the store notices.
    if state.install_snapshot(&mut Cursor::new(&bytes)).is_ok() {
        assert_eq!(*state.status(), verified.status);
        check_state(&state);
    }
}

/// The store's own records: quads of the reserved graph, each a byte for subject and predicate and
/// then numbers.
///
const RECORD_NAMES: [&str; 9] = [
    "format",
    "appliedTerm",
    "counts",
    "digestHigh",
    "digestLow",
    "membershipBytes",
    "membershipPiece",
    "requests",
    "unknown",
];

/// A store with the records that the bytes say.
fn store_of(data: &[u8]) -> Store {
    let store = Store::new().expect("an empty store opens");
    let mut input = Input::new(data);
    let reserved = NamedNode::new_unchecked(RESERVED_GRAPH);
    let mut transaction = store.start_transaction().expect("a transaction");
    while !input.is_empty() {
        let kinds = input.byte();
        let name = RECORD_NAMES[usize::from(kinds) % RECORD_NAMES.len()];
        let subject: NamedOrBlankNode = if kinds & 0x80 == 0 {
            reserved.clone().into()
        } else {
            BlankNode::new_from_unique_id(input.wide()).into()
        };
        let object: Term = match kinds / 9 % 3 {
            0 => Literal::from(input.long().cast_signed()).into(),
            1 => BlankNode::new_from_unique_id(input.wide()).into(),
            _ => Literal::new_simple_literal(String::from_utf8_lossy(input.take(8))).into(),
        };
        let predicate = NamedNode::new_unchecked(format!("{RESERVED_GRAPH}:{name}"));
        transaction.insert(&Quad::new(subject, predicate, object, reserved.clone()));
    }
    transaction.commit().expect("a commit in memory");
    store
}

/// Bytes that say a whole set of records, as they are after entry 9.
#[cfg(test)]
pub(crate) fn records_seed() -> Vec<u8> {
    let kinds = |name: &str, is_ordered: bool| -> u8 {
        (0..=u8::MAX)
            .find(|kinds| {
                RECORD_NAMES[usize::from(*kinds) % RECORD_NAMES.len()] == name
                    && kinds / 9 % 3 == u8::from(is_ordered)
                    && (kinds & 0x80 != 0) == is_ordered
            })
            .expect("every kind of record has a byte")
    };
    let mut bytes = Vec::new();
    for (name, value) in [
        ("format", 3_u64),
        ("appliedTerm", 2),
        ("membershipBytes", 4),
    ] {
        bytes.push(kinds(name, false));
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    let piece = u128::from_be_bytes(*b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let ordered = |order: u64, value: u128| u128::from(order) << 64 | value;
    // Two requests of entry 5.
    let run = 5 << 32 | 1 << 16;
    for (name, subject, object) in [
        ("counts", ordered(10, 4), ordered(10, 7)),
        ("digestHigh", ordered(10, 1), ordered(10, 2)),
        ("digestLow", ordered(10, 3), ordered(10, 4)),
        ("membershipPiece", 0, piece),
        ("requests", ordered(5 << 16, 7), ordered(run, 9)),
    ] {
        bytes.push(kinds(name, true));
        bytes.extend_from_slice(&subject.to_le_bytes());
        bytes.extend_from_slice(&object.to_le_bytes());
    }
    bytes
}

/// Records that are read are in order, and what is written of them is read again.
pub fn store_records(data: &[u8]) {
    let store = store_of(data);
    let transaction = store.start_transaction().expect("a transaction");
    let Ok(Some(read)) = records::read_all(&transaction) else {
        return;
    };
    assert!(read.status.data_index <= read.status.applied.map_or(0, |applied| applied.index));
    let copy = Store::new().expect("an empty store opens");
    let mut writing = copy.start_transaction().expect("a transaction");
    records::write_changes(&mut writing, None, &read.status);
    let requests: Vec<_> = read.requests.iter().collect();
    records::write_requests(&mut writing, &Leaving::default(), &requests);
    writing.commit().expect("a commit in memory");
    let reading = copy.start_transaction().expect("a transaction");
    assert_eq!(
        records::read_all(&reading).expect("what was written is read"),
        Some(read)
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Otherwise the target would refuse everything, and try nothing.
    #[test]
    fn the_seed_of_the_records_is_read() {
        let store = store_of(&records_seed());
        let transaction = store.start_transaction().unwrap();
        let records = records::read_all(&transaction).unwrap().unwrap();
        assert_eq!(records.requests.len(), 2);
        assert_eq!(records.status.membership, Some(b"abc".to_vec()));
    }
}
