//! The superblock: identity of a volume. docs/formats/superblock.md gives the layout.

use std::io;
use std::path::{Path, PathBuf};

use quadraft_protocol::NodeId;
use rand::Rng as _;
use uuid::Uuid;

use crate::disk::{FileSystem, OpenMode, Twin, TwinError};

const MAGIC: [u8; 8] = *b"QDRSUPER";
const VERSION: u32 = 1;
const PAYLOAD_BYTES: usize = 8 + 16 + 16 + 8 + 8 + 1 + 1;

/// What a volume may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VolumeState {
    /// An ordinary volume.
    Normal = 0,
    /// A restore is under way: not to be served from until it has finished.
    Restoring = 1,
    /// A peer has seen more of this node than is on the volume: never to be served from again.
    SetBack = 2,
}

/// Identity and promises of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Random, never zero, never an ordinal, never reused.
    pub node_id: NodeId,
    /// Changes whenever the identity is born anew on this volume.
    pub incarnation: Uuid,
    /// The cluster this volume belongs to; nil until it is claimed.
    pub cluster_uuid: Uuid,
    /// Grows by one durably at each start.
    pub boot_count: u64,
    /// The identity that the volume had before recovery gave it a new one; zero if none.
    pub previous_node_id: NodeId,
    pub state: VolumeState,
    /// A vote was cast or a log entry accepted: from now on, their absence is a loss.
    pub made_promises: bool,
}

/// Why a volume's identity could not be established.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Twin(#[from] TwinError),
    #[error("{path} has a superblock that does not decode", path = path.display())]
    Malformed { path: PathBuf },
    #[error("failed to look for {path}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Superblock {
    /// A new identity for `cluster_uuid` (nil: unclaimed).
    #[must_use]
    pub fn new(cluster_uuid: Uuid, previous_node_id: NodeId) -> Self {
        let mut random = rand::rng();
        let node_id = loop {
            let candidate: u64 = random.next_u64();
            if candidate != 0 && candidate != previous_node_id.0 {
                break NodeId(candidate);
            }
        };
        Self {
            node_id,
            incarnation: Uuid::new_v4(),
            cluster_uuid,
            boot_count: 0,
            previous_node_id,
            state: VolumeState::Normal,
            made_promises: false,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES);
        bytes.extend_from_slice(&self.node_id.0.to_le_bytes());
        bytes.extend_from_slice(self.incarnation.as_bytes());
        bytes.extend_from_slice(self.cluster_uuid.as_bytes());
        bytes.extend_from_slice(&self.boot_count.to_le_bytes());
        bytes.extend_from_slice(&self.previous_node_id.0.to_le_bytes());
        bytes.push(self.state as u8);
        bytes.push(u8::from(self.made_promises));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PAYLOAD_BYTES {
            return None;
        }
        let number = |offset: usize| {
            Some(u64::from_le_bytes(
                bytes.get(offset..offset + 8)?.try_into().ok()?,
            ))
        };
        let uuid = |offset: usize| Uuid::from_slice(bytes.get(offset..offset + 16)?).ok();
        let node_id = NodeId(number(0)?);
        if node_id.0 == 0 {
            return None;
        }
        Some(Self {
            node_id,
            incarnation: uuid(8)?,
            cluster_uuid: uuid(24)?,
            boot_count: number(40)?,
            previous_node_id: NodeId(number(48)?),
            state: match bytes.get(56)? {
                0 => VolumeState::Normal,
                1 => VolumeState::Restoring,
                2 => VolumeState::SetBack,
                _ => return None,
            },
            made_promises: match bytes.get(57)? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

/// The superblock as it stands on a volume.
#[derive(Debug)]
pub struct SuperblockFile {
    twin: Twin,
    current: Superblock,
}

impl SuperblockFile {
    /// Where the superblock of the volume at `data` is.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("superblock")
    }

    /// Writes the first superblock of a volume.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn create(
        file_system: &dyn FileSystem,
        data: &Path,
        superblock: Superblock,
    ) -> Result<Self, IdentityError> {
        let twin = Twin::create(
            file_system,
            &Self::path(data),
            MAGIC,
            VERSION,
            &superblock.encode(),
        )?;
        Ok(Self {
            twin,
            current: superblock,
        })
    }

    /// Opens the superblock; `None` when the volume has none. The second value is the damaged or
    /// outdated copy, which was mended unless `mode` is [`OpenMode::Read`].
    ///
    /// # Errors
    /// When neither copy can be read, or the format is not known.
    pub fn open(
        file_system: &dyn FileSystem,
        data: &Path,
        mode: OpenMode,
    ) -> Result<Option<(Self, Option<usize>)>, IdentityError> {
        let path = Self::path(data);
        let exists = file_system
            .exists(&path)
            .map_err(|source| IdentityError::Io {
                path: path.clone(),
                source,
            })?;
        if !exists {
            return Ok(None);
        }
        let (mut twin, read) = Twin::open(file_system, &path, MAGIC, VERSION, mode)?;
        let current = Superblock::decode(&read.payload).ok_or(IdentityError::Malformed { path })?;
        if mode != OpenMode::Read {
            twin.mend(&read)?;
        }
        Ok(Some((Self { twin, current }, read.stale_copy)))
    }

    /// The superblock in force.
    #[must_use]
    pub fn current(&self) -> &Superblock {
        &self.current
    }

    /// Reads both copies again and writes damaged ones anew; gives their numbers.
    ///
    /// # Errors
    /// As [`Twin::scrub`].
    pub fn scrub(&mut self) -> Result<Vec<usize>, IdentityError> {
        Ok(self.twin.scrub(&self.current.encode())?)
    }

    /// Changes the superblock; durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system; the process must stop.
    pub fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), IdentityError> {
        let mut next = self.current.clone();
        change(&mut next);
        if next != self.current {
            self.twin.write(&next.encode())?;
            self.current = next;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::disk::RealFileSystem;

    #[test]
    fn a_superblock_keeps_what_was_written_and_counts_starts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            SuperblockFile::open(&RealFileSystem, folder.path(), OpenMode::Read)
                .unwrap()
                .is_none()
        );
        let born = Superblock::new(Uuid::new_v4(), NodeId(0));
        let mut file =
            SuperblockFile::create(&RealFileSystem, folder.path(), born.clone()).unwrap();
        file.update(|superblock| superblock.boot_count += 1)
            .unwrap();
        file.update(|superblock| superblock.made_promises = true)
            .unwrap();
        drop(file);
        let (file, stale) =
            SuperblockFile::open(&RealFileSystem, folder.path(), OpenMode::ReadWrite)
                .unwrap()
                .unwrap();
        assert_eq!(stale, None);
        assert_eq!(
            file.current(),
            &Superblock {
                boot_count: 1,
                made_promises: true,
                ..born
            }
        );
    }

    #[test]
    fn two_new_identities_differ() {
        let first = Superblock::new(Uuid::nil(), NodeId(0));
        let second = Superblock::new(Uuid::nil(), first.node_id);
        assert_ne!(first.node_id, second.node_id);
        assert_ne!(first.incarnation, second.incarnation);
    }
}
