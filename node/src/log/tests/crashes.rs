//! Every crash leaves a log that opens, with everything that was acknowledged.

use super::workload::{Model, Workload, open};
use crate::disk::simulated::{Damage, KeepNothing, SeededChoice, SimulatedDisk, SplitMix};
use crate::log::RecordKind;
use crate::position::LogPosition;
use crate::testing::{cases, show_progress};

/// The models that a disk may hold which crashed when step `acknowledged` had returned.
fn allowed(models: &[Model], acknowledged: usize) -> &[Model] {
    &models[acknowledged..(acknowledged + 2).min(models.len())]
}

fn acknowledged_before(disk: &SimulatedDisk, point: usize) -> usize {
    disk.marks_before(point)
        .last()
        .map_or(0, |mark| usize::try_from(*mark).unwrap())
}

/// Goes on with a log that came out of a crash: what is written now is there after the next one.
fn goes_on(disk: &SimulatedDisk, model: &Model, seed: u64) {
    let mut opened = open(disk, false).unwrap();
    let last = opened.contents.last();
    let position = LogPosition {
        term: last.map_or(1, |last| last.term + 1),
        index: last.map_or(0, |last| last.index + 1),
    };
    let record = [(RecordKind::Entry, position, &b"after the crash"[..])];
    opened.files.append(&record, &opened.contents).unwrap();
    let mut next = model.clone();
    next.entries
        .push((position, (&b"after the crash"[..]).into()));
    let again = open(&disk.crash(&mut SeededChoice::new(seed)), true).unwrap();
    next.check(&again).unwrap();
    assert!(again.contents.unreadable().next().is_none());
}

#[test]
fn every_crash_state_opens_with_all_that_was_acknowledged_and_goes_on() {
    let mut tried = 0;
    let mut torn = 0;
    for seed in 0..cases(100) {
        show_progress("crashes of recorded runs", seed, cases(100));
        let mut random = SplitMix::new(seed);
        let mut workload = Workload::numbered(seed);
        workload.disk.record();
        for _ in 0..12 {
            workload.step(&mut random);
        }
        for point in 0..=workload.disk.operations() {
            let acknowledged = acknowledged_before(&workload.disk, point);
            let models = allowed(&workload.models, acknowledged);
            let crashed = workload
                .disk
                .at(point)
                .crash(&mut SeededChoice::new(seed ^ (point as u64) << 8));
            let opened = open(&crashed, acknowledged > 0)
                .unwrap_or_else(|error| panic!("seed {seed} point {point}: {error:?}"));
            torn += usize::from(opened.findings.torn_tail.is_some());
            assert_eq!(opened.contents.unreadable().count(), 0);
            let found = models
                .iter()
                .find(|model| model.check(&opened).is_ok())
                .unwrap_or_else(|| {
                    panic!(
                        "seed {seed} point {point} after step {acknowledged}: {:?}",
                        models[0].check(&opened)
                    )
                });
            drop(opened);
            goes_on(&crashed, found, seed + point as u64);
            tried += 1;
        }
    }
    println!("crash states: {tried} tried, {torn} with a torn tail, 0 unsafe");
    assert!(tried > 5_000, "only {tried} cases");
    assert!(torn > 100, "only {torn} torn tails");
}

#[test]
fn what_a_killed_process_left_is_durable_once_the_log_is_opened() {
    let mut tried = 0;
    let mut unsynced = 0;
    for seed in 0..cases(30) {
        let mut random = SplitMix::new(seed);
        let mut workload = Workload::numbered(seed);
        workload.disk.record();
        for _ in 0..10 {
            workload.step(&mut random);
        }
        for point in 0..=workload.disk.operations() {
            let killed = workload.disk.at(point);
            let lost = open(&killed.crash(&mut KeepNothing), false).unwrap();
            let shown = open(&killed, false).unwrap();
            unsynced += usize::from(shown.contents != lost.contents);
            let contents = shown.contents;
            drop(shown.files);
            let durable = open(&killed.crash(&mut KeepNothing), false).unwrap();
            assert_eq!(durable.contents, contents, "seed {seed} point {point}");
            tried += 1;
        }
    }
    println!("kills: {tried} tried, {unsynced} with writes that were not synced, 0 unsafe");
    assert!(tried > 1_000 && unsynced > 50, "{tried} {unsynced}");
}

