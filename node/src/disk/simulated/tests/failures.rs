//! Injected faults and full disks.

use super::*;

#[test]
fn a_failed_sync_loses_what_was_pending_while_reads_go_on_showing_it() {
    let disk = disk_with(b"old");
    let file = open(&disk);
    file.write_at(b"new and longer", 0).unwrap();
    disk.inject(Fault::next(FaultKind::SyncError));
    assert_eq!(number(file.sync()), 5);
    assert_eq!(disk.read(path()).unwrap(), b"new and longer");
    // A later sync says that all is well, and changes nothing.
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"old".to_vec())]));
    // The page cache outlives the process.
    let killed = disk.kill();
    assert_eq!(killed.read(path()).unwrap(), b"new and longer");
    killed.forget_all_cached();
    assert_eq!(killed.read(path()).unwrap(), b"old");
    file.forget_cached().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"old");
    file.write_at(b"yes", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"yes".to_vec())]));
}

#[test]
fn only_sectors_that_are_written_again_after_a_failed_sync_become_durable() {
    let disk = disk_with(&sectors_of(b"ab"));
    let file = open(&disk);
    file.write_at(&sectors_of(b"xy"), 0).unwrap();
    disk.inject(Fault::next(FaultKind::SyncError));
    file.sync().unwrap_err();
    file.write_at(b"!", 512).unwrap();
    file.sync().unwrap();
    let bytes = disk.crash(&mut KeepNothing).read(path()).unwrap();
    assert_eq!((bytes[0], bytes[512], bytes[513]), (b'a', b'!', b'y'));
}

#[test]
fn forgetting_keeps_what_is_not_synced_yet() {
    let disk = disk_with(b"old");
    let file = open(&disk);
    file.write_at(b"new", 0).unwrap();
    file.forget_cached().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"new");
    file.sync().unwrap();
    file.forget_cached().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"new");
}

#[test]
fn a_failed_sync_of_a_folder_leaves_all_open_and_later_ones_promise_nothing() {
    let disk = disk_with(b"x");
    disk.remove_file(path()).unwrap();
    disk.inject(Fault::next(FaultKind::SyncDirectoryError));
    assert_eq!(number(disk.sync_directory(Path::new("/data"))), 5);
    disk.sync_directory(Path::new("/data")).unwrap();
    let both = BTreeSet::from([None, Some(b"x".to_vec())]);
    assert_eq!(outcomes(&disk), both);
    let crashed = disk.crash(&mut KeepNothing);
    crashed.remove_file(path()).unwrap();
    crashed.sync_directory(Path::new("/data")).unwrap();
    assert_eq!(outcomes(&crashed), BTreeSet::from([None]));
}

#[test]
fn a_lost_write_comes_to_light_when_the_cache_is_forgotten_or_the_machine_crashes() {
    let disk = disk_with(b"old");
    let file = open(&disk);
    disk.inject(Fault::next(FaultKind::LostWrite));
    file.write_at(b"longer", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"longer");
    let crashed = outcomes(&disk);
    assert_eq!(crashed, BTreeSet::from([Some(b"old\0\0\0".to_vec())]));
    file.forget_cached().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"old\0\0\0");
}

#[test]
fn a_misdirected_write_comes_to_light_at_both_places() {
    let disk = disk_with(&sectors_of(b"abc"));
    let file = open(&disk);
    disk.inject(Fault::next(FaultKind::MisdirectedWrite {
        to_offset_bytes: 1024,
    }));
    file.write_at(&[b'n'; 512], 0).unwrap();
    file.sync().unwrap();
    assert!(disk.read(path()).unwrap() == sectors_of(b"nbc"));
    assert!(outcomes(&disk) == BTreeSet::from([Some(sectors_of(b"abn"))]));
    disk.forget_all_cached();
    assert!(disk.read(path()).unwrap() == sectors_of(b"abn"));
}

