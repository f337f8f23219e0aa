//! Tests of the state as a whole, on real folders.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::fs;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use oxigraph::store::Store;
use oxrdf::{GraphName, NamedOrBlankNode, Quad};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::effects::RESERVED;
use super::testing::{any_effects, common_quad, effects_of, example};
use super::*;
use crate::disk::Unthrottled;

fn opened() -> (TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("store")).unwrap();
    (folder, state)
}

fn reopened(folder: &TempDir, state: State) -> State {
    drop(state);
    State::open(&folder.path().join("store")).unwrap()
}

fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn number(quads: u32) -> Quad {
    let node = example(&format!("s{quads}"));
    Quad::new(node, example("p"), example("o"), GraphName::DefaultGraph)
}

fn quad_in(graph: &str, subject: &str) -> Quad {
    Quad::new(example(subject), example("p"), example("o"), example(graph))
}

fn inserting(quads: impl IntoIterator<Item = Quad>) -> Effects {
    Effects {
        inserts: quads.into_iter().collect(),
        ..Effects::default()
    }
}

fn command(base_index: u64, effects: Effects) -> Apply {
    Apply::Command(Command {
        base_index,
        requests: vec![(RequestId::unique(), effects)],
    })
}

fn apply_one(state: &State, effects: Effects) -> Outcome {
    let next = state.applied().map_or(1, |applied| applied.index + 1);
    let entry = command(state.data_index(), effects);
    state.apply(&[(at(next), entry)]).unwrap().remove(0)
}

fn user_quads(state: &State) -> Vec<Quad> {
    let mut quads: Vec<_> = state
        .view()
        .read()
        .unwrap()
        .quads()
        .map(Result::unwrap)
        .collect();
    quads.sort_by_key(ToString::to_string);
    quads
}

fn user_graphs(state: &State) -> Vec<String> {
    let mut graphs: Vec<_> = state
        .view()
        .read()
        .unwrap()
        .named_graphs()
        .map(|graph| graph.unwrap().to_string())
        .collect();
    graphs.sort();
    graphs
}

fn assert_consistent(state: &State) {
    let (digest, quads, applied) = state.recompute().unwrap();
    let status = state.status();
    assert_eq!(
        (digest, quads, applied),
        (status.digest, status.quads, status.applied)
    );
    state.store().validate().unwrap();
}

#[test]
fn a_new_state_is_empty_and_stays_so_when_reopened() {
    let (folder, state) = opened();
    assert_eq!(*state.status(), StateStatus::default());
    let state = reopened(&folder, state);
    assert_eq!(*state.status(), StateStatus::default());
    assert!(user_quads(&state).is_empty());
}

#[test]
fn what_was_applied_is_there_after_reopening() {
    let (folder, state) = opened();
    let entries = [
        (at(0), Apply::Membership(vec![1; 100])),
        (at(1), Apply::Blank),
        (at(2), command(0, inserting([number(1), number(2)]))),
    ];
    let outcomes = state.apply(&entries).unwrap();
    assert_eq!(outcomes[..2], [Outcome::Nothing, Outcome::Nothing]);
    let before = state.status();
    assert_eq!(before.quads, 2);
    assert_eq!(before.data_index, 2);
    let state = reopened(&folder, state);
    assert_eq!(state.status(), before);
    assert_eq!(state.membership(), Some(vec![1; 100]));
    assert_eq!(user_quads(&state), [number(1), number(2)]);
    assert_consistent(&state);
}

#[test]
fn a_command_evaluated_on_another_state_changes_nothing_but_the_position() {
    let (_folder, state) = opened();
    apply_one(&state, inserting([number(1)]));
    let before = state.status();
    let outcomes = state
        .apply(&[(at(2), command(0, inserting([number(2)])))])
        .unwrap();
    assert_eq!(outcomes, [Outcome::Conflict]);
    let expected = StateStatus {
        applied: Some(at(2)),
        ..(*before).clone()
    };
    assert_eq!(*state.status(), expected);
    assert_eq!(user_quads(&state), [number(1)]);
}

