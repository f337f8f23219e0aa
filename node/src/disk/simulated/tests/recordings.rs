//! Recordings.

use super::*;

/// Everything that can be told of a disk.
fn everything(disk: &SimulatedDisk) -> String {
    let mut text = disk.describe();
    for point in [&mut KeepNothing as &mut dyn Choice, &mut KeepEverything] {
        let crashed = disk.crash(point);
        for file in crashed.files() {
            text += &format!("{} {:?}\n", file.display(), crashed.read(&file).ok());
        }
    }
    for seed in 0..5 {
        let crashed = disk.crash(&mut SeededChoice::with_tendency(seed, Tendency::Mixed));
        for file in crashed.files() {
            text += &format!("{} {:?}\n", file.display(), crashed.read(&file).ok());
        }
    }
    text
}

#[test]
fn what_was_done_is_listed_in_order() {
    let disk = disk_with(b"abc");
    disk.record();
    let file = disk
        .open(Path::new("/data/new"), OpenMode::CreateNew)
        .unwrap();
    file.allocate(100).unwrap();
    file.write_at(b"xy", 7).unwrap();
    file.sync().unwrap();
    disk.rename(Path::new("/data/new"), path()).unwrap();
    disk.inject(Fault::next(FaultKind::SyncDirectoryError));
    disk.sync_directory(Path::new("data")).unwrap_err();
    file.write_at(b"z", 0).unwrap();
    // What changes nothing is not listed.
    file.read_at(&mut [0; 1], 0).unwrap();
    file.allocate(50).unwrap();
    file.forget_cached().unwrap();
    disk.open(Path::new("/none"), OpenMode::Read).unwrap_err();
    disk.damage(path(), Damage::Truncate { length_bytes: 1 })
        .unwrap();
    let listed: Vec<String> = (1..=disk.operations())
        .map(|ordinal| disk.operation(ordinal).unwrap().to_string())
        .collect();
    let expected = [
        "1 CreateFile /data/new",
        "2 Allocate /data/new at 0, 100 bytes",
        "3 Write /data/new at 7, 2 bytes",
        "4 Sync /data/new",
        "5 Rename /data/new to /data/file",
        "6 FailedSyncDirectory /data",
        "7 Write /data/file at 0, 1 bytes",
        "8 Damage(Truncate { length_bytes: 1 }) /data/file",
    ];
    assert_eq!(listed, expected);
    assert_eq!(disk.operation(0), None);
    assert_eq!(disk.operation(9), None);
}

#[test]
fn marks_stand_where_they_were_set() {
    let disk = disk_with(b"");
    disk.mark(1);
    disk.record();
    let file = open(&disk);
    disk.mark(2);
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    disk.mark(3);
    disk.mark(4);
    assert_eq!(disk.marks_before(0), [2]);
    assert_eq!(disk.marks_before(1), [2]);
    assert_eq!(disk.marks_before(2), [2, 3, 4]);
}

#[test]
fn the_disk_at_each_point_is_what_it_was_then_with_all_that_was_pending() {
    for seed in 0..6 {
        let mut random = SplitMix::new(seed);
        let disk = disk_with(&[7; 3000]);
        disk.record();
        let mut seen = vec![everything(&disk)];
        let file = |number: usize| Path::new("/data").join(number.to_string());
        let mut handles: Vec<Box<dyn File>> = vec![open(&disk)];
        while disk.operations() < 150 {
            let before = disk.operations();
            if random.below(8) == 0 {
                disk.inject(Fault::next(match random.below(5) {
                    0 => FaultKind::LostWrite,
                    1 => FaultKind::MisdirectedWrite {
                        to_offset_bytes: 600,
                    },
                    2 => FaultKind::ShortWriteThenError { written_bytes: 3 },
                    3 => FaultKind::SyncDirectoryError,
                    _ => FaultKind::SyncError,
                }));
            }
            let handle = &handles[random.below(handles.len())];
            let _ = match random.below(12) {
                0 => disk
                    .open(&file(random.below(4)), OpenMode::CreateNew)
                    .map(|file| handles.push(file)),
                1 => disk.rename(&file(random.below(4)), &file(random.below(4))),
                2 => disk.remove_file(&file(random.below(4))),
                3 => disk.sync_directory(Path::new("/data")),
                4 => handle.sync(),
                5 => handle.forget_cached(),
                6 => handle.allocate(1 + random.below(6000) as u64),
                7 => disk.damage(
                    path(),
                    Damage::GarbageSector {
                        offset_bytes: 100,
                        seed: random.next_u64(),
                    },
                ),
                8 => disk.write(&file(9), &[1; 20]),
                _ => handle.write_at(&[random.below(255) as u8; 700], random.below(3000) as u64),
            };
            if disk.operations() > before {
                seen.push(everything(&disk));
            }
        }
        for (point, expected) in seen.iter().enumerate() {
            assert!(
                everything(&disk.at(point)) == *expected,
                "seed {seed}, point {point}: {}",
                disk.operation(point).unwrap()
            );
        }
        assert!(everything(&disk.at(usize::MAX)) == *seen.last().unwrap());
    }
}

#[test]
fn a_copy_goes_its_own_way() {
    let disk = disk_with(b"one");
    disk.record();
    let copy = disk.fork();
    let same = disk.clone();
    open(&disk).write_at(b"two", 0).unwrap();
    assert_eq!(copy.read(path()).unwrap(), b"one");
    assert_eq!(same.read(path()).unwrap(), b"two");
    open(&copy).write_at(b"six", 0).unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"two");
    assert_eq!((copy.operations(), disk.operations()), (0, 1));
    assert_eq!(disk.at(0).read(path()).unwrap(), b"one");
}

#[test]
fn a_description_says_what_is_pending() {
    let disk = disk_with(b"abc");
    open(&disk).write_at(b"d", 3).unwrap();
    let expected = "/: 0 operations pending\n/data/: 0 operations pending\n\
        /data/file: 4 bytes, 3 durable, 1 pages pending, 0 pages only cached\n";
    let text: String = disk
        .describe()
        .lines()
        .map(|line| line.replacen("//", "/", 1) + "\n")
        .collect();
    assert_eq!(text, expected);
    assert_eq!(format!("{disk:?}"), "SimulatedDisk(1 files)");
}