#[test]
fn reads_and_writes_fail_whole_or_part_way() {
    let disk = disk_with(b"abcdef");
    let file = open(&disk);
    disk.inject(Fault::next(FaultKind::ReadError));
    assert_eq!(number(file.read_at(&mut [0; 2], 0)), 5);
    file.read_at(&mut [0; 2], 0).unwrap();
    disk.inject(Fault::next(FaultKind::WriteError));
    assert_eq!(number(file.write_at(b"xyz", 0)), 5);
    assert_eq!(disk.read(path()).unwrap(), b"abcdef");
    disk.inject(Fault::next(FaultKind::ShortWriteThenError {
        written_bytes: 2,
    }));
    assert_eq!(number(file.write_at(b"xyz", 0)), 5);
    assert_eq!(disk.read(path()).unwrap(), b"xycdef");
    disk.inject(Fault::next(FaultKind::AllocateError));
    assert_eq!(number(file.allocate(100)), 5);
    assert_eq!(file.length_bytes().unwrap(), 6);
    assert_eq!(disk.faults_left(), 0);
}

#[test]
fn operations_on_names_fail_and_change_nothing() {
    let disk = disk_with(b"x");
    let other = Path::new("/data/other");
    for kind in [
        FaultKind::RenameError,
        FaultKind::OpenError,
        FaultKind::RemoveError,
        FaultKind::CreateDirectoryError,
        FaultKind::ListError,
    ] {
        disk.inject(Fault::next(kind));
    }
    assert_eq!(number(disk.rename(path(), other)), 5);
    assert_eq!(number(disk.open(other, OpenMode::CreateNew)), 5);
    assert_eq!(number(disk.remove_file(path())), 5);
    assert_eq!(number(disk.create_directory(other)), 5);
    assert_eq!(number(disk.list(Path::new("/data"))), 5);
    assert_eq!(disk.faults_left(), 0);
    assert_eq!(disk.files(), [path()]);
}

#[test]
fn a_fault_waits_for_its_turn_on_its_path_and_may_last() {
    let disk = disk_with(b"x");
    let other = Path::new("/data/log/other");
    disk.write(other, b"y").unwrap();
    let file = open(&disk);
    let second = disk.open(other, OpenMode::ReadWrite).unwrap();
    disk.inject(Fault::nth(FaultKind::SyncError, 2).on("data/log/other"));
    second.sync().unwrap();
    file.sync().unwrap();
    file.sync().unwrap();
    assert_eq!(number(second.sync()), 5);
    disk.inject(
        Fault::next(FaultKind::WriteError)
            .under("/data/log")
            .lasting(),
    );
    file.write_at(b"z", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(number(second.write_at(b"z", 0)), 5);
    }
    assert_eq!(disk.faults_left(), 1);
    disk.clear_faults();
    second.write_at(b"z", 0).unwrap();
    // A handle is where its file is now, not where it was opened.
    disk.rename(other, Path::new("/data/moved")).unwrap();
    disk.inject(Fault::next(FaultKind::WriteError).only_where(|path| path.ends_with("moved")));
    assert_eq!(number(second.write_at(b"z", 0)), 5);
}

#[test]
fn of_two_faults_for_one_operation_the_later_waits_for_the_next() {
    let disk = disk_with(b"abc");
    let file = open(&disk);
    disk.inject(Fault::next(FaultKind::WriteError));
    disk.inject(Fault::next(FaultKind::LostWrite));
    file.write_at(b"x", 0).unwrap_err();
    file.write_at(b"x", 0).unwrap();
    assert_eq!(disk.faults_left(), 0);
    assert_eq!(
        disk.crash(&mut KeepEverything).read(path()).unwrap(),
        b"abc"
    );
}