#[test]
fn a_request_is_applied_once_and_remembered() {
    let (folder, state) = opened();
    let id = RequestId::from_key("once");
    let again = |base_index| {
        Apply::Command(Command {
            base_index,
            requests: vec![(id, inserting([number(1)]))],
        })
    };
    assert_eq!(state.request_outcome(id), None);
    let outcomes = state
        .apply(&[(at(1), again(0)), (at(2), again(1))])
        .unwrap();
    let applied = RequestOutcome {
        log_index: 1,
        duplicate: false,
    };
    assert_eq!(
        outcomes,
        [Outcome::Applied(vec![applied]), Outcome::Conflict]
    );
    let state = reopened(&folder, state);
    let remembered = RequestOutcome {
        log_index: 1,
        duplicate: true,
    };
    assert_eq!(state.request_outcome(id), Some((id, remembered)));
    let outcomes = state.apply(&[(at(3), again(1))]).unwrap();
    assert_eq!(outcomes, [Outcome::Conflict]);
}

#[test]
fn a_key_is_given_to_one_request_whatever_that_asks_for() {
    let (_folder, state) = opened();
    let id = |content: u8| RequestId::of_key("key", &[content; 32]);
    let command = |base_index, content| {
        Apply::Command(Command {
            base_index,
            requests: vec![(id(content), inserting([number(u32::from(content))]))],
        })
    };
    let outcomes = state
        .apply(&[(at(1), command(0, 1)), (at(2), command(1, 2))])
        .unwrap();
    assert!(matches!(outcomes[0], Outcome::Applied(_)));
    assert_eq!(outcomes[1], Outcome::Conflict);
    assert_eq!(user_quads(&state), [number(1)]);
    let (applied, _) = state.request_outcome(id(2)).unwrap();
    assert_eq!(applied, id(1));
}

