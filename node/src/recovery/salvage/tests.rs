#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oxrdf::{GraphName, Literal, NamedNode, Quad};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::disk::RealFileSystem;
use crate::entry::{Content, example_membership};
use crate::identity::{StoredVote, VoteFile};
use crate::log::{LogOptions, RecordKind};
use crate::position::LogPosition;
use crate::recovery::{OpenOptions, StorePlace, open_volume};
use crate::state::{Command, Effects, RequestId};

const LAST: u64 = 11;

const fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

/// How a volume is made.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    /// The last entry that the store has applied; none when it is to be empty.
    applied: Option<u64>,
    /// The entry up to which there is a snapshot.
    snapshot: Option<u64>,
    purged: bool,
    /// The last entry that the log is known to have committed.
    committed: u64,
    voters: u64,
}

const WHOLE: Recipe = Recipe {
    applied: Some(LAST),
    snapshot: Some(4),
    purged: false,
    committed: LAST,
    voters: 1,
};

/// Every entry adds a quad, and every third takes away the one before.
fn effects(index: u64) -> Effects {
    let quad = |index: u64| {
        let node = |name: String| NamedNode::new(format!("http://example.com/{name}")).unwrap();
        let value = format!("value {index} {}", "of some length ".repeat(60));
        let graph = if index.is_multiple_of(2) {
            GraphName::DefaultGraph
        } else {
            node("graph".into()).into()
        };
        Quad::new(
            node(format!("s{index}")),
            node("p".into()),
            Literal::new_simple_literal(value),
            graph,
        )
    };
    let deletes = (index.is_multiple_of(3) && index > 2).then(|| quad(index - 1));
    Effects {
        deletes: deletes.into_iter().collect(),
        inserts: vec![quad(index)],
        ..Effects::default()
    }
}

fn expected(applied: u64) -> BTreeSet<String> {
    let mut quads = BTreeSet::new();
    for index in 1..=applied {
        let effects = effects(index);
        for quad in &effects.deletes {
            quads.remove(&quad.to_string());
        }
        quads.extend(effects.inserts.iter().map(ToString::to_string));
    }
    quads
}

fn payload(index: u64, own: u64, voters: u64) -> Bytes {
    if index == 0 {
        let members: Vec<u64> = (own..own + voters).collect();
        let membership = example_membership(&[&members], &members);
        return Content::Membership(membership).encode();
    }
    let command = Command {
        base_index: index - 1,
        requests: vec![(RequestId::from_key(&index.to_string()), effects(index))],
    };
    Content::Command(command.encode().into()).encode()
}

fn volume(recipe: Recipe) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let options = OpenOptions {
        data: folder.path().to_owned(),
        cluster_uuid: Some(uuid::Uuid::from_u128(7)),
        log: LogOptions {
            segment_bytes: 64 * 1024,
        },
        store: StorePlace::Volume,
        lets_go_of_applied: false,
    };
    let (mut volume, _) = open_volume(&file_system, &options).unwrap();
    let own = volume.superblock.current().node_id;
    volume.log.files.begin(&volume.log.contents).unwrap();
    volume.vote.begin().unwrap();
    volume
        .vote
        .save(StoredVote {
            term: 1,
            candidate: own,
            committed: true,
        })
        .unwrap();
    volume
        .superblock
        .update(|superblock| superblock.made_promises = true)
        .unwrap();
    let mut append = |kind, index, payload: &[u8]| {
        let log = &mut volume.log;
        let record = (kind, at(index), payload);
        let location = log.files.append(&[record], &log.contents).unwrap()[0];
        log.contents.apply(kind, location).unwrap();
    };
    let payloads: Vec<_> = (0..=LAST)
        .map(|index| payload(index, own.0, recipe.voters))
        .collect();
    for (index, payload) in (0..).zip(&payloads) {
        append(RecordKind::Entry, index, payload);
    }
    append(RecordKind::Committed, recipe.committed, b"");
    for (index, payload) in (0..).zip(&payloads) {
        if recipe.applied.is_some_and(|applied| index <= applied) {
            let content = Content::decode(payload).unwrap();
            let apply = content.into_apply(at(index)).unwrap();
            volume.state.apply(&[(at(index), apply)]).unwrap();
        }
        if recipe.snapshot == Some(index) {
            volume.snapshots.build(&volume.state).unwrap();
        }
    }
    if let Some(snapshot) = recipe.snapshot.filter(|_| recipe.purged) {
        append(RecordKind::Purged, snapshot, b"");
    }
    volume.log.files.flush_mark().unwrap();
    volume.state.flush().unwrap();
    folder
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Salvages, and sees that the volume is as before and the data is that of the entries up to the one
/// that the report names: its index is returned with the report.
fn salvaged(volume: &Path) -> Result<(u64, SalvageReport), SalvageError> {
    let before = contents(volume);
    let scratch = tempfile::tempdir().unwrap();
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let result = salvage(&file_system, volume, scratch.path(), &mut |_, _, _| {});
    assert!(contents(volume) == before, "the volume was changed");
    let (state, report) = result?;
    let applied = state.applied().unwrap();
    assert_eq!(report.applied, Some(applied.to_string()));
    let quads: BTreeSet<String> = state
        .view()
        .read()
        .unwrap()
        .quads()
        .map(|quad| quad.unwrap().to_string())
        .collect();
    assert_eq!(quads, expected(applied.index), "{report:?}");
    let mut lines = Vec::new();
    let written = state.write_quads(&mut lines, &mut |_, _| {}).unwrap();
    assert_eq!(written.digest, state.digest());
    let lines: BTreeSet<_> = std::str::from_utf8(&lines).unwrap().lines().collect();
    assert_eq!(
        lines,
        quads
            .iter()
            .map(|quad| format!("{quad} ."))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );
    Ok((applied.index, report))
}

