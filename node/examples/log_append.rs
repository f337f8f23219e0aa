//! Appends batches of entries and says how long each took, for `quadraft-bench log-append`, which
//! lets candidates take turns. Candidates here:
//!
//! - `log`: the log of this node;
//! - `log-without-checks`: batches of the same lengths at the same offsets, written and synced like
//!   the log's, without checksums, digests, chain, identifiers and mark;
//! - `plain`: the payloads alone, in a preallocated file;
//! - `plain-rewriting`: the same, in a file whose space had been written to before.
//!
//! Usage: `log_append CANDIDATE FOLDER PAYLOAD_BYTES`. Each line of standard input is a number of
//! entries to append as one batch; the answer is a line with the nanoseconds until it was durable.

use std::fs::OpenOptions;
use std::io::{BufRead as _, Write as _};
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

trait Candidate {
    /// Appends `payload` `count` times as one batch; the time until it was durable.
    fn append(&mut self, payload: &[u8], count: usize) -> Result<Duration, Failure>;
}

struct Log {
    files: LogFiles,
    contents: LogContents,
    next_index: u64,
}

impl Log {
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
}

impl Candidate for Log {
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

/// How a batch of payloads is laid out by those who check nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One payload after another.
    Payloads,
    /// As the log's batches, with the fields of headers but without what is computed from payloads.
    Records,
}

/// A file of fixed length that batches are written to, one write and one fdatasync each.
struct Plain {
    layout: Layout,
    /// Whether the file's space is written to before it is used, as the log's is.
    rewrites: bool,
    file: std::fs::File,
    path: PathBuf,
    end_bytes: u64,
    buffer: Vec<u8>,
    next_index: u64,
}

impl Plain {
    fn open(folder: &Path, layout: Layout, rewrites: bool) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("plain");
        Ok(Self {
            layout,
            rewrites,
            file: Self::new_file(&path, rewrites)?,
            path,
            end_bytes: 0,
            buffer: Vec::new(),
            next_index: 0,
        })
    }

    fn new_file(path: &Path, rewrites: bool) -> Result<std::fs::File, Failure> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT_BYTES)?;
        if rewrites {
            let piece = vec![1; 1024 * 1024];
            for at in (0..SEGMENT_BYTES).step_by(piece.len()) {
                file.write_all_at(&piece, at)?;
            }
        }
        file.sync_all()?;
        Ok(file)
    }

    fn encode(&mut self, payload: &[u8], count: usize) {
        self.buffer.clear();
        match self.layout {
            Layout::Payloads => {
                for _ in 0..count {
                    self.buffer.extend_from_slice(payload);
                }
            }
            Layout::Records => {
                self.buffer.extend_from_slice(b"QBAT");
                self.buffer.resize(64, 0);
                for number in 0..count as u64 {
                    let index = self.next_index + number;
                    let start = self.buffer.len();
                    self.buffer.extend_from_slice(b"QREC");
                    self.buffer.resize(start + 12, 0);
                    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                    self.buffer.extend_from_slice(&length.to_le_bytes());
                    self.buffer.extend_from_slice(&1_u64.to_le_bytes());
                    self.buffer.extend_from_slice(&index.to_le_bytes());
                    self.buffer.resize(start + 56, 0);
                    self.buffer.extend_from_slice(payload);
                    let end = self.buffer.len().next_multiple_of(8);
                    self.buffer.resize(end, 0);
                }
                let end = self.buffer.len().next_multiple_of(4096);
                self.buffer.resize(end, 0);
            }
        }
    }
}

impl Candidate for Plain {
    fn append(&mut self, payload: &[u8], count: usize) -> Result<Duration, Failure> {
        // A new file is made outside of what is measured.
        let length_bound = ((payload.len() + 64) * count + 2 * 4096) as u64;
        if self.end_bytes + length_bound > SEGMENT_BYTES {
            self.file = Self::new_file(&self.path, self.rewrites)?;
            self.end_bytes = 0;
        }
        if self.layout == Layout::Payloads {
            self.encode(payload, count);
        }
        let started = Instant::now();
        if self.layout == Layout::Records {
            self.encode(payload, count);
        }
        self.file.write_all_at(&self.buffer, self.end_bytes)?;
        self.file.sync_data()?;
        let took = started.elapsed();
        self.end_bytes += self.buffer.len() as u64;
        self.next_index += count as u64;
        Ok(took)
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("a candidate is needed")?;
    let folder = PathBuf::from(arguments.next().ok_or("a folder is needed")?);
    let payload_bytes: usize = arguments.next().ok_or("a length is needed")?.parse()?;
    let mut candidate: Box<dyn Candidate> = match name.as_str() {
        "log" => Box::new(Log::open(&folder)?),
        "log-without-checks" => Box::new(Plain::open(&folder, Layout::Records, true)?),
        "plain" => Box::new(Plain::open(&folder, Layout::Payloads, false)?),
        "plain-rewriting" => Box::new(Plain::open(&folder, Layout::Payloads, true)?),
        _ => return Err(format!("there is no candidate {name}").into()),
    };
    let payload: Vec<u8> = (0..payload_bytes)
        .map(|number| (number * 7 + 1) as u8)
        .collect();
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let took = candidate.append(&payload, line?.trim().parse()?)?;
        writeln!(out, "{}", took.as_nanos())?;
    }
    Ok(())
}
