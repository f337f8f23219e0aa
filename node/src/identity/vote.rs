//! The vote: whom this node follows in a term. docs/formats/vote.md gives the layout.

use std::io;
use std::path::{Path, PathBuf};

use quadraft_protocol::NodeId;

use crate::disk::{OpenMode, SharedFileSystem, Twin, TwinError};
use crate::planted::{Bug, is_planted};

const MAGIC: [u8; 8] = *b"QDRVOTE\0";
const VERSION: u32 = 1;

/// A vote. Ordered by term; in one term the candidate never changes (Raft, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredVote {
    pub term: u64,
    pub candidate: NodeId,
    /// A majority voted the same: the candidate leads this term.
    pub committed: bool,
}

/// Why a vote could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    #[error(transparent)]
    Twin(#[from] TwinError),
    #[error("{path} has a vote that does not decode", path = path.display())]
    Malformed { path: PathBuf },
    #[error("the volume has made promises, but {path} is gone", path = path.display())]
    Missing { path: PathBuf },
    #[error("failed to look for {path}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("refused to replace the vote {held:?} by {offered:?}: a vote never goes back")]
    Backwards {
        held: StoredVote,
        offered: StoredVote,
    },
}

impl StoredVote {
    /// That of a node which has never voted: in term 0 there are no elections.
    pub const NONE: Self = Self {
        term: 0,
        candidate: NodeId(0),
        committed: false,
    };

    /// That of a node which takes up `term` without having voted in it: a vote for itself. Whoever was
    /// elected in the term is followed all the same, and nobody else gets a vote.
    #[must_use]
    pub fn taking_up(term: u64, node_id: NodeId) -> Self {
        Self {
            term,
            candidate: node_id,
            committed: false,
        }
    }

