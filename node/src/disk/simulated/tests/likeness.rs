//! The simulated disk answers as the machine's own file system does.

use std::ffi::OsString;

use super::super::super::{FileLock, RealFileSystem, SharedFileSystem};
use super::*;

/// What an operation gave: the same for both file systems.
type Answer = Result<Vec<u8>, (Option<i32>, io::ErrorKind)>;

fn answer(result: io::Result<Vec<u8>>) -> Answer {
    result.map_err(|error| (error.raw_os_error(), error.kind()))
}

/// One of the two file systems with what is open on it.
struct Side {
    file_system: SharedFileSystem,
    top: PathBuf,
    handles: Vec<Box<dyn File>>,
    locks: Vec<Box<dyn FileLock>>,
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "a/x"];

impl Side {
    fn path(&self, random: &mut SplitMix) -> PathBuf {
        self.top.join(NAMES[random.below(NAMES.len())])
    }

    /// One random operation, and what it gave.
    fn step(&mut self, random: &mut SplitMix) -> (String, Answer) {
        let first = self.path(random);
        let second = self.path(random);
        let (offset, size) = (random.below(9000), random.below(5000));
        let byte = random.below(4) as u8;
        let which = random.below(self.handles.len().max(1));
        let kind = random.below(16);
        let name = |path: &Path| path.file_name().unwrap().to_owned();
        let disk = Arc::clone(&self.file_system);
        let handle = self.handles.get(which);
        let done = |result: io::Result<()>| answer(result.map(|()| vec![]));
        let mut opened = None;
        let given = match (kind, handle) {
            (0..=2, _) => {
                let mode = [OpenMode::CreateNew, OpenMode::Read, OpenMode::ReadWrite][kind];
                // The machine opens folders for reading; the simulated disk does not.
                if mode == OpenMode::Read && disk.list(&first).is_ok() {
                    return ("skipped".to_owned(), Ok(vec![]));
                }
                let file = disk.open(&first, mode);
                done(file.map(|file| opened = Some(file)))
            }
            (3, _) => done(disk.create_directory(&first)),
            (4, _) => done(disk.rename(&first, &second)),
            (5, _) => done(disk.remove_file(&first)),
            (6, _) => answer(disk.exists(&first).map(|exists| vec![u8::from(exists)])),
            (7, _) => answer(disk.list(&first).map(|paths| {
                let names = paths.iter().map(|path| name(path));
                names.flat_map(OsString::into_encoded_bytes).collect()
            })),
            (8, _) => match disk.lock(&first) {
                Ok(lock) => {
                    let free = u8::from(lock.is_some());
                    self.locks.extend(lock);
                    Ok(vec![free])
                }
                Err(error) => answer(Err(error)),
            },
            (9, _) => {
                self.locks.clear();
                Ok(vec![])
            }
            (_, None) => Ok(vec![]),
            (10, Some(_)) => {
                self.handles.remove(which);
                Ok(vec![])
            }
            (11, Some(file)) => done(file.allocate(offset as u64)),
            (12, Some(file)) => answer(file.length_bytes().map(|n| n.to_le_bytes().to_vec())),
            (13, Some(file)) => done(file.sync().and_then(|()| file.forget_cached())),
            (14, Some(file)) => {
                let mut buffer = vec![9; size];
                answer(file.read_at(&mut buffer, offset as u64).map(|count| {
                    buffer.truncate(count);
                    buffer
                }))
            }
            (_, Some(file)) => done(file.write_at(&vec![byte; size], offset as u64)),
        };
        self.handles.extend(opened);
        let told = format!("{kind} {first:?} {second:?} {offset} {size} {which}");
        (told, given)
    }
}

#[test]
fn random_operations_give_the_same_answers_as_on_the_machine() {
    let mut succeeded = [0_usize; 2];
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let disk = SimulatedDisk::new();
        create_top(&disk);
        let mut real = Side {
            file_system: Arc::new(RealFileSystem),
            top: folder.path().to_owned(),
            handles: Vec::new(),
            locks: Vec::new(),
        };
        let mut simulated = Side {
            file_system: Arc::new(disk.clone()),
            top: PathBuf::from("/top"),
            handles: Vec::new(),
            locks: Vec::new(),
        };
        let mut random = SplitMix::new(seed);
        for step in 0..400 {
            let (told, expected) = real.step(&mut random.clone());
            let (_, given) = simulated.step(&mut random);
            assert!(
                given == expected,
                "seed {seed}, step {step}, {told}: {:?} instead of {:?}",
                given.map(|bytes| bytes.len()),
                expected.map(|bytes| bytes.len())
            );
            succeeded[usize::from(given.is_ok())] += 1;
        }
        for file in disk.files() {
            let real = folder.path().join(file.strip_prefix("/top").unwrap());
            assert!(disk.read(&file).unwrap() == std::fs::read(real).unwrap());
        }
    }
    assert!(succeeded[0] > 1000 && succeeded[1] > 1000, "{succeeded:?}");
}

fn create_top(disk: &SimulatedDisk) {
    disk.create_directory(Path::new("/top")).unwrap();
}

#[test]
fn paths_are_compared_by_their_names_and_relative_ones_start_at_the_top() {
    let disk = SimulatedDisk::new();
    disk.write(Path::new("data/log/a"), b"x").unwrap();
    for same in ["/data/log/a", "./data//log/a", "/data/log/../log/a"] {
        assert_eq!(disk.read(Path::new(same)).unwrap(), b"x", "{same}");
    }
    assert_eq!(
        disk.list(Path::new("data/log")).unwrap(),
        [Path::new("data/log/a")]
    );
    assert_eq!(disk.files(), [Path::new("/data/log/a")]);
    assert_eq!(number(disk.list(Path::new(""))), 2);
}