/// Kinds of damage that do not bring back what a sector held before: that is a write which the
/// disk acknowledged and lost, and together with a crash no disk can tell it from an unfinished one.
fn random_damage(random: &mut SplitMix, length_bytes: u64) -> Damage {
    let offset_bytes = random.next_u64() % length_bytes;
    match random.below(6) {
        0 => Damage::FlipBit {
            offset_bytes,
            bit: random.below(8) as u8,
        },
        1 => Damage::Byte {
            offset_bytes,
            value: random.next_u64() as u8,
        },
        2 => Damage::ZeroSector { offset_bytes },
        3 => Damage::GarbageSector {
            offset_bytes,
            seed: random.next_u64(),
        },
        4 => Damage::Zero4KiB { offset_bytes },
        _ => Damage::UnreadableSector { offset_bytes },
    }
}

/// As [`allowed`], and with any part of the entries of the step under way: the header of its batch,
/// which tells their number, may be damaged.
fn allowed_with_parts(models: &[Model], acknowledged: usize) -> Vec<Model> {
    let mut allowed = allowed(models, acknowledged).to_vec();
    if let [before, after] = &allowed[..]
        && after.entries.starts_with(&before.entries)
    {
        let parts = before.entries.len() + 1..after.entries.len();
        let parts: Vec<Model> = parts
            .map(|length| Model {
                entries: after.entries[..length].to_vec(),
                ..before.clone()
            })
            .collect();
        allowed.extend(parts);
    }
    allowed
}

#[test]
fn a_crash_together_with_damage_never_loses_or_invents_an_entry() {
    let mut opened_whole = 0;
    let mut named = 0;
    let mut refused = 0;
    for seed in 0..cases(20_000) {
        show_progress("crashes together with damage", seed, cases(20_000));
        let mut random = SplitMix::new(seed);
        let mut workload = Workload::numbered(seed);
        workload.disk.record();
        for _ in 0..1 + random.below(8) {
            workload.step(&mut random);
        }
        let point = random.below(workload.disk.operations() + 1);
        let acknowledged = acknowledged_before(&workload.disk, point);
        let crashed = workload.disk.at(point).crash(&mut SeededChoice::new(seed));
        let files = crashed.files();
        for _ in 0..1 + random.below(3) {
            if let Some(path) = files.get(random.below(files.len().max(1))) {
                let length = crashed.read(path).map_or(1, |bytes| bytes.len() as u64);
                // Damage that changes nothing is refused; then there is less of it.
                let _ = crashed.damage(path, random_damage(&mut random, length.max(1)));
            }
        }
        match open(&crashed, acknowledged > 0) {
            Err(_) => refused += 1,
            Ok(opened) => {
                let models = allowed_with_parts(&workload.models, acknowledged);
                assert!(
                    models.iter().any(|model| model.check(&opened).is_ok()),
                    "seed {seed} point {point} after step {acknowledged}: {:?}",
                    models[0].check(&opened)
                );
                if opened.contents.unreadable().next().is_some() {
                    named += 1;
                } else {
                    opened_whole += 1;
                }
            }
        }
    }
    println!(
        "crash and damage: {} tried, {opened_whole} whole, {named} with entries known by name, \
         {refused} refused, 0 unsafe",
        opened_whole + named + refused
    );
    assert!(
        opened_whole > 500 && named > 100 && refused > 10,
        "{opened_whole} whole, {named} named, {refused} refused"
    );
}
