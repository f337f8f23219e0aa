//! Whom a volume belongs to: the superblock and the vote.
//!
//! The superblock is born with the volume and says which node it is, of which cluster, how often
//! it was started, and whether promises were ever made from it. The vote is the promise of whom
//! this node follows in a term. Both are twin files (see [`crate::disk::Twin`]).

mod superblock;
mod vote;

pub use superblock::{IdentityError, Superblock, SuperblockFile, VolumeState};
pub use vote::{StoredVote, VoteError, VoteFile};
