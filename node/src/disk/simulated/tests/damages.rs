//! Damage.

use super::*;

/// Ten sectors, each full of its own letter, the last one cut short.
fn letters() -> Vec<u8> {
    let mut bytes = sectors_of(b"abcdefghij");
    bytes.truncate(5000);
    bytes
}

/// Strikes, and checks that reads show it at once and after every crash.
fn strike(disk: &SimulatedDisk, damage: Damage) -> io::Result<Vec<u8>> {
    disk.damage(path(), damage)?;
    let shown = disk.read(path())?;
    for choice in [&mut KeepNothing as &mut dyn Choice, &mut KeepEverything] {
        assert!(disk.crash(choice).read(path()).unwrap() == shown);
    }
    Ok(shown)
}

/// Which bytes differ, as the first and one past the last.
fn difference(left: &[u8], right: &[u8]) -> std::ops::Range<usize> {
    assert_eq!(left.len(), right.len());
    let differing: Vec<usize> = (0..left.len()).filter(|&n| left[n] != right[n]).collect();
    differing[0]..differing[differing.len() - 1] + 1
}

#[test]
fn a_bit_is_flipped_and_a_byte_is_changed() {
    let disk = disk_with(&letters());
    let flip = Damage::FlipBit {
        offset_bytes: 4999,
        bit: 6,
    };
    let shown = strike(&disk, flip.clone()).unwrap();
    assert_eq!(difference(&shown, &letters()), 4999..5000);
    assert_eq!(shown[4999], b'j' ^ 0x40);
    assert!(strike(&disk, flip).unwrap() == letters());
    let byte = |value| Damage::Byte {
        offset_bytes: 600,
        value,
    };
    assert_eq!(strike(&disk, byte(b'!')).unwrap()[600], b'!');
    let same = strike(&disk, byte(b'!')).unwrap_err();
    assert_eq!(same.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_sector_or_page_is_zeroed_or_filled_with_garbage() {
    let disk = disk_with(&letters());
    let mut expected = letters();
    let zero = Damage::ZeroSector { offset_bytes: 700 };
    expected[512..1024].fill(0);
    assert!(strike(&disk, zero).unwrap() == expected);
    let zero = Damage::Zero4KiB { offset_bytes: 4100 };
    expected[4096..].fill(0);
    assert!(strike(&disk, zero).unwrap() == expected);
    let garbage = |seed| Damage::GarbageSector {
        offset_bytes: 1024,
        seed,
    };
    let shown = strike(&disk, garbage(1)).unwrap();
    let changed = difference(&shown, &expected);
    assert!(changed.start < 1034 && changed.end > 1526 && changed.end <= 1536);
    let other = strike(&disk, garbage(2)).unwrap();
    assert!(other != shown);
    assert!(strike(&disk, garbage(1)).unwrap() == shown);
}

#[test]
fn an_unreadable_sector_fails_reads_that_touch_it_until_a_write_replaces_all_of_it() {
    let disk = disk_with(&letters());
    let damage = Damage::UnreadableSector { offset_bytes: 600 };
    disk.damage(path(), damage.clone()).unwrap();
    assert!(disk.damage(path(), damage).is_err());
    let crashed = disk.crash(&mut KeepNothing);
    assert_eq!(number(crashed.read(path())), 5);
    let file = open(&disk);
    let mut buffer = [0; 2];
    file.read_at(&mut buffer, 510).unwrap();
    file.read_at(&mut buffer, 1024).unwrap();
    assert_eq!(number(file.read_at(&mut buffer, 511)), 5);
    assert_eq!(number(file.write_at(b"part", 600)), 5);
    file.write_at(&[b'n'; 1000], 512).unwrap();
    file.read_at(&mut buffer, 511).unwrap();
    assert_eq!(&buffer, b"an");
}

#[test]
fn a_write_heals_an_unreadable_sector_only_once_it_is_durable() {
    let disk = disk_with(&letters());
    disk.damage(path(), Damage::UnreadableSector { offset_bytes: 512 })
        .unwrap();
    let file = open(&disk);
    file.write_at(&[b'n'; 512], 512).unwrap();
    let mut healed = letters();
    healed[512..1024].fill(b'n');
    assert!(disk.read(path()).unwrap() == healed);
    // Lost, it is as unreadable as before.
    let expected = BTreeSet::from([None, Some(healed.clone())]);
    assert!(outcomes(&disk) == expected);
    file.sync().unwrap();
    assert!(outcomes(&disk) == BTreeSet::from([Some(healed)]));
}

#[test]
fn the_last_sector_is_replaced_by_a_write_to_the_end_of_the_file() {
    let disk = disk_with(&letters());
    disk.damage(path(), Damage::UnreadableSector { offset_bytes: 4999 })
        .unwrap();
    let file = open(&disk);
    assert_eq!(number(file.write_at(&[b'n'; 391], 4608)), 5);
    file.write_at(&[b'n'; 392], 4608).unwrap();
    file.sync().unwrap();
    assert_eq!(
        disk.crash(&mut KeepNothing).read(path()).unwrap()[4999],
        b'n'
    );
}

#[test]
fn a_file_is_cut_and_what_lay_beyond_never_comes_back() {
    let disk = disk_with(&letters());
    let file = open(&disk);
    file.write_at(&[b'z'; 3000], 2000).unwrap();
    let cut = Damage::Truncate { length_bytes: 2100 };
    let shown = {
        disk.damage(path(), cut.clone()).unwrap();
        disk.read(path()).unwrap()
    };
    assert_eq!((shown.len(), shown[1999], shown[2099]), (2100, b'd', b'z'));
    assert!(disk.damage(path(), cut).is_err());
    file.allocate(6000).unwrap();
    for bytes in outcomes(&disk) {
        assert!(bytes.unwrap().iter().skip(2100).all(|&byte| byte == 0));
    }
}

#[test]
fn a_name_is_removed_durably_for_files_and_folders() {
    let disk = disk_with(b"x");
    disk.write(Path::new("/data/log/one"), b"1").unwrap();
    disk.open(Path::new("/data/new"), OpenMode::CreateNew)
        .unwrap();
    disk.damage(path(), Damage::Remove).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None]));
    disk.damage(Path::new("/data/log"), Damage::Remove).unwrap();
    assert_eq!(disk.files(), [Path::new("/data/new")]);
    assert_eq!(number(disk.damage(path(), Damage::Remove)), 2);
}