/// The time of the fastest of some readings, which are not slowed down by anything else.
fn reading_time(state: &State) -> std::time::Duration {
    let view = state.view();
    (0..50)
        .map(|_| {
            let started = std::time::Instant::now();
            drop(view.read().unwrap());
            started.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn a_reading_takes_no_longer_after_thousands_of_commits() {
    let (_folder, state) = opened();
    apply_one(&state, inserting([number(0)]));
    let before = reading_time(&state);
    for round in 1..3000 {
        apply_one(&state, inserting([number(round)]));
    }
    let after = reading_time(&state);
    // Looking through all records, it took two hundred times as long.
    assert!(
        after < before * 10,
        "{before:?} for a reading at first, {after:?} in the end"
    );
}

#[test]
fn what_is_kept_in_memory_is_flushed_when_it_is_much() {
    let (folder, state) = opened();
    // Bytes and not files: the store joins small tables whenever it likes.
    let bytes_in_tables = || {
        let files = fs::read_dir(folder.path().join("store/generation-0000000001")).unwrap();
        files
            .filter_map(|file| {
                let path = file.unwrap().path();
                // A table that was joined to others may be gone by now.
                (path.extension()? == "sst")
                    .then(|| fs::metadata(path).ok())
                    .flatten()
            })
            .map(|metadata| metadata.len())
            .sum::<u64>()
    };
    // What 33,000 quads take is ten times more.
    let little = bytes_in_tables() + 50_000;
    apply_one(&state, inserting((0..30_000).map(number)));
    assert!(!state.is_flush_due());
    apply_one(&state, inserting((30_000..33_000).map(number)));
    assert!(state.is_flush_due());
    assert!(bytes_in_tables() < little);
    state.flush_in_turn().unwrap();
    assert!(!state.is_flush_due());
    assert!(bytes_in_tables() > little);
    // A store of so many quads is not written anew for each few.
    apply_one(&state, inserting((33_000..300_000).map(number)));
    state.flush_in_turn().unwrap();
    apply_one(&state, inserting((300_000..333_000).map(number)));
    assert!(!state.is_flush_due());
}

/// RocksDB may let one of two that flush at once wait until something else is flushed
/// (facebook/rocksdb issue 12094).
#[test]
fn a_snapshot_and_a_scrub_at_once_never_wait_for_ever() {
    let (_folder, state) = opened();
    let state = Arc::new(state);
    let (sender, done) = std::sync::mpsc::channel();
    for round in 0..200 {
        apply_one(&state, inserting([number(2 * round)]));
        let together = Arc::new(Barrier::new(3));
        for what in 0..3 {
            let (state, sender, together) = (state.clone(), sender.clone(), together.clone());
            std::thread::spawn(move || {
                together.wait();
                let whole = match what {
                    0 => state.flush().is_ok(),
                    1 => matches!(
                        state.scrub(&mut Unthrottled, &mut |_, _| {}),
                        Ok(StoreScrub::Whole { .. })
                    ),
                    _ => {
                        apply_one(&state, inserting([number(2 * round + 1)]));
                        true
                    }
                };
                sender.send(whole).unwrap();
            });
        }
        for _ in 0..3 {
            let ended = done.recv_timeout(Duration::from_secs(60));
            assert_eq!(ended, Ok(true), "in round {round}");
        }
    }
}

#[test]
fn a_command_with_the_same_request_twice_is_a_conflict() {
    let (_folder, state) = opened();
    let id = RequestId::unique();
    let entry = Apply::Command(Command {
        base_index: 0,
        requests: vec![(id, inserting([number(1)])), (id, inserting([number(2)]))],
    });
    assert_eq!(state.apply(&[(at(1), entry)]).unwrap(), [Outcome::Conflict]);
    assert_eq!(state.quads(), 0);
}

#[test]
fn the_oldest_requests_are_forgotten_alike_in_batches_and_one_by_one() {
    let requests = REMEMBERED_REQUESTS as u64 + 10;
    let id = |index: u64| RequestId::from_key(&index.to_string());
    let entry = |index: u64, base_index: u64, name: u64| {
        let command = Command {
            base_index,
            requests: vec![(id(name), Effects::default())],
        };
        (at(index), Apply::Command(command))
    };
    let mut entries: Vec<_> = (1..=requests)
        .map(|index| entry(index, index - 1, index))
        .collect();
    // The first is forgotten by now and may come again; the last but one may not.
    entries.push(entry(requests + 1, requests, 1));
    entries.push(entry(requests + 2, requests + 1, requests - 1));
    let (folder, state) = opened();
    let outcomes = state.apply(&entries).unwrap();
    assert!(matches!(outcomes[entries.len() - 2], Outcome::Applied(_)));
    assert_eq!(outcomes[entries.len() - 1], Outcome::Conflict);
    let (_other_folder, other) = opened();
    let mut others = Vec::new();
    for batch in entries.chunks(1000) {
        others.extend(other.apply(batch).unwrap());
    }
    assert_eq!(outcomes, others);
    assert_eq!(state.status(), other.status());
    let state = reopened(&folder, state);
    assert_eq!(state.request_outcome(id(5)), None);
    assert_eq!(
        state.request_outcome(id(1)).unwrap().1.log_index,
        requests + 1
    );
    assert_eq!(
        state.request_outcome(id(requests)).unwrap().1.log_index,
        requests
    );
}

#[test]
fn entries_out_of_order_are_refused_and_change_nothing() {
    let (_folder, state) = opened();
    state.apply(&[(at(7), Apply::Blank)]).unwrap();
    let before = state.status();
    let older_term = LogPosition { term: 0, index: 8 };
    for position in [at(7), at(6), at(9), older_term] {
        let entries = [(position, command(0, inserting([number(1)])))];
        assert!(matches!(
            state.apply(&entries),
            Err(StateError::OutOfOrder { .. })
        ));
    }
    let half_wrong = [
        (at(8), command(0, inserting([number(1)]))),
        (at(8), Apply::Blank),
    ];
    assert!(state.apply(&half_wrong).is_err());
    assert_eq!(state.status(), before);
    assert!(user_quads(&state).is_empty());
    state.apply(&[(at(8), Apply::Blank)]).unwrap();
}

#[test]
fn repeated_quads_count_once() {
    let (_folder, state) = opened();
    apply_one(&state, inserting([number(1), number(1), number(2)]));
    assert_eq!(state.quads(), 2);
    let first = state.digest();
    apply_one(
        &state,
        Effects {
            deletes: vec![number(2), number(2), number(3)],
            inserts: vec![number(1), number(2), number(2)],
            ..Effects::default()
        },
    );
    assert_eq!(state.digest(), first);
    assert_consistent(&state);
}

#[test]
fn empty_graphs_are_part_of_the_state() {
    let (folder, state) = opened();
    apply_one(
        &state,
        Effects {
            created_graphs: vec![example("empty").into()],
            inserts: vec![quad_in("full", "a"), quad_in("emptied", "a")],
            ..Effects::default()
        },
    );
    apply_one(
        &state,
        Effects {
            deletes: vec![quad_in("emptied", "a")],
            ..Effects::default()
        },
    );
    let all = [
        "<http://example.com/emptied>",
        "<http://example.com/empty>",
        "<http://example.com/full>",
    ];
    assert_eq!(user_graphs(&state), all);
    let state = reopened(&folder, state);
    assert_eq!(user_graphs(&state), all);
    let snapshot = snapshot_of(&state);
    let (_other_folder, other) = opened();
    other.install_snapshot(&mut Cursor::new(&snapshot)).unwrap();
    assert_eq!(user_graphs(&other), all);
    apply_one(
        &other,
        Effects {
            dropped_graphs: vec![example("full").into(), example("empty").into()],
            ..Effects::default()
        },
    );
    assert_eq!(user_graphs(&other), all[..1]);
    assert_eq!((other.quads(), other.digest()), (0, Digest::ZERO));
    assert_consistent(&other);
}

#[test]
fn effects_on_the_reserved_graph_are_a_conflict() {
    let (_folder, state) = opened();
    apply_one(&state, inserting([number(1)]));
    let effects = Effects {
        dropped_graphs: vec![RESERVED.into_owned().into()],
        ..Effects::default()
    };
    assert_eq!(apply_one(&state, effects), Outcome::Conflict);
    assert_consistent(&state);
}

#[test]
fn recent_digests_are_known_by_index() {
    let (_folder, state) = opened();
    let mut expected = Vec::new();
    for quad in 1..20 {
        apply_one(&state, inserting([number(quad)]));
        expected.push((u64::from(quad), state.digest()));
    }
    for (index, digest) in expected {
        assert_eq!(state.digest_at(index), Some(digest));
    }
    assert_eq!(state.digest_at(20), None);
    assert_eq!(state.digest_at(0), None);
}

#[test]
fn damage_to_the_store_is_noticed_when_it_is_opened() {
    type Damage = fn(&Store);
    let damages: [(Damage, &str); 4] = [
        (
            |store| store.remove_named_graph(RESERVED).unwrap(),
            "none of its own records",
        ),
        (
            |store| {
                let record = store
                    .quads_for_pattern(None, None, None, Some(RESERVED.into()))
                    .next()
                    .unwrap()
                    .unwrap();
                store.remove(&record).unwrap();
            },
            "missing",
        ),
        (
            |store| store.remove(&number(1)).unwrap(),
            "the records speak of 1 quads, but the store has none",
        ),
        (
            |store| {
                let foreign = Quad::new(example("a"), example("b"), example("c"), RESERVED);
                store.insert(&foreign).unwrap();
            },
            "unknown",
        ),
    ];
    for (damage, expected) in damages {
        let (folder, state) = opened();
        apply_one(&state, inserting([number(1)]));
        drop(state);
        let path = folder.path().join("store");
        damage(&Store::open(folder::generation_path(&path, 1)).unwrap());
        let error = State::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn lost_quads_are_noticed_by_recomputing_and_never_written_to_a_snapshot() {
    let (folder, state) = opened();
    apply_one(&state, inserting([number(1), number(2)]));
    drop(state);
    let path = folder.path().join("store");
    Store::open(folder::generation_path(&path, 1))
        .unwrap()
        .remove(&number(2))
        .unwrap();
    let state = State::open(&path).unwrap();
    let (digest, quads, _) = state.recompute().unwrap();
    assert_ne!(digest, state.digest());
    assert_eq!((quads, state.quads()), (1, 2));
    assert!(state.write_snapshot(&mut Vec::new()).is_err());
}

fn snapshot_of(state: &State) -> Vec<u8> {
    let mut snapshot = Vec::new();
    let summary = state.write_snapshot(&mut snapshot).unwrap();
    assert_eq!(summary.bytes, snapshot.len() as u64);
    assert_eq!(verify_snapshot(&mut snapshot.as_slice()).unwrap(), summary);
    let header = read_snapshot_summary(&mut snapshot.as_slice()).unwrap();
    assert_eq!(header.status, summary.status);
    snapshot
}

fn small_state() -> (TempDir, State) {
    let (folder, state) = opened();
    state
        .apply(&[(at(0), Apply::Membership(b"three members".to_vec()))])
        .unwrap();
    apply_one(&state, inserting([number(1), number(2), quad_in("g", "a")]));
    apply_one(&state, inserting([number(3)]));
    (folder, state)
}

#[test]
fn every_changed_or_missing_byte_of_a_snapshot_is_noticed() {
    let (_folder, state) = small_state();
    let snapshot = snapshot_of(&state);
    for place in 0..snapshot.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = snapshot.clone();
            damaged[place] ^= change;
            assert!(
                verify_snapshot(&mut damaged.as_slice()).is_err(),
                "byte {place} changed by {change:#x}"
            );
        }
        assert!(
            verify_snapshot(&mut &snapshot[..place]).is_err(),
            "cut at {place}"
        );
    }
    let mut longer = snapshot;
    longer.push(0);
    assert!(verify_snapshot(&mut longer.as_slice()).is_err());
}

#[test]
fn a_damaged_snapshot_is_not_installed() {
    let (folder, state) = small_state();
    let mut snapshot = snapshot_of(&state);
    apply_one(&state, inserting([number(4)]));
    let before = (state.status(), user_quads(&state));
    let last = snapshot.len() - 1;
    snapshot[last] ^= 1;
    assert!(state.install_snapshot(&mut Cursor::new(&snapshot)).is_err());
    assert_eq!((state.status(), user_quads(&state)), before);
    let state = reopened(&folder, state);
    assert_eq!((state.status(), user_quads(&state)), before);
}

#[test]
fn a_crash_before_a_snapshot_is_in_force_leaves_the_old_content() {
    let (folder, state) = small_state();
    let before = (state.status(), user_quads(&state));
    drop(state);
    let path = folder.path().join("store");
    // As if the process had died while it built the next generation.
    let building = folder::start_building(&path).unwrap();
    drop(Store::open(&building).unwrap());
    let state = State::open(&path).unwrap();
    assert_eq!((state.status(), user_quads(&state)), before);
    assert!(!building.exists());
}

#[test]
fn a_reader_keeps_its_state_while_a_snapshot_is_installed() {
    let (folder, state) = small_state();
    let (_other_folder, other) = opened();
    apply_one(&other, inserting([number(9)]));
    let view = state.view();
    let reading = view.read().unwrap();
    let first_folder = folder::generation_path(&folder.path().join("store"), 1);
    state
        .install_snapshot(&mut Cursor::new(snapshot_of(&other)))
        .unwrap();
    assert_eq!(user_quads(&state), [number(9)]);
    assert_eq!(reading.quads().count(), 4);
    assert_eq!(reading.status().quads, 4);
    assert!(first_folder.exists());
    drop(reading);
    drop(view);
    assert!(!first_folder.exists());
    apply_one(&state, inserting([number(10)]));
    let state = reopened(&folder, state);
    assert_eq!(state.quads(), 2);
    assert_consistent(&state);
}

#[test]
fn restoring_takes_the_quads_and_nothing_else() {
    let (_folder, state) = small_state();
    let (folder, restored) = opened();
    let membership = Some(b"alone".to_vec());
    restored
        .restore_snapshot(
            &mut Cursor::new(snapshot_of(&state)),
            Some(at(1)),
            membership.clone(),
        )
        .unwrap();
    let restored = reopened(&folder, restored);
    let expected = StateStatus {
        applied: Some(at(1)),
        membership,
        data_index: 1,
        ..(*state.status()).clone()
    };
    assert_eq!(*restored.status(), expected);
    assert_eq!(user_quads(&restored), user_quads(&state));
    apply_one(&restored, inserting([number(7)]));
    assert_consistent(&restored);
}

#[test]
fn views_are_consistent_while_entries_are_applied() {
    let (_folder, state) = opened();
    let state = Arc::new(state);
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (state, done) = (Arc::clone(&state), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut looks = 0;
            while !done.load(Ordering::Acquire) || looks == 0 {
                let view = state.view();
                let reading = view.read().unwrap();
                assert!(reading.status().applied >= view.status().applied);
                assert_eq!(reading.quads().count() as u64, reading.status().quads);
                // Each entry adds three quads and takes one.
                assert_eq!(reading.status().quads, 2 * reading.status().data_index);
                let mut snapshot = Vec::new();
                state.write_snapshot(&mut snapshot).unwrap();
                verify_snapshot(&mut snapshot.as_slice()).unwrap();
                looks += 1;
            }
        })
    };
    for round in 1..100 {
        let effects = Effects {
            deletes: vec![number(round * 10 - 10)],
            inserts: vec![
                number(round * 10),
                number(round * 10 + 1),
                number(round * 10 + 2),
            ],
            ..Effects::default()
        };
        let effects = if round == 1 {
            inserting([number(10), number(11)])
        } else {
            effects
        };
        apply_one(&state, effects);
    }
    done.store(true, Ordering::Release);
    reader.join().unwrap();
}

#[test]
fn ten_thousand_quads_are_applied_in_well_under_a_second() {
    let (_folder, state) = opened();
    let effects = inserting((0..10_000).map(|quad| quad_in("g", &format!("subject{quad}"))));
    // Processor time of this thread: the machine may be busy with something else.
    let processor_nanoseconds = || -> u64 {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        statistics.split(' ').next().unwrap().parse().unwrap()
    };
    let start = processor_nanoseconds();
    apply_one(&state, effects);
    let passed = processor_nanoseconds() - start;
    assert_eq!(state.quads(), 10_000);
    assert!(passed < 1_000_000_000, "{passed} ns");
}

fn entries(count: usize) -> impl Strategy<Value = Vec<(LogPosition, Apply)>> {
    let entry = prop_oneof![
        6 => effects_of(common_quad()).prop_map(|effects| command(0, effects)),
        2 => any_effects().prop_map(|effects| command(0, effects)),
        1 => vec(any::<u8>(), 0..60).prop_map(Apply::Membership),
        1 => Just(Apply::Blank),
    ];
    vec((entry, 0..10_u8), 0..count).prop_map(|entries| {
        let mut data_index = 0;
        let numbered = entries.into_iter().zip(1..);
        numbered
            .map(|((mut entry, luck), index)| {
                if let Apply::Command(command) = &mut entry {
                    command.base_index = data_index;
                    if luck == 0 {
                        command.base_index += 1;
                    } else {
                        data_index = index;
                    }
                }
                (at(index), entry)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn batches_of_any_size_lead_to_the_same_state(entries in entries(14), size in 1..6_usize) {
        let (folder, one_by_one) = opened();
        let (_batched_folder, batched) = opened();
        let mut outcomes = Vec::new();
        for entry in &entries {
            outcomes.extend(one_by_one.apply(std::slice::from_ref(entry)).unwrap());
        }
        let mut batched_outcomes = Vec::new();
        for batch in entries.chunks(size) {
            batched_outcomes.extend(batched.apply(batch).unwrap());
        }
        prop_assert_eq!(outcomes, batched_outcomes);
        prop_assert_eq!(one_by_one.status(), batched.status());
        for (position, _) in &entries {
            prop_assert_eq!(one_by_one.digest_at(position.index), batched.digest_at(position.index));
        }
        prop_assert_eq!(user_quads(&one_by_one), user_quads(&batched));
        prop_assert_eq!(user_graphs(&one_by_one), user_graphs(&batched));
        assert_consistent(&one_by_one);
        assert_consistent(&batched);
        let status = one_by_one.status();
        let opened_again = reopened(&folder, one_by_one);
        prop_assert_eq!(opened_again.status(), status);
    }

    #[test]
    fn an_installed_snapshot_is_the_state_it_was_taken_from(entries in entries(10), before in entries(4)) {
        let (_folder, state) = opened();
        state.apply(&entries).unwrap();
        let (folder, installed) = opened();
        installed.apply(&before).unwrap();
        let snapshot = snapshot_of(&state);
        installed.install_snapshot(&mut Cursor::new(&snapshot)).unwrap();
        let installed = reopened(&folder, installed);
        prop_assert_eq!(installed.status(), state.status());
        prop_assert_eq!(user_quads(&installed), user_quads(&state));
        prop_assert_eq!(user_graphs(&installed), user_graphs(&state));
        for (_, entry) in &entries {
            if let Apply::Command(command) = entry {
                for (id, _) in &command.requests {
                    prop_assert_eq!(installed.request_outcome(*id), state.request_outcome(*id));
                }
            }
        }
        prop_assert_eq!(snapshot_of(&installed), snapshot);
        assert_consistent(&installed);
    }

    #[test]
    fn arbitrary_bytes_are_never_a_snapshot(bytes: Vec<u8>) {
        prop_assert!(verify_snapshot(&mut bytes.as_slice()).is_err());
        let mut prefixed = b"QDFSNAP\n\x01\0\0\0".to_vec();
        prefixed.extend(bytes);
        prop_assert!(verify_snapshot(&mut prefixed.as_slice()).is_err());
    }
}

#[test]
fn blank_nodes_name_graphs_too() {
    let (_folder, state) = opened();
    let name = oxrdf::BlankNode::new_from_unique_id(1);
    let quad = Quad::new(example("a"), example("p"), example("o"), name.clone());
    apply_one(&state, inserting([quad]));
    assert_eq!(user_graphs(&state), ["_:1"]);
    let graph = NamedOrBlankNode::from(name);
    apply_one(
        &state,
        Effects {
            dropped_graphs: vec![graph.into()],
            ..Effects::default()
        },
    );
    assert!(user_graphs(&state).is_empty());
    assert_consistent(&state);
}

/// Written by the first version; every later one must read it.
const OLD_SNAPSHOT: &[u8] = include_bytes!("fixtures/snapshot-1.bin");

#[test]
fn the_snapshot_of_the_first_version_can_still_be_installed() {
    let summary = verify_snapshot(&mut &OLD_SNAPSHOT[..]).unwrap();
    assert_eq!((summary.graphs, summary.requests), (2, 2));
    let (_folder, state) = opened();
    state
        .install_snapshot(&mut Cursor::new(OLD_SNAPSHOT))
        .unwrap();
    let (_other_folder, expected) = fixture_state();
    assert_eq!(state.status(), expected.status());
    assert_eq!(user_quads(&state), user_quads(&expected));
    assert_eq!(user_graphs(&state), user_graphs(&expected));
    assert_eq!(snapshot_of(&state), OLD_SNAPSHOT);
}

fn fixture_state() -> (TempDir, State) {
    let (folder, state) = opened();
    let literal = |literal: oxrdf::Literal| {
        Quad::new(
            oxrdf::BlankNode::new_from_unique_id(7),
            example("p"),
            literal,
            example("g"),
        )
    };
    let effects = inserting([
        number(1),
        number(2),
        literal("plain".into()),
        literal(oxrdf::Literal::new_language_tagged_literal("deutsch", "de").unwrap()),
        literal(5.into()),
        literal(oxrdf::Literal::new_typed_literal("x", example("type"))),
    ]);
    let request = |base_index, key, effects| {
        Apply::Command(Command {
            base_index,
            requests: vec![(RequestId::from_key(key), effects)],
        })
    };
    let created = Effects {
        created_graphs: vec![example("empty").into()],
        ..Effects::default()
    };
    state
        .apply(&[
            (at(1), Apply::Membership(b"members".to_vec())),
            (at(2), request(0, "first", effects)),
            (at(3), request(2, "second", created)),
        ])
        .unwrap();
    (folder, state)
}
