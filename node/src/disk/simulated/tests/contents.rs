//! What a crash may leave in a file.

use super::*;

#[test]
fn a_write_without_sync_may_be_lost_or_torn_between_sectors_but_never_inside_one() {
    let disk = disk_with(&sectors_of(b"aaa"));
    let file = open(&disk);
    file.write_at(&[b'x'; 1024], 256).unwrap();
    assert_eq!(disk.read(path()).unwrap()[256..1280], [b'x'; 1024]);
    let mut expected = BTreeSet::new();
    for kept in 0..8 {
        let mut bytes = sectors_of(b"aaa");
        for (sector, range) in [256..512, 512..1024, 1024..1280].into_iter().enumerate() {
            if kept & 1 << sector != 0 {
                bytes[range].fill(b'x');
            }
        }
        expected.insert(Some(bytes));
    }
    assert_eq!(outcomes(&disk), expected);
    file.sync().unwrap();
    assert_eq!(outcomes(&disk).len(), 1);
    assert_eq!(
        disk.crash(&mut KeepNothing).read(path()).unwrap()[256],
        b'x'
    );
}

#[test]
fn a_sector_may_be_as_any_of_the_pending_writes_left_it() {
    let disk = disk_with(&[b'0'; 512]);
    let file = open(&disk);
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1).unwrap();
    file.write_at(b"00", 0).unwrap();
    let starts: Vec<Vec<u8>> = outcomes(&disk)
        .into_iter()
        .map(|bytes| bytes.unwrap()[..2].to_vec())
        .collect();
    assert_eq!(starts, [b"00", b"10", b"12"]);
    // The newest is the last option and the durable one the first, even when both are the same.
    for choice in [&mut KeepNothing as &mut dyn Choice, &mut KeepEverything] {
        assert_eq!(disk.crash(choice).read(path()).unwrap(), [b'0'; 512]);
    }
}

#[test]
fn a_longer_length_may_be_lost_and_may_come_without_the_bytes() {
    let disk = disk_with(b"abc");
    let file = open(&disk);
    file.write_at(b"defg", 3).unwrap();
    file.allocate(600).unwrap();
    let with = |start: &[u8], length| {
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        Some(bytes)
    };
    let expected = BTreeSet::from([
        with(b"abc", 3),
        with(b"abc", 7),
        with(b"abcdefg", 7),
        with(b"abc", 600),
        with(b"abcdefg", 600),
    ]);
    assert_eq!(outcomes(&disk), expected);
    let kept = disk.crash(&mut KeepEverything).read(path()).unwrap();
    assert_eq!(Some(kept), with(b"abcdefg", 600));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([with(b"abcdefg", 600)]));
}

#[test]
fn a_new_file_may_survive_with_any_part_of_its_content_or_not_at_all() {
    let disk = SimulatedDisk::new();
    disk.write(Path::new("/data/other"), b"").unwrap();
    let file = disk.open(path(), OpenMode::CreateNew).unwrap();
    file.write_at(&sectors_of(b"ab"), 0).unwrap();
    let expected = [
        None,
        Some(vec![]),
        Some(sectors_of(b"\0\0")),
        Some(sectors_of(b"a\0")),
        Some(sectors_of(b"\0b")),
        Some(sectors_of(b"ab")),
    ];
    assert_eq!(outcomes(&disk), BTreeSet::from(expected.clone()));
    file.sync().unwrap();
    let synced = [None, Some(sectors_of(b"ab"))];
    assert_eq!(outcomes(&disk), BTreeSet::from(synced));
}

#[test]
fn after_a_kill_all_that_was_written_is_there_and_a_power_loss_may_still_take_it() {
    let disk = disk_with(b"old");
    let file = open(&disk);
    file.write_at(b"new", 0).unwrap();
    let killed = disk.kill();
    file.write_at(b"too late", 0).unwrap();
    assert_eq!(killed.read(path()).unwrap(), b"new");
    assert_eq!(killed.crash(&mut KeepNothing).read(path()).unwrap(), b"old");
}

#[test]
fn zeroes_on_zeroes_give_a_crash_nothing_to_choose() {
    let disk = SimulatedDisk::new();
    let file = disk.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
    file.allocate(1 << 20).unwrap();
    file.sync().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    file.write_at(&vec![0; 1 << 20], 0).unwrap();
    let coverage = Exhaustive::every(10, |choice| {
        let crashed = disk.crash(choice);
        assert_eq!(crashed.read(Path::new("/file")).unwrap(), vec![0; 1 << 20]);
    });
    assert_eq!((coverage.cases, coverage.complete), (1, true));
}

/// The same rules, stupidly: whole copies of the file after each operation since the last sync.
struct Plain {
    copies: Vec<Vec<u8>>,
}

impl Plain {
    fn now(&self) -> Vec<u8> {
        self.copies.last().unwrap().clone()
    }

    fn allowed(&self) -> BTreeSet<Option<Vec<u8>>> {
        let lengths: BTreeSet<usize> = self.copies.iter().map(Vec::len).collect();
        let mut allowed = BTreeSet::new();
        for length in lengths {
            let mut partial = BTreeSet::from([vec![]]);
            for start in (0..length).step_by(512) {
                let end = length.min(start + 512);
                let versions: BTreeSet<Vec<u8>> = self
                    .copies
                    .iter()
                    .map(|copy| {
                        let mut copy = copy.clone();
                        copy.resize(copy.len().max(end), 0);
                        copy[start..end].to_vec()
                    })
                    .collect();
                partial = partial
                    .iter()
                    .flat_map(|front| versions.iter().map(move |v| [&front[..], v].concat()))
                    .collect();
            }
            allowed.extend(partial.into_iter().map(Some));
        }
        allowed
    }
}

#[test]
fn random_writes_leave_exactly_what_the_rules_allow() {
    let mut cases = 0;
    for seed in 0..400 {
        let mut random = SplitMix::new(seed);
        let mut disk = disk_with(b"");
        let mut plain = Plain {
            copies: vec![vec![]],
        };
        // Far into a page, so that pages are crossed too.
        let base = 4096 - 1024;
        let mut file = open(&disk);
        file.allocate(base as u64).unwrap();
        file.sync().unwrap();
        plain.copies[0].resize(base, 0);
        for _ in 0..8 {
            match random.below(6) {
                0 => {
                    file.sync().unwrap();
                    plain.copies = vec![plain.now()];
                }
                1 => {
                    let length = base + 1 + random.below(1800);
                    file.allocate(length as u64).unwrap();
                    let mut now = plain.now();
                    now.resize(now.len().max(length), 0);
                    plain.copies.push(now);
                }
                2 => {
                    // The next process goes on where this one was killed.
                    disk = disk.kill();
                    file = open(&disk);
                }
                _ => {
                    let (offset, size) = (base + random.below(1500), 1 + random.below(700));
                    let byte = random.below(3) as u8;
                    file.write_at(&vec![byte; size], offset as u64).unwrap();
                    let mut now = plain.now();
                    now.resize(now.len().max(offset + size), 0);
                    now[offset..offset + size].fill(byte);
                    plain.copies.push(now);
                }
            }
        }
        assert!(disk.read(path()).unwrap() == plain.now(), "seed {seed}");
        let allowed = plain.allowed();
        // A few seeds have more outcomes than a test should try.
        if allowed.len() < 500 {
            cases += 1;
            assert!(outcomes(&disk) == allowed, "seed {seed}");
        }
    }
    assert!(cases > 300, "{cases}");
}