#[test]
fn a_full_disk_takes_no_longer_files_but_still_overwrites() {
    let disk = disk_with(b"abc");
    let folder = Path::new("/data");
    assert!(disk.available_bytes(folder).unwrap() > 1 << 40);
    disk.set_capacity_bytes(Some(10));
    assert_eq!(disk.available_bytes(folder).unwrap(), 7);
    let file = open(&disk);
    assert_eq!(number(file.allocate(11)), 28);
    assert_eq!(number(file.write_at(&[b'x'; 11], 0)), 28);
    assert_eq!(
        file.allocate(11).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!(disk.read(path()).unwrap(), b"abc");
    file.allocate(10).unwrap();
    file.write_at(&[b'x'; 10], 0).unwrap();
    assert_eq!(disk.available_bytes(folder).unwrap(), 0);
    disk.set_capacity_bytes(Some(4));
    file.write_at(b"yy", 8).unwrap();
    assert_eq!(disk.available_bytes(folder).unwrap(), 0);
}

#[test]
fn a_full_disk_may_take_a_part_of_a_write() {
    let disk = disk_with(b"abc");
    disk.set_capacity_bytes(Some(5));
    disk.set_short_writes_when_full(true);
    let file = open(&disk);
    assert_eq!(number(file.write_at(b"123456", 1)), 28);
    assert_eq!(disk.read(path()).unwrap(), b"a1234");
    assert_eq!(number(file.write_at(b"123456", 7)), 28);
    assert_eq!(disk.read(path()).unwrap(), b"a1234");
}

#[test]
fn a_removed_file_makes_room_once_it_is_closed() {
    let disk = disk_with(&[1; 100]);
    disk.set_capacity_bytes(Some(100));
    let file = open(&disk);
    disk.remove_file(path()).unwrap();
    assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 0);
    drop(file);
    assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 100);
}

/// Each sector of some content, filled up with zeroes, as it could be found when the file ended
/// anywhere in it.
fn has_sectors(known: &[BTreeSet<Vec<u8>>], bytes: &[u8]) -> bool {
    bytes.chunks(512).zip(known).all(|(found, known)| {
        let mut versions = known.iter();
        versions.any(|version| version[..found.len()] == *found)
    })
}

#[test]
fn whatever_goes_wrong_each_sector_is_one_that_was_there_and_a_sync_that_succeeds_settles_it() {
    let mut strayed = 0;
    for seed in 0..300 {
        let mut random = SplitMix::new(seed);
        let mut disk = disk_with(b"");
        let mut file = open(&disk);
        let mut known = vec![BTreeSet::from([vec![0; 512]]); 12];
        for _ in 0..40 {
            match random.below(16) {
                0 => disk.inject(Fault::next(FaultKind::LostWrite)),
                1 => disk.inject(Fault::next(FaultKind::SyncError)),
                2 => disk.inject(Fault::next(FaultKind::ShortWriteThenError {
                    written_bytes: random.below(600),
                })),
                3 => file.forget_cached().unwrap(),
                4 => {
                    disk = disk.kill();
                    file = open(&disk);
                }
                5 => {
                    disk = disk.crash(&mut SeededChoice::new(random.next_u64()));
                    file = open(&disk);
                }
                6 | 7 => {
                    let _ = file.sync();
                }
                8 => file.allocate(1 + random.below(6000) as u64).unwrap(),
                _ => {
                    let bytes = vec![random.below(250) as u8; 1 + random.below(1500)];
                    let _ = file.write_at(&bytes, random.below(4500) as u64);
                }
            }
            let shown = disk.read(path()).unwrap();
            for (chunk, known) in shown.chunks(512).zip(&mut known) {
                let mut sector = chunk.to_vec();
                sector.resize(512, 0);
                known.insert(sector);
            }
            let crashed = disk.crash(&mut SeededChoice::new(random.next_u64()));
            assert!(has_sectors(&known, &crashed.read(path()).unwrap()));
            // What the cache shows beyond what may become durable is what forgetting takes.
            let forgotten = disk.fork();
            forgotten.forget_all_cached();
            let kept = disk.crash(&mut KeepEverything).read(path()).unwrap();
            assert!(forgotten.read(path()).unwrap() == kept, "seed {seed}");
            strayed += usize::from(shown != kept);
            let settled = disk.fork();
            open(&settled).sync().unwrap();
            assert!(outcomes(&settled) == BTreeSet::from([Some(kept)]));
        }
    }
    assert!(strayed > 1000, "{strayed}");
}
