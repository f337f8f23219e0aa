//! Superblock and vote.

use std::path::Path;

use super::super::parts::scrub_identity;
use super::{flip, in_use, restarted};
use crate::disk::Unthrottled;
use crate::disk::simulated::{Damage, SimulatedDisk};

const COPIES_BYTES: [u64; 2] = [0, 1024 * 1024];

fn files(disk: &SimulatedDisk) -> [Vec<u8>; 2] {
    ["superblock", "vote"].map(|name| disk.read(&Path::new("/data").join(name)).unwrap())
}

#[test]
fn a_damaged_copy_is_written_anew_and_so_are_both() {
    let (disk, volume) = in_use(3);
    let whole = files(&disk);
    let found = |expected: u64| {
        let tally = scrub_identity(&volume.log, &mut Unthrottled).unwrap();
        assert_eq!((tally.checked, tally.mended), (4, expected), "{tally:?}");
        assert_eq!(tally.unrepairable, 0);
        assert_eq!(files(&disk), whole);
    };
    found(0);
    for name in ["superblock", "vote"] {
        let path = Path::new("/data").join(name);
        for copy in COPIES_BYTES {
            for damage in [
                flip(copy + 30),
                Damage::ZeroSector { offset_bytes: copy },
                Damage::GarbageSector {
                    offset_bytes: copy,
                    seed: 1,
                },
                Damage::UnreadableSector { offset_bytes: copy },
            ] {
                disk.damage(&path, damage).unwrap();
                found(1);
            }
        }
        // The running process knows what it promised: this is no loss yet.
        for copy in COPIES_BYTES {
            disk.damage(&path, flip(copy + 30)).unwrap();
        }
        found(2);
    }
    let (_, volume) = restarted(&disk);
    assert!(volume.report.corrupted_files.is_empty());
    assert_eq!(volume.log.vote().unwrap().term, 1);
}

#[test]
fn a_copy_that_the_disk_gave_back_old_is_written_anew() {
    let (disk, volume) = in_use(3);
    volume.vote(2);
    let whole = files(&disk);
    let stale = Damage::StaleRange {
        offset_bytes: COPIES_BYTES[1],
        length_bytes: 512,
    };
    disk.damage(Path::new("/data/vote"), stale).unwrap();
    let tally = scrub_identity(&volume.log, &mut Unthrottled).unwrap();
    assert_eq!(tally.mended, 1);
    assert_eq!(files(&disk), whole);
}
