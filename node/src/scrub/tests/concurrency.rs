//! A volume that is whole is never said to be damaged, whatever goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::parts::{scrub_identity, scrub_log};
use super::{DATA, InUse, at};
use crate::disk::simulated::{SimulatedDisk, SplitMix};
use crate::disk::{RealFileSystem, SharedFileSystem, Unthrottled};
use crate::log::LogStore;
use crate::position::LogPosition;
use crate::recovery::StorePlace;

/// Appends, cuts back, commits, purges and votes, at random.
fn work(log: &LogStore, vote: &dyn Fn(u64), rounds: u64) -> u64 {
    let mut random = SplitMix::new(7);
    let (mut next, mut committed, mut term) = (0, 0, 1);
    for round in 0..rounds {
        let count = 1 + random.below(12) as u64;
        let entries = (0..count)
            .map(|number| {
                let most = [40, 600, 9000][random.below(3)];
                let length = random.below(most);
                let payload: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
                let index = next + number;
                (LogPosition { term, index }, payload.into())
            })
            .collect();
        let (sender, durable) = std::sync::mpsc::channel();
        log.append(
            entries,
            Box::new(move |written| {
                written.unwrap();
                // Not every append is waited for.
                let _ = sender.send(());
            }),
        );
        next += count;
        match round % 7 {
            // What was appended last is void, and the next term goes on from there.
            2 if next > committed + 2 => {
                next -= 1;
                let keep = LogPosition {
                    term,
                    index: next - 1,
                };
                log.truncate_after(Some(keep), Box::new(|cut| cut.unwrap()));
                term += 1;
                vote(term);
            }
            4 | 6 => {
                committed = next - 1;
                let index = committed;
                log.note_committed(LogPosition { term, index });
                if round % 14 == 6 {
                    let position = LogPosition { term, index };
                    log.purge(position, Box::new(|purged| purged.unwrap()));
                }
            }
            _ => {}
        }
        if round % 5 == 0 {
            durable.recv().unwrap();
        }
    }
    next
}

fn scrub_while_working(file_system: SharedFileSystem, data: &Path, rounds: u64) {
    let volume = InUse::open_with(&file_system, data, StorePlace::Memory, LogStore::start);
    volume.vote(1);
    let log = volume.log.clone();
    let done = Arc::new(AtomicBool::new(false));
    let (scrubs, records) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let part = scrub_log(&log, &mut Unthrottled).unwrap();
                assert!(
                    part.tally.findings.is_empty()
                        && part.unreadable.is_empty()
                        && part.lost.is_empty(),
                    "{part:?}"
                );
                let identity = scrub_identity(&log, &mut Unthrottled).unwrap();
                assert_eq!(identity.mended, 0);
                scrubs.fetch_add(1, Ordering::SeqCst);
                records.fetch_add(part.tally.checked, Ordering::SeqCst);
            }
        });
        let appended = work(&volume.log, &|term| volume.vote(term), rounds);
        done.store(true, Ordering::SeqCst);
        scrubbing.join().unwrap();
        assert!(appended > rounds);
    });
    let (scrubs, records) = (scrubs.into_inner(), records.into_inner());
    assert!(
        scrubs > 10 && records > 100,
        "{scrubs} scrubs, {records} records"
    );
    assert_eq!(volume.log.unreadable(), []);
    assert!(volume.log.state().purged > Some(at(100)));
}

#[test]
fn nothing_is_found_on_a_simulated_disk_that_is_worked_with() {
    scrub_while_working(Arc::new(SimulatedDisk::new()), Path::new(DATA), 3000);
}

#[test]
fn nothing_is_found_on_the_machines_disk_that_is_worked_with() {
    let folder = tempfile::tempdir().unwrap();
    scrub_while_working(Arc::new(RealFileSystem), folder.path(), 600);
}