    /// Whether this vote may replace `held`: a later term; or the same term and candidate, without
    /// taking back that it is committed; or, in the same term, the leader that a majority chose
    /// (the candidate we voted for has lost).
    #[must_use]
    pub fn may_replace(&self, held: &Self) -> bool {
        if is_planted(Bug::VoteGoesBack) {
            return true;
        }
        if self.term != held.term {
            return self.term > held.term;
        }
        if self.candidate == held.candidate {
            return self.committed || !held.committed;
        }
        self.committed && !held.committed
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17);
        bytes.extend_from_slice(&self.term.to_le_bytes());
        bytes.extend_from_slice(&self.candidate.0.to_le_bytes());
        bytes.push(u8::from(self.committed));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 17 {
            return None;
        }
        Some(Self {
            term: u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
            candidate: NodeId(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?)),
            committed: match bytes.get(16)? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

/// The vote as it stands on a volume.
#[derive(Debug)]
pub struct VoteFile {
    file_system: SharedFileSystem,
    path: PathBuf,
    twin: Option<Twin>,
    current: Option<StoredVote>,
}

impl VoteFile {
    /// Where the vote of the volume at `data` is.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("vote")
    }

    /// Opens the vote; a volume without one gives `None` as the current vote, and the caller
    /// decides by the superblock whether that is a loss. The second value is the damaged or
    /// outdated copy, which was mended unless `mode` is [`OpenMode::Read`].
    ///
    /// # Errors
    /// When neither copy can be read, or the format is not known.
    pub fn open(
        file_system: SharedFileSystem,
        data: &Path,
        mode: OpenMode,
    ) -> Result<(Self, Option<usize>), VoteError> {
        let path = Self::path(data);
        let exists = file_system.exists(&path).map_err(|source| VoteError::Io {
            path: path.clone(),
            source,
        })?;
        if !exists {
            return Ok((
                Self {
                    file_system,
                    path,
                    twin: None,
                    current: None,
                },
                None,
            ));
        }
        let opened = Twin::open(file_system.as_ref(), &path, MAGIC, VERSION, mode);
        if opened.is_err() && is_planted(Bug::VoteFromNone) {
            file_system
                .remove_file(&path)
                .map_err(|source| VoteError::Io {
                    path: path.clone(),
                    source,
                })?;
            return Self::open(file_system, data, mode);
        }
        let (mut twin, read) = opened?;
        let current = StoredVote::decode(&read.payload)
            .ok_or_else(|| VoteError::Malformed { path: path.clone() })?;
        if mode != OpenMode::Read {
            twin.mend(&read)?;
        }
        Ok((
            Self {
                file_system,
                path,
                twin: Some(twin),
                current: Some(current),
            },
            read.stale_copy,
        ))
    }

    /// The vote in force.
    /// As [`Self::open`]; with `must_exist`, as the superblock may say, an absent vote is a lost one.
    ///
    /// # Errors
    /// As [`Self::open`], and [`VoteError::Missing`].
    pub fn open_promised(
        file_system: SharedFileSystem,
        data: &Path,
        mode: OpenMode,
        must_exist: bool,
    ) -> Result<(Self, Option<usize>), VoteError> {
        let (vote, stale_copy) = Self::open(file_system, data, mode)?;
        if must_exist && vote.twin.is_none() && !is_planted(Bug::VoteFromNone) {
            return Err(VoteError::Missing { path: vote.path });
        }
        Ok((vote, stale_copy))
    }

    /// Writes the vote of somebody who has never voted, when there is none: from then on a volume
    /// without a vote has lost it. Durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system; the process must stop.
    pub fn begin(&mut self) -> Result<(), VoteError> {
        match self.current {
            Some(_) => Ok(()),
            None => self.save(StoredVote::NONE),
        }
    }

    /// Takes up a term that a snapshot reaches, without voting in it: no log may be ahead of the
    /// vote. Durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system; the process must stop.
    pub fn take_up(&mut self, term: u64, node_id: NodeId) -> Result<(), VoteError> {
        if self.current.is_some_and(|vote| vote.term >= term) {
            return Ok(());
        }
        self.save(StoredVote::taking_up(term, node_id))
    }

    #[must_use]
    pub fn current(&self) -> Option<StoredVote> {
        self.current
    }

    /// Reads both copies again and writes damaged ones anew; gives their numbers.
    ///
    /// # Errors
    /// As [`Twin::scrub`].
    pub fn scrub(&mut self) -> Result<Vec<usize>, VoteError> {
        match (&mut self.twin, self.current) {
            (Some(twin), Some(vote)) => Ok(twin.scrub(&vote.encode())?),
            _ => Ok(Vec::new()),
        }
    }

    /// Casts a vote; durable when it returns.
    ///
    /// # Errors
    /// [`VoteError::Backwards`] when it would take back an earlier one; else those of the
    /// operating system, after which the process must stop.
    pub fn save(&mut self, vote: StoredVote) -> Result<(), VoteError> {
        if let Some(held) = self.current {
            if held == vote {
                return Ok(());
            }
            if !vote.may_replace(&held) {
                return Err(VoteError::Backwards {
                    held,
                    offered: vote,
                });
            }
        }
        match &mut self.twin {
            Some(twin) => twin.write(&vote.encode())?,
            None => {
                self.twin = Some(Twin::create(
                    self.file_system.as_ref(),
                    &self.path,
                    MAGIC,
                    VERSION,
                    &vote.encode(),
                )?);
            }
        }
        self.current = Some(vote);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::RealFileSystem;

    fn vote(term: u64, candidate: u64, committed: bool) -> StoredVote {
        StoredVote {
            term,
            candidate: NodeId(candidate),
            committed,
        }
    }

    #[test]
    fn a_vote_survives_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) =
            VoteFile::open(Arc::new(RealFileSystem), folder.path(), OpenMode::ReadWrite).unwrap();
        assert_eq!(file.current(), None);
        file.save(vote(3, 7, false)).unwrap();
        assert!(matches!(
            file.save(vote(2, 7, true)),
            Err(VoteError::Backwards { .. })
        ));
        assert!(matches!(
            file.save(vote(3, 8, false)),
            Err(VoteError::Backwards { .. })
        ));
        file.save(vote(3, 8, true)).unwrap();
        assert!(matches!(
            file.save(vote(3, 8, false)),
            Err(VoteError::Backwards { .. })
        ));
        assert!(matches!(
            file.save(vote(3, 9, true)),
            Err(VoteError::Backwards { .. })
        ));
        drop(file);
        let (file, stale) =
            VoteFile::open(Arc::new(RealFileSystem), folder.path(), OpenMode::Read).unwrap();
        assert_eq!((file.current(), stale), (Some(vote(3, 8, true)), None));
    }
}