/// Flips a bit in the payload of an entry.
fn damage_entry(volume: &Path, index: u64) {
    let mark = format!("\"value {index} of");
    let mark = mark.trim_start_matches('"').as_bytes();
    for (path, mut bytes) in contents(&volume.join("log")) {
        if let Some(place) = bytes.windows(mark.len()).position(|window| window == mark) {
            bytes[place] ^= 4;
            fs::write(path, bytes).unwrap();
            return;
        }
    }
    panic!("entry {index} is not in the log");
}

fn damage_superblock(volume: &Path) {
    let path = volume.join("superblock");
    let zeroes = vec![0; fs::metadata(&path).unwrap().len() as usize];
    fs::write(path, zeroes).unwrap();
}

fn damage_snapshots(volume: &Path) {
    for (path, mut bytes) in contents(&volume.join("snapshots")) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn damage_store(volume: &Path) {
    for (path, bytes) in contents(&volume.join("store")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("MANIFEST") {
            fs::write(&path, vec![0; bytes.len()]).unwrap();
        }
    }
}

/// Adds a quad behind the back of everyone.
#[allow(clippy::disallowed_methods)]
fn falsify_store(volume: &Path) {
    let generation = fs::read_dir(volume.join("store"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let store = oxigraph::store::Store::open(generation).unwrap();
    let quad = effects(100).inserts.remove(0);
    store.insert(&quad).unwrap();
    store.flush().unwrap();
}

#[test]
fn a_whole_store_is_taken_as_it_is() {
    let volume = volume(WHOLE);
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, LAST);
    assert!(report.is_complete(), "{report:?}");
    assert!(report.source.ends_with("/store"), "{report:?}");
    assert_eq!(report.replayed_entries, 0);
    assert_eq!(report.passed_over, Vec::<String>::new());
}

#[test]
fn what_follows_in_the_log_is_applied() {
    for applied in [None, Some(0), Some(3), Some(LAST - 1)] {
        let volume = volume(Recipe {
            applied,
            snapshot: None,
            // The mark lags behind: what the only voter has is committed all the same.
            committed: 0,
            ..WHOLE
        });
        let (reached, report) = salvaged(volume.path()).unwrap();
        assert_eq!(reached, LAST, "{report:?}");
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(
            report.replayed_entries,
            LAST - applied.map_or(0, |applied| applied) + u64::from(applied.is_none())
        );
    }
}

#[test]
fn without_a_store_the_snapshot_is_taken_and_without_that_the_log() {
    type Damage = fn(&Path);
    let remove: Damage = |volume| fs::remove_dir_all(volume.join("store")).unwrap();
    for damage in [remove, damage_store, falsify_store] {
        let volume = volume(WHOLE);
        damage(volume.path());
        let (applied, report) = salvaged(volume.path()).unwrap();
        assert_eq!(applied, LAST);
        assert!(report.source.ends_with(".snapshot"), "{report:?}");
        assert_eq!(report.replayed_entries, LAST - 4);
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.passed_over.len(), 1, "{report:?}");

        damage_snapshots(volume.path());
        let (applied, report) = salvaged(volume.path()).unwrap();
        assert_eq!(applied, LAST);
        assert!(report.source.ends_with("/log"), "{report:?}");
        assert!(report.is_complete(), "{report:?}");
    }
}

#[test]
fn a_store_behind_the_snapshot_is_passed_over() {
    let volume = volume(WHOLE);
    let behind = self::volume(Recipe {
        applied: Some(2),
        snapshot: None,
        ..WHOLE
    });
    fs::remove_dir_all(volume.path().join("store")).unwrap();
    fs::rename(behind.path().join("store"), volume.path().join("store")).unwrap();
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, LAST);
    assert!(report.source.ends_with(".snapshot"), "{report:?}");
}

