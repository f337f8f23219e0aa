//! What a crash may leave of names, and locks.

use std::collections::BTreeMap;

use super::*;

/// Every set of files that a crash may leave, each with its content.
fn worlds(disk: &SimulatedDisk) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let mut found = BTreeSet::new();
    let coverage = Exhaustive::every(100_000, |choice| {
        let crashed = disk.crash(choice);
        let files = crashed.files().into_iter();
        found.insert(
            files
                .map(|file| (file.display().to_string(), crashed.read(&file).unwrap()))
                .collect(),
        );
    });
    assert!(coverage.complete, "{coverage:?}");
    found
}

fn world(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files
        .iter()
        .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
        .collect()
}

#[test]
fn a_rename_without_a_sync_of_the_folder_may_be_undone_and_with_one_stays() {
    let disk = disk_with(b"one");
    disk.write(Path::new("/data/new"), b"two").unwrap();
    disk.rename(Path::new("/data/new"), path()).unwrap();
    let before = world(&[("/data/file", b"one"), ("/data/new", b"two")]);
    let after = world(&[("/data/file", b"two")]);
    assert_eq!(worlds(&disk), BTreeSet::from([before, after.clone()]));
    disk.sync_directory(Path::new("/data")).unwrap();
    assert_eq!(worlds(&disk), BTreeSet::from([after]));
}

#[test]
fn a_crash_keeps_the_first_few_operations_on_a_folder_and_never_a_later_one_alone() {
    let disk = disk_with(b"");
    let other = |name: &str| Path::new("/data").join(name);
    disk.open(&other("a"), OpenMode::CreateNew).unwrap();
    disk.remove_file(path()).unwrap();
    disk.rename(&other("a"), &other("b")).unwrap();
    let expected = [
        world(&[("/data/file", b"")]),
        world(&[("/data/a", b""), ("/data/file", b"")]),
        world(&[("/data/a", b"")]),
        world(&[("/data/b", b"")]),
    ];
    assert_eq!(worlds(&disk), BTreeSet::from(expected));
}

#[test]
fn a_sync_of_a_file_does_not_keep_its_name_nor_a_sync_of_a_folder_its_own() {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new("/data")).unwrap();
    let file = disk.open(path(), OpenMode::CreateNew).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    assert!(worlds(&disk).contains(&world(&[])));
    disk.sync_directory(Path::new("/data")).unwrap();
    let kept = world(&[("/data/file", b"x")]);
    assert_eq!(worlds(&disk), BTreeSet::from([world(&[]), kept.clone()]));
    assert!(
        !disk
            .crash(&mut KeepNothing)
            .exists(Path::new("/data"))
            .unwrap()
    );
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(worlds(&disk), BTreeSet::from([kept]));
}

#[test]
fn a_file_that_moves_to_another_folder_is_never_lost_and_stays_once_both_are_synced() {
    let disk = disk_with(b"x");
    disk.create_directory(Path::new("/other")).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk.rename(path(), Path::new("/other/file")).unwrap();
    let old = world(&[("/data/file", b"x")]);
    let new = world(&[("/other/file", b"x")]);
    let both = [old.clone(), new.clone()].concat();
    let all = BTreeSet::from([old, new.clone(), both.clone()]);
    assert_eq!(worlds(&disk), all);
    let target_first = disk.fork();
    target_first.sync_directory(Path::new("/other")).unwrap();
    assert_eq!(worlds(&target_first), BTreeSet::from([both, new.clone()]));
    target_first.sync_directory(Path::new("/data")).unwrap();
    assert_eq!(worlds(&target_first), BTreeSet::from([new.clone()]));
    // The old name may not go before the new one is there.
    disk.sync_directory(Path::new("/data")).unwrap();
    assert_eq!(worlds(&disk), BTreeSet::from([new]));
}

#[test]
fn a_folder_that_moves_to_another_folder_is_in_one_place() {
    let disk = disk_with(b"x");
    disk.write(Path::new("/shelf/old"), b"").unwrap();
    disk.rename(Path::new("/data"), Path::new("/shelf/data"))
        .unwrap();
    let old = world(&[("/data/file", b"x"), ("/shelf/old", b"")]);
    let new = world(&[("/shelf/data/file", b"x"), ("/shelf/old", b"")]);
    assert_eq!(worlds(&disk), BTreeSet::from([old, new.clone()]));
    disk.sync_directory(Path::new("/shelf")).unwrap();
    assert_eq!(worlds(&disk), BTreeSet::from([new]));
}

#[test]
fn a_removed_file_may_come_back_whole_until_the_folder_is_synced() {
    let disk = disk_with(b"x");
    disk.remove_file(path()).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_directory(Path::new("/data")).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None]));
}

#[test]
fn a_handle_goes_on_with_its_file_after_the_name_is_gone() {
    let disk = disk_with(b"x");
    let file = open(&disk);
    disk.remove_file(path()).unwrap();
    disk.sync_directory(Path::new("/data")).unwrap();
    file.write_at(b"yz", 0).unwrap();
    file.sync().unwrap();
    let mut buffer = [0; 2];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 2);
    assert_eq!(&buffer, b"yz");
    assert!(disk.files().is_empty());
}

#[test]
fn random_operations_on_a_folder_leave_a_prefix_of_them() {
    let folder = Path::new("/data");
    for seed in 0..500 {
        let mut random = SplitMix::new(seed);
        let disk = SimulatedDisk::new();
        disk.create_directory(folder).unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
        let mut now = BTreeMap::new();
        let mut states = vec![now.clone()];
        for step in 0..10_u8 {
            let (first, second) = (random.below(3), random.below(3));
            let file = |number: usize| folder.join(number.to_string());
            match random.below(6) {
                0 => {
                    disk.sync_directory(folder).unwrap();
                    states.clear();
                }
                1 if disk.remove_file(&file(first)).is_ok() => {
                    now.remove(&first);
                }
                2 | 3 if disk.rename(&file(first), &file(second)).is_ok() => {
                    let moved = now.remove(&first).unwrap();
                    now.insert(second, moved);
                }
                _ => {
                    if let Ok(file) = disk.open(&file(first), OpenMode::CreateNew) {
                        file.write_at(&[step], 0).unwrap();
                        file.sync().unwrap();
                        now.insert(first, step);
                    }
                }
            }
            states.push(now.clone());
        }
        let allowed: BTreeSet<_> = states
            .into_iter()
            .map(|names| {
                let files = names.into_iter();
                files
                    .map(|(name, byte)| (format!("/data/{name}"), vec![byte]))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(worlds(&disk), allowed, "seed {seed}");
    }
}

#[test]
fn a_lock_keeps_others_out_until_it_is_dropped_or_the_process_or_machine_is_gone() {
    let disk = SimulatedDisk::new();
    let lock = Path::new("/lock");
    let held = disk.lock(lock).unwrap().unwrap();
    assert!(disk.exists(lock).unwrap());
    assert!(disk.lock(lock).unwrap().is_none());
    assert!(disk.clone().lock(lock).unwrap().is_none());
    for other in [disk.kill(), disk.fork(), disk.crash(&mut KeepEverything)] {
        let _taken = other.lock(lock).unwrap().unwrap();
    }
    assert!(disk.lock(lock).unwrap().is_none());
    drop(held);
    assert!(disk.lock(lock).unwrap().is_some());
    assert_eq!(number(disk.lock(Path::new("/no/lock"))), 2);
}
