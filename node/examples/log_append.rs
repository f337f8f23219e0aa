//! How fast the log appends, against plain writes and fdatasync of the same bytes: for each batch
//! size both are done in turn, and the ratio of their medians is printed.
//!
//! Usage: `log_append FOLDER [PAYLOAD_BYTES [ROUNDS]]`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quadraft_node::disk::{RealFileSystem, SharedFileSystem};
use quadraft_node::log::{LogContents, LogFiles, LogIdentity, LogOptions, RecordKind, open_log};
use quadraft_node::position::LogPosition;
use quadraft_protocol::NodeId;
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

struct Ours {
    files: LogFiles,
    contents: LogContents,
    next_index: u64,
}

impl Ours {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let file_system: SharedFileSystem = Arc::new(RealFileSystem);
        let identity = LogIdentity {
            cluster_uuid: Uuid::from_u128(1),
            node_id: NodeId(2),
            incarnation: Uuid::from_u128(3),
        };
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES,
        };
        let opened = open_log(&file_system, folder, identity, options, false)?;
        Ok(Self {
            files: opened.files,
            contents: opened.contents,
            next_index: 0,
        })
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<Duration, Failure> {
        let records: Vec<(RecordKind, LogPosition, &[u8])> = (0..count as u64)
            .map(|number| {
                let index = self.next_index + number;
                (RecordKind::Entry, LogPosition { term: 1, index }, payload)
            })
            .collect();
        let started = Instant::now();
        self.files.append(&records, &self.contents)?;
        self.files.prepare_next()?;
        let took = started.elapsed();
        self.next_index += count as u64;
        Ok(took)
    }
}

/// A preallocated file that the same payloads are written to, one write and one fdatasync a batch.
struct Plain {
    file: std::fs::File,
    path: PathBuf,
    end_bytes: u64,
}

impl Plain {
    fn open(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("plain");
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT_BYTES)?;
        file.sync_all()?;
        Ok(Self {
            file,
            path,
            end_bytes: 0,
        })
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<Duration, Failure> {
        let bytes = payload.repeat(count);
        if self.end_bytes + bytes.len() as u64 > SEGMENT_BYTES {
            let folder = self.path.parent().unwrap_or(Path::new(".")).to_owned();
            *self = Self::open(&folder)?;
        }
        let started = Instant::now();
        self.file.write_all_at(&bytes, self.end_bytes)?;
        self.file.sync_data()?;
        let took = started.elapsed();
        self.end_bytes += bytes.len() as u64;
        Ok(took)
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("a folder is needed")?);
    let payload_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let payload: Vec<u8> = (0..payload_bytes)
        .map(|number| (number * 7 + 1) as u8)
        .collect();
    let mut out = std::io::stdout();
    writeln!(out, "payload {payload_bytes} bytes, {rounds} rounds")?;
    writeln!(
        out,
        "entries a batch | log | write + fdatasync | ratio of medians | of means"
    )?;
    for exponent in 0..=10 {
        let count = 1 << exponent;
        let log_folder = folder.join(format!("log-{count}"));
        let mut ours = Ours::open(&log_folder)?;
        let mut plain = Plain::open(&folder.join(format!("plain-{count}")))?;
        let (mut ours_times, mut plain_times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours_times.push(ours.append(&payload, count)?);
            plain_times.push(plain.append(&payload, count)?);
        }
        let mean =
            |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64;
        let means = mean(&plain_times) / mean(&ours_times);
        let (ours, plain) = (median(&mut ours_times), median(&mut plain_times));
        writeln!(
            out,
            "{count:>5} | {ours:>10.1?} | {plain:>10.1?} | {:.2} | {means:.2}",
            plain.as_secs_f64() / ours.as_secs_f64()
        )?;
        std::fs::remove_dir_all(&log_folder)?;
        std::fs::remove_dir_all(folder.join(format!("plain-{count}")))?;
    }
    Ok(())
}
