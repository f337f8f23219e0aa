//! Appends batches to raft-engine and says how long each took.
//!
//! Usage: `bench-raft-engine FOLDER PAYLOAD_BYTES`. Each line of standard input is a number of
//! entries to append as one batch; the answer is a line with the nanoseconds until it was durable.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

type Failure = Box<dyn std::error::Error>;

const REGION: u64 = 1;
const INDEX_BYTES: usize = 8;

/// An entry that is nothing but bytes; the first eight are its index.
#[derive(Clone)]
struct Payload;

impl MessageExt for Payload {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value[..INDEX_BYTES]
            .try_into()
            .map_or(0, u64::from_le_bytes)
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("a folder is needed")?;
    let payload_bytes: usize = arguments.next().ok_or("a length is needed")?.parse()?;
    let config = Config {
        dir: folder,
        // The other candidates write every byte, so this one does.
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize::mb(64),
        ..Config::default()
    };
    let engine = Engine::open(config)?;
    let mut payload: Vec<u8> = (0..payload_bytes.max(INDEX_BYTES))
        .map(|number| (number * 7 + 1) as u8)
        .collect();
    let mut next_index = 1_u64;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let count: u64 = line?.trim().parse()?;
        let entries: Vec<BytesValue> = (next_index..next_index + count)
            .map(|index| {
                payload[..INDEX_BYTES].copy_from_slice(&index.to_le_bytes());
                let mut entry = BytesValue::new();
                entry.set_value(payload.clone());
                entry
            })
            .collect();
        let started = Instant::now();
        let mut batch = LogBatch::default();
        batch.add_entries::<Payload>(REGION, &entries)?;
        engine.write(&mut batch, true)?;
        let took = started.elapsed();
        next_index += count;
        writeln!(out, "{}", took.as_nanos())?;
    }
    Ok(())
}
