//! The exit codes of the node's commands, as docs/operations/exit-codes.md explains them.

/// Why a command of the node binary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done; for `verify`: nothing is damaged.
    Success = 0,
    /// An unexpected failure: running again may help.
    Failure = 1,
    /// Wrong arguments.
    Usage = 2,
    /// `verify` or `inspect` found damage, or `export` could not write out everything.
    DamageFound = 10,
    /// The volume cannot be served from: something that is a promise to other nodes (vote, log,
    /// superblock) is damaged or missing. The report says what, and what `recover` can do.
    VolumeRefused = 20,
    /// The volume belongs to another cluster, or has a format that this version does not know.
    WrongIdentity = 21,
    /// Another process uses the volume.
    VolumeInUse = 22,
    /// The disk failed a write or an fsync; the next start verifies the volume.
    DiskFailed = 23,
    /// A backup is damaged or incomplete, or the restored data has another digest than recorded.
    BackupInvalid = 24,
    /// The other side (a node, a backup store) could not be reached in time.
    Unreachable = 25,
    /// The node was removed from its cluster: its identity may not be used again.
    Removed = 26,
    /// The store, which can be rebuilt, is damaged; the next start rebuilds it.
    StoreDamaged = 27,
}

impl ExitCode {
    /// The code for a number that a container ended with, when it is one of ours.
    #[must_use]
    pub fn from_status(status: i32) -> Option<Self> {
        Some(match status {
            0 => Self::Success,
            1 => Self::Failure,
            2 => Self::Usage,
            10 => Self::DamageFound,
            20 => Self::VolumeRefused,
            21 => Self::WrongIdentity,
            22 => Self::VolumeInUse,
            23 => Self::DiskFailed,
            24 => Self::BackupInvalid,
            25 => Self::Unreachable,
            26 => Self::Removed,
            27 => Self::StoreDamaged,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_again_by_its_number() {
        for status in 0..=255 {
            if let Some(code) = ExitCode::from_status(status) {
                assert_eq!(i32::from(code as u8), status);
            }
        }
    }
}