#[test]
fn an_entry_that_cannot_be_read_ends_it_unless_it_was_applied() {
    let behind = Recipe {
        applied: Some(4),
        ..WHOLE
    };
    let volume = self::volume(behind);
    damage_entry(volume.path(), 8);
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, 7);
    assert_eq!(report.left_out.len(), 1, "{report:?}");
    assert!(
        report.left_out[0].starts_with("4 entries from 1.8 to 1.11"),
        "{report:?}"
    );
    assert_eq!(report.uncommitted, None);

    let volume = self::volume(WHOLE);
    damage_entry(volume.path(), 8);
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, LAST);
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn with_other_voters_nothing_is_taken_that_may_never_have_been_committed() {
    let volume = volume(Recipe {
        applied: Some(3),
        snapshot: None,
        committed: 6,
        voters: 3,
        ..WHOLE
    });
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, 6);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        report.uncommitted.as_deref(),
        Some("5 entries from 1.7 to 1.11")
    );
}

#[test]
fn without_a_superblock_the_store_is_taken_and_the_log_is_missed() {
    let volume = volume(WHOLE);
    damage_superblock(volume.path());
    let (applied, report) = salvaged(volume.path()).unwrap();
    assert_eq!(applied, LAST);
    assert_eq!(report.node_id, None);
    assert!(!report.is_complete(), "{report:?}");
}

#[test]
fn where_nothing_is_whole_nothing_is_given() {
    let volume = volume(Recipe {
        purged: true,
        ..WHOLE
    });
    damage_store(volume.path());
    damage_snapshots(volume.path());
    let nothing = salvaged(volume.path()).unwrap_err();
    assert!(matches!(nothing, SalvageError::Nothing(_)), "{nothing}");
    let text = nothing.to_string();
    for part in ["store", ".snapshot is damaged", "first entry"] {
        assert!(text.contains(part), "{text}");
    }

    let empty = tempfile::tempdir().unwrap();
    let nothing = salvaged(empty.path()).unwrap_err();
    assert!(matches!(nothing, SalvageError::Nothing(_)), "{nothing}");
}

#[test]
fn half_a_restore_is_no_data() {
    let volume = volume(WHOLE);
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let (mut superblock, _) =
        SuperblockFile::open(file_system.as_ref(), volume.path(), OpenMode::ReadWrite)
            .unwrap()
            .unwrap();
    superblock
        .update(|superblock| superblock.state = VolumeState::Restoring)
        .unwrap();
    drop(superblock);
    let refused = salvaged(volume.path()).unwrap_err();
    assert!(matches!(refused, SalvageError::RestoreIncomplete));
}

/// Whatever is damaged, what is given is a state that the volume was in, and says so when it is not the
/// last one ([`salvaged`] compares it).
#[test]
fn whatever_is_damaged_the_data_is_that_of_a_prefix_of_the_log() {
    let (mut complete, mut partial, mut nothing) = (0, 0, 0);
    for seed in 0..60 {
        let mut choice = StdRng::seed_from_u64(seed);
        let snapshot = choice.random_range(0..=LAST);
        let recipe = Recipe {
            applied: Some(choice.random_range(snapshot..=LAST)),
            snapshot: choice.random_bool(0.7).then_some(snapshot),
            purged: choice.random_bool(0.3),
            committed: LAST,
            voters: choice.random_range(1..=3),
        };
        let volume = volume(recipe);
        let path = volume.path();
        let store: [Option<fn(&Path)>; 4] = [None, None, Some(damage_store), Some(falsify_store)];
        if let Some(damage) = store[choice.random_range(0..store.len())] {
            damage(path);
        }
        if choice.random_bool(0.3) {
            damage_snapshots(path);
        }
        let damaged = choice.random_range(1..=LAST);
        if choice.random_bool(0.5) {
            damage_entry(path, damaged);
        }
        if choice.random_bool(0.1) {
            damage_superblock(path);
        }
        if choice.random_bool(0.1) {
            fs::remove_file(VoteFile::path(path)).unwrap();
        }
        match salvaged(path) {
            Ok((applied, report)) if report.is_complete() => {
                assert_eq!(applied, LAST, "seed {seed}: {report:?}");
                complete += 1;
            }
            Ok(_) => partial += 1,
            Err(SalvageError::Nothing(_)) => nothing += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(
        complete > 10 && partial > 5 && nothing > 0,
        "{complete} complete, {partial} partial, {nothing} with nothing"
    );
}
