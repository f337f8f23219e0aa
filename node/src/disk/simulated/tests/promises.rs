//! The project's own ways of writing keep their promises in every crash state, and the disk sees
//! when they are written wrongly.

use super::super::super::{
    Twin, TwinRead, create_directories, quarantine, remove_durably, write_durably,
};
use super::*;

/// Every crash state of a recorded run at every point, with how many there were.
fn every_crash(disk: &SimulatedDisk, mut check: impl FnMut(usize, &SimulatedDisk)) -> usize {
    let mut cases = 0;
    for point in 0..=disk.operations() {
        let then = disk.at(point);
        let coverage = Exhaustive::every(100_000, |choice| check(point, &then.crash(choice)));
        assert!(coverage.complete, "point {point}: {coverage:?}");
        cases += coverage.cases;
    }
    cases
}

/// Contents of three sectors and a bit.
fn contents() -> (Vec<u8>, Vec<u8>) {
    (vec![b'o'; 1600], vec![b'n'; 1700])
}

#[test]
fn write_durably_leaves_the_old_or_the_new_content_in_every_crash_state() {
    let (old, new) = contents();
    let disk = disk_with(&old);
    disk.record();
    write_durably(&disk, path(), &new).unwrap();
    disk.mark(1);
    let mut seen = BTreeSet::new();
    let cases = every_crash(&disk, |point, crashed| {
        let bytes = crashed.read(path()).unwrap();
        assert!(bytes == old || bytes == new);
        assert!(disk.marks_before(point).is_empty() || bytes == new);
        seen.insert(bytes);
        // The next attempt succeeds, whatever is left of the last one.
        write_durably(crashed, path(), b"next").unwrap();
        assert_eq!(
            crashed.crash(&mut KeepNothing).read(path()).unwrap(),
            b"next"
        );
    });
    // By hand: nothing done, created, written (no name; no length; four sectors lost or not), synced,
    // renamed (neither, created, both), folder synced.
    assert_eq!(cases, 1 + 2 + (1 + 1 + 16) + 2 + 3 + 1);
    assert_eq!(seen.len(), 2);
}

/// `write_durably` with its mistakes to choose from.
fn write_badly(disk: &SimulatedDisk, sync: bool, beside: bool, sync_folder: bool) {
    let temporary = Path::new("/data/file.new");
    let file = if beside {
        disk.open(temporary, OpenMode::CreateNew).unwrap()
    } else {
        open(disk)
    };
    file.write_at(&contents().1, 0).unwrap();
    if sync {
        file.sync().unwrap();
    }
    if beside {
        disk.rename(temporary, path()).unwrap();
    }
    if sync_folder {
        disk.sync_directory(Path::new("/data")).unwrap();
    }
}

#[test]
fn each_step_that_write_durably_takes_is_missed_when_it_is_left_out() {
    let (old, new) = contents();
    for (sync, beside, sync_folder, torn, forgotten) in [
        (true, true, true, false, false),
        (false, true, true, true, true),
        (true, false, true, true, false),
        (true, true, false, false, true),
    ] {
        let disk = disk_with(&old);
        disk.record();
        write_badly(&disk, sync, beside, sync_folder);
        let last = disk.operations();
        let (mut found_torn, mut found_forgotten) = (false, false);
        every_crash(&disk, |point, crashed| {
            let bytes = crashed.read(path()).unwrap();
            found_torn |= bytes != old && bytes != new;
            found_forgotten |= point == last && bytes != new;
        });
        assert_eq!((found_torn, found_forgotten), (torn, forgotten));
    }
}

#[test]
fn a_twin_has_a_whole_copy_in_every_crash_state_and_keeps_what_was_acknowledged() {
    const MAGIC: [u8; 8] = *b"QDRTEST\0";
    let open_twin = |disk: &SimulatedDisk| Twin::open(disk, path(), MAGIC, 1, OpenMode::ReadWrite);
    let disk = SimulatedDisk::new();
    create_directories(&disk, Path::new("/data")).unwrap();
    disk.record();
    let mut twin = Twin::create(&disk, path(), MAGIC, 1, b"0").unwrap();
    disk.mark(0);
    for number in 1..4_u64 {
        // Long enough for a copy to be torn between its sectors.
        let payload = [number.to_string().as_bytes(), &[b'.'; 1000]].concat();
        twin.write(&payload).unwrap();
        disk.mark(number);
    }
    let mut stale = BTreeSet::new();
    let cases = every_crash(&disk, |point, crashed| {
        let acknowledged = disk.marks_before(point).last().copied();
        if acknowledged.is_none() && !crashed.exists(path()).unwrap() {
            return;
        }
        let (mut twin, read): (Twin, TwinRead) = open_twin(crashed).unwrap();
        let number = u64::from(read.payload[0] - b'0');
        assert_eq!(read.generation, number + 1);
        let expected = acknowledged.unwrap_or(0);
        assert!(
            number == expected || number == expected + 1,
            "point {point}"
        );
        stale.insert(read.stale_copy);
        twin.mend(&read).unwrap();
        let (_, again) = open_twin(&crashed.crash(&mut KeepNothing)).unwrap();
        assert_eq!(
            (again.generation, again.stale_copy),
            (read.generation, None)
        );
    });
    // By hand: made as above with one sector in each copy; then for each copy of each record the
    // sectors that change, lost or not, and the sync.
    let made = 1 + 2 + (1 + 1 + 4) + 2 + 3 + 1;
    assert_eq!(cases, made + 2 * (8 + 1) + 2 * (4 + 1) + 2 * (4 + 1));
    assert_eq!(stale.len(), 3, "{stale:?}");
}

#[test]
fn folders_removals_and_quarantine_are_durable_when_they_return_and_lose_nothing_before() {
    let disk = SimulatedDisk::new();
    disk.record();
    create_directories(&disk, Path::new("/data/log/old")).unwrap();
    let made = disk.operations();
    every_crash(&disk, |point, crashed| {
        assert!(point < made || crashed.exists(Path::new("/data/log/old")).unwrap());
    });
    let disk = disk_with(b"evidence");
    disk.record();
    let kept = quarantine(&disk, Path::new("/data"), path()).unwrap();
    let done = disk.operations();
    every_crash(&disk, |point, crashed| {
        let here = crashed.read(path()).is_ok_and(|bytes| bytes == b"evidence");
        let there = crashed.read(&kept).is_ok_and(|bytes| bytes == b"evidence");
        assert!(here || there, "point {point}");
        assert!(point < done || (there && !here));
    });
    disk.write(path(), b"other evidence").unwrap();
    let beside = quarantine(&disk, Path::new("/data"), path()).unwrap();
    assert_eq!(disk.read(&kept).unwrap(), b"evidence");
    assert_eq!(disk.read(&beside).unwrap(), b"other evidence");
    remove_durably(&disk, &beside).unwrap();
    disk.record();
    remove_durably(&disk, &kept).unwrap();
    let gone = disk.operations();
    every_crash(&disk, |point, crashed| {
        assert!(point < gone || crashed.files().is_empty());
    });
}
