//! The frames of a snapshot: a header, chunks, an end, each with a checksum that covers all
//! before it.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::planted::{Bug, is_planted};
use crate::state::StateError;

pub(super) const MAGIC: [u8; 8] = *b"QDFSNAP\n";
pub(super) const VERSION: u32 = 1;

/// A chunk is closed when its payload has reached this size.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// No payload is longer: a single quad may be long, but not without bound.
const MAXIMUM_PAYLOAD_BYTES: usize = 1 << 30;

const CHECKSUM_BYTES: usize = 32;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Header = 1,
    Graphs = 2,
    Quads = 3,
    Requests = 4,
    End = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Header,
            Self::Graphs,
            Self::Quads,
            Self::Requests,
            Self::End,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Writes frames; each checksum goes into the next.
#[derive(Debug)]
pub(super) struct FrameWriter<'a, W: Write + ?Sized> {
    out: &'a mut W,
    checksum: [u8; CHECKSUM_BYTES],
    pub(super) bytes: u64,
}

impl<'a, W: Write + ?Sized> FrameWriter<'a, W> {
    pub(super) fn start(out: &'a mut W) -> Result<Self, StateError> {
        let mut writer = Self {
            out,
            checksum: [0; CHECKSUM_BYTES],
            bytes: 0,
        };
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        self.out
            .write_all(bytes)
            .map_err(StateError::io("could not write the snapshot"))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), StateError> {
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAXIMUM_PAYLOAD_BYTES)
            .ok_or_else(|| StateError::Inconsistent("a quad is too long for a snapshot".into()))?;
        self.checksum = checksum(self.checksum, kind as u8, length, payload);
        self.put(&[kind as u8])?;
        self.put(&length.to_le_bytes())?;
        self.put(payload)?;
        self.put(&self.checksum.clone())
    }

    pub(super) fn finish(self) -> Result<u64, StateError> {
        self.out
            .flush()
            .map_err(StateError::io("could not write the snapshot"))?;
        Ok(self.bytes)
    }
}

fn checksum(
    before: [u8; CHECKSUM_BYTES],
    kind: u8,
    length: u32,
    payload: &[u8],
) -> [u8; CHECKSUM_BYTES] {
    Sha256::new()
        .chain_update(before)
        .chain_update([kind])
        .chain_update(length.to_le_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

/// Reads frames and checks them; holds one payload at a time.
#[derive(Debug)]
pub(super) struct FrameReader<'a, R: Read + ?Sized> {
    input: &'a mut R,
    checksum: [u8; CHECKSUM_BYTES],
    pub(super) bytes: u64,
}

impl<'a, R: Read + ?Sized> FrameReader<'a, R> {
    pub(super) fn start(input: &'a mut R) -> Result<Self, StateError> {
        let mut reader = Self {
            input,
            checksum: [0; CHECKSUM_BYTES],
            bytes: 0,
        };
        if reader.array::<8>()? != MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        let found = u32::from_le_bytes(reader.array()?);
        if found != VERSION {
            // What goes on like this version is of this version: later ones begin their checksums
            // otherwise.
            if reader.frame().is_ok() {
                return Err(damaged("its format version is damaged"));
            }
            return Err(StateError::UnknownSnapshotVersion {
                found,
                known: VERSION,
            });
        }
        Ok(reader)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(reading)?;
        self.bytes += N as u64;
        Ok(bytes)
    }

    pub(super) fn frame(&mut self) -> Result<(Kind, Vec<u8>), StateError> {
        let place = self.bytes;
        let [kind] = self.array()?;
        let length = u32::from_le_bytes(self.array()?);
        let mut payload = Vec::new();
        // Reading up to the length, not allocating it: a damaged length must not cost memory.
        let read = (&mut *self.input)
            .take(u64::from(length).min(MAXIMUM_PAYLOAD_BYTES as u64))
            .read_to_end(&mut payload)
            .map_err(reading)?;
        self.bytes += read as u64;
        if read as u64 != u64::from(length) {
            return Err(damaged(format!("it ends inside the chunk at byte {place}")));
        }
        let expected = checksum(self.checksum, kind, length, &payload);
        if self.array::<CHECKSUM_BYTES>()? != expected && !is_planted(Bug::SnapshotChecksumIgnored)
        {
            return Err(damaged(format!(
                "the checksum of the chunk at byte {place} does not match"
            )));
        }
        self.checksum = expected;
        let kind = Kind::from_byte(kind)
            .ok_or_else(|| damaged(format!("the chunk at byte {place} is of an unknown kind")))?;
        Ok((kind, payload))
    }

    /// Refuses bytes after the end.
    pub(super) fn finish(self) -> Result<u64, StateError> {
        let mut rest = [0; 1];
        loop {
            match self.input.read(&mut rest) {
                Ok(0) => return Ok(self.bytes),
                Ok(_) => return Err(damaged("something follows its end")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(error)),
            }
        }
    }
}

fn reading(error: io::Error) -> StateError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        damaged("it ends too early")
    } else {
        StateError::io("could not read the snapshot")(error)
    }
}

pub(super) fn damaged(reason: impl Into<String>) -> StateError {
    StateError::DamagedSnapshot(reason.into())
}
