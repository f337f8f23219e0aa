//! Makes a volume with a long log, and measures reading it: for `make bench-log`.
//!
//! Usage:
//! - `log_volume fill DATA LOG_BYTES PAYLOAD_BYTES` makes a volume whose segments take that much;
//! - `log_volume open DATA` opens its log, as a start of the node does, and prints the milliseconds
//!   that took, the number of entries, and the resident memory in KiB that the open log takes and
//!   that opening it took at most;
//! - `log_volume read DATA THREADS` reads the same files and computes their SHA-256, each thread one
//!   file at a time, and prints the milliseconds and the bytes. Like the node's `verify` it lets
//!   go of what is cached first.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quadraft_node::disk::{OpenMode, RealFileSystem, SharedFileSystem, create_directories};
use quadraft_node::identity::{StoredVote, Superblock, SuperblockFile, VoteFile};
use quadraft_node::log::{LogIdentity, LogOptions, LogStore, OpenedLog, open_log};
use quadraft_node::position::LogPosition;
use quadraft_protocol::NodeId;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

/// Payloads queued at a time.
const QUEUED_BYTES: usize = 256 * 1024;

fn open(data: &Path, superblock: &Superblock, must_exist: bool) -> Result<OpenedLog, Failure> {
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let identity = LogIdentity {
        cluster_uuid: superblock.cluster_uuid,
        node_id: superblock.node_id,
        incarnation: superblock.incarnation,
    };
    let options = LogOptions::default();
    let folder = data.join("log");
    Ok(open_log(
        &file_system,
        &folder,
        identity,
        options,
        must_exist,
    )?)
}

fn fill(data: &Path, log_bytes: u64, payload_bytes: usize) -> Result<(), Failure> {
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    create_directories(file_system.as_ref(), data)?;
    let born = Superblock::new(Uuid::new_v4(), NodeId(0));
    let node_id = born.node_id;
    let superblock = SuperblockFile::create(file_system.as_ref(), data, born)?;
    let (vote, _) = VoteFile::open(file_system.clone(), data, OpenMode::ReadWrite)?;
    let opened = open(data, superblock.current(), false)?;
    let store = LogStore::start(opened, vote, Arc::new(Mutex::new(superblock)))?;
    let vote = StoredVote {
        term: 1,
        candidate: node_id,
        committed: true,
    };
    let (done, is_done) = channel();
    let completion = || {
        let done = done.clone();
        Box::new(move |result: io::Result<()>| {
            let _ = done.send(result);
        })
    };
    store.save_vote(vote, completion());
    is_done.recv()??;
    let payload: Bytes = (0..payload_bytes)
        .map(|number| (number * 7 + 1) as u8)
        .collect();
    let count = (QUEUED_BYTES / payload_bytes.max(1)).max(1) as u64;
    let mut next_index = 0;
    while segment_files(data)?.len() as u64 * LogOptions::default().segment_bytes < log_bytes {
        let entries = (next_index..next_index + count)
            .map(|index| (LogPosition { term: 1, index }, payload.clone()))
            .collect();
        store.append(entries, completion());
        is_done.recv()??;
        next_index += count;
    }
    Ok(())
}

fn segment_files(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = std::fs::read_dir(data.join("log"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    Ok(paths)
}

/// A field of `/proc/self/status`, in KiB.
fn memory_kib(field: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .ok_or("the kernel does not tell this process's memory")?;
    Ok(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse()?)
}

fn measure_open(data: &Path) -> Result<String, Failure> {
    let (superblock, _) = SuperblockFile::open(&RealFileSystem, data, OpenMode::Read)?
        .ok_or("there is no superblock")?;
    let superblock = superblock.current().clone();
    let before = memory_kib("VmRSS")?;
    let started = Instant::now();
    let opened = open(data, &superblock, true)?;
    let took = started.elapsed();
    let held = memory_kib("VmRSS")?.saturating_sub(before);
    let most = memory_kib("VmHWM")?.saturating_sub(before);
    let entries = opened.contents.len();
    Ok(format!("{} {entries} {held} {most}", took.as_millis()))
}

fn read(data: &Path, threads: usize) -> Result<String, Failure> {
    let paths = segment_files(data)?;
    for path in &paths {
        let file = std::fs::File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let read = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads.max(1))
            .map(|_| {
                scope.spawn(|| -> io::Result<u64> {
                    let mut bytes = 0;
                    let mut buffer = vec![0; 1024 * 1024];
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut file = std::fs::File::open(path)?;
                        let mut hasher = Sha256::new();
                        loop {
                            let read = file.read(&mut buffer)?;
                            if read == 0 {
                                break;
                            }
                            hasher.update(&buffer[..read]);
                            bytes += read as u64;
                        }
                        std::hint::black_box(hasher.finalize());
                    }
                    Ok(bytes)
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a reader has ended")))
            })
            .sum::<io::Result<u64>>()
    })?;
    let took: Duration = started.elapsed();
    Ok(format!("{} {read}", took.as_millis()))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match arguments[..] {
        ["fill", data, log_bytes, payload_bytes] => {
            fill(Path::new(data), log_bytes.parse()?, payload_bytes.parse()?)?;
            return Ok(());
        }
        ["open", data] => measure_open(Path::new(data))?,
        ["read", data, threads] => read(Path::new(data), threads.parse()?)?,
        _ => {
            return Err(
                "fill DATA LOG_BYTES PAYLOAD_BYTES, open DATA, or read DATA THREADS".into(),
            );
        }
    };
    writeln!(io::stdout(), "{answer}")?;
    Ok(())
}
