//! Volumes that are never to be served from again under their identity, as only the other members can
//! tell.

use std::sync::{Arc, Mutex, PoisonError};

use quadraft_protocol::RefusalReason;

use super::seen::SetBack;
use crate::identity::{IdentityError, SuperblockFile, VolumeState};

/// Why a volume is never to be served from again under its identity, as only the other members could
/// tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Retired {
    #[error(transparent)]
    SetBack(#[from] SetBack),
}

impl Retired {
    /// The reason as reports have it.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::SetBack(_) => RefusalReason::SetBack,
        }
    }

    fn volume_state(&self) -> VolumeState {
        match self {
            Self::SetBack(_) => VolumeState::SetBack,
        }
    }
}

/// What only the other members can tell of a volume: that it cannot be served from any more.
#[derive(Clone, Debug)]
pub struct Retirement {
    superblock: Arc<Mutex<SuperblockFile>>,
}

impl Retirement {
    pub(super) fn new(superblock: Arc<Mutex<SuperblockFile>>) -> Self {
        Self { superblock }
    }

    /// Writes onto the volume that, and why, no start serves from it any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn mark(&self, retired: &Retired) -> Result<(), IdentityError> {
        self.superblock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(|superblock| superblock.state = retired.volume_state())
    }
}
