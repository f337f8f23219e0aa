//! Volumes that are never to be served from again under their identity, as only the other members can
//! tell.

use std::sync::{Arc, Mutex, PoisonError};

use quadraft_protocol::RefusalReason;

use super::repair::Repairer;
use super::seen::SetBack;
use crate::identity::{IdentityError, SuperblockFile, VolumeState};
use crate::position::LogPosition;

/// Why a volume is never to be served from again under its identity, as only the other members could
/// tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Retired {
    #[error(transparent)]
    SetBack(#[from] SetBack),
    #[error("entry {0} cannot be read, and the other members have it in snapshots only")]
    Unrepairable(LogPosition),
}

impl Retired {
    /// The reason as reports have it.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::SetBack(_) => RefusalReason::SetBack,
            Self::Unrepairable(_) => RefusalReason::LogDamaged,
        }
    }

    fn volume_state(&self) -> VolumeState {
        match self {
            Self::SetBack(_) => VolumeState::SetBack,
            Self::Unrepairable(_) => VolumeState::Unrepairable,
        }
    }
}

/// What only the other members can tell of a volume: that it cannot be served from any more.
#[derive(Clone, Debug)]
pub struct Retirement {
    repairer: Arc<Repairer>,
    superblock: Arc<Mutex<SuperblockFile>>,
}

impl Retirement {
    pub(super) fn new(repairer: Arc<Repairer>, superblock: Arc<Mutex<SuperblockFile>>) -> Self {
        Self {
            repairer,
            superblock,
        }
    }

    /// Waits until an entry is known to be one that cannot be repaired: the Raft core, which needs it
    /// to start, would wait for ever.
    pub async fn unrepairable(&self) -> Retired {
        Retired::Unrepairable(self.repairer.gone().await)
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