#[test]
fn a_stale_range_is_what_it_was_before_the_last_write_of_each_sector() {
    let disk = disk_with(&letters());
    let file = open(&disk);
    let stale = Damage::StaleRange {
        offset_bytes: 500,
        length_bytes: 600,
    };
    for byte in *b"12" {
        file.write_at(&[byte; 512], 512).unwrap();
        file.sync().unwrap();
    }
    let mut expected = letters();
    expected[512..1024].fill(b'1');
    // The sectors beside it were written once, when there was nothing before.
    expected[500..512].fill(0);
    expected[1024..1100].fill(0);
    let other = disk.fork();
    assert!(strike(&disk, stale.clone()).unwrap() == expected);
    // Once more changes nothing, as only one former content is kept.
    assert!(disk.damage(path(), stale.clone()).is_err());
    // The history outlives the process and, for what is durable, the machine.
    let crashed = other.kill().crash(&mut KeepNothing);
    assert!(strike(&crashed, stale).unwrap() == expected);
}

#[test]
fn a_preallocated_range_that_was_written_once_goes_back_to_zeroes() {
    let disk = SimulatedDisk::new();
    disk.write(path(), &[0; 8192]).unwrap();
    let file = open(&disk);
    file.write_at(b"record", 5000).unwrap();
    file.sync().unwrap();
    let stale = Damage::StaleRange {
        offset_bytes: 5000,
        length_bytes: 6,
    };
    assert!(strike(&disk, stale).unwrap() == [0; 8192]);
}

#[test]
fn a_misdirected_write_is_found_elsewhere_and_missing_where_it_belongs() {
    let disk = disk_with(&letters());
    let file = open(&disk);
    file.write_at(&[b'w'; 512], 1024).unwrap();
    file.sync().unwrap();
    let damage = |to_offset_bytes| Damage::MisdirectedWrite {
        from_offset_bytes: 1024,
        to_offset_bytes,
        length_bytes: 512,
    };
    assert!(disk.damage(path(), damage(1300)).is_err());
    assert!(disk.damage(path(), damage(4600)).is_err());
    let mut expected = letters();
    expected[2048..2560].fill(b'w');
    assert!(strike(&disk, damage(2048)).unwrap() == expected);
}

#[test]
fn damage_where_writes_are_pending_leaves_the_others_pending() {
    let disk = disk_with(&letters());
    let file = open(&disk);
    file.write_at(&[b'n'; 1024], 0).unwrap();
    let flip = Damage::FlipBit {
        offset_bytes: 3,
        bit: 0,
    };
    disk.damage(path(), flip).unwrap();
    let starts: BTreeSet<(u8, u8, u8)> = outcomes(&disk)
        .into_iter()
        .map(|bytes| {
            let bytes = bytes.unwrap();
            (bytes[2], bytes[3], bytes[600])
        })
        .collect();
    let struck = (b'n', b'n' ^ 1);
    let expected = [b'b', b'n'].map(|second| (struck.0, struck.1, second));
    assert_eq!(starts, BTreeSet::from(expected));
}

#[test]
fn damage_must_lie_in_the_file_and_change_something() {
    let disk = disk_with(&letters());
    let refused = [
        Damage::FlipBit {
            offset_bytes: 5000,
            bit: 0,
        },
        Damage::FlipBit {
            offset_bytes: 0,
            bit: 8,
        },
        Damage::ZeroSector { offset_bytes: 5000 },
        Damage::Zero4KiB {
            offset_bytes: u64::MAX,
        },
        Damage::UnreadableSector { offset_bytes: 5000 },
        Damage::Truncate { length_bytes: 5000 },
        Damage::StaleRange {
            offset_bytes: 4000,
            length_bytes: 1001,
        },
        Damage::StaleRange {
            offset_bytes: 4000,
            length_bytes: 0,
        },
    ];
    for damage in refused {
        let error = disk.damage(path(), damage.clone()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{damage:?}");
    }
    assert!(disk.read(path()).unwrap() == letters());
    let folder = disk.damage(Path::new("/data"), Damage::ZeroSector { offset_bytes: 0 });
    assert_eq!(number(folder), 21);
}

#[test]
fn damage_beyond_the_durable_length_goes_with_the_sync_that_fails() {
    let disk = disk_with(b"abc");
    let file = open(&disk);
    file.write_at(&[b'n'; 600], 600).unwrap();
    let garbage = Damage::GarbageSector {
        offset_bytes: 700,
        seed: 1,
    };
    disk.damage(path(), garbage).unwrap();
    disk.inject(Fault::next(FaultKind::SyncError));
    file.sync().unwrap_err();
    file.forget_cached().unwrap();
    assert_eq!(disk.read(path()).unwrap(), b"abc");
    file.allocate(2000).unwrap();
    file.sync().unwrap();
    file.write_at(b"pending", 1900).unwrap();
    let bytes = disk.crash(&mut KeepNothing).read(path()).unwrap();
    assert!(bytes[3..] == [0; 1997]);
}
