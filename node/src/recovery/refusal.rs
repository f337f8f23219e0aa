//! Why a volume is refused, as a report and an exit code.

use quadraft_protocol::{ExitCode, RecoveryOutcome, RecoveryReport, RefusalReason};

use crate::describe::describe;

/// A volume that must not be served from.
#[derive(Debug)]
pub struct Refusal {
    pub report: Box<RecoveryReport>,
    pub exit_code: ExitCode,
}

impl Refusal {
    /// Completes `report` with the reason; the exit code follows from it. When the operating system
    /// did not let the volume be read or written, nothing is known to be wrong with it: that is
    /// [`Self::disk_failure`], whatever was being read, and no reason to give up its identity.
    #[must_use]
    pub fn new(
        mut report: RecoveryReport,
        reason: RefusalReason,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        if is_caused_by(error, crate::disk::is_denied) {
            return Self::disk_failure(report, error);
        }
        report.outcome = RecoveryOutcome::Refused;
        report.reason = Some(reason);
        report.message = describe(error);
        let exit_code = match reason {
            RefusalReason::WrongCluster | RefusalReason::UnknownFormat => ExitCode::WrongIdentity,
            RefusalReason::InUse => ExitCode::VolumeInUse,
            RefusalReason::DiskFull => ExitCode::DiskFailed,
            _ => ExitCode::VolumeRefused,
        };
        Self {
            report: Box::new(report),
            exit_code,
        }
    }

    /// The disk failed while the volume was opened, or is full: nothing is known to be lost.
    #[must_use]
    pub fn disk_failure(
        mut report: RecoveryReport,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        report.outcome = RecoveryOutcome::Refused;
        report.reason =
            is_caused_by(error, crate::disk::is_out_of_space).then_some(RefusalReason::DiskFull);
        report.message = describe(error);
        Self {
            report: Box::new(report),
            exit_code: ExitCode::DiskFailed,
        }
    }
}

/// Whether an operation of the file system failed so, somewhere among an error's causes.
fn is_caused_by(
    error: &(dyn std::error::Error + 'static),
    failure: fn(&std::io::Error) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(failure) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use rustix::io::Errno;

    use super::*;
    use crate::identity::VoteError;
    use crate::recovery::store::DerivedError;

    #[test]
    fn what_the_operating_system_denies_is_no_loss() {
        let refused = |reason, error: &(dyn std::error::Error + 'static)| {
            let report = RecoveryReport::new(RecoveryOutcome::Clean, "");
            let refusal = Refusal::new(report, reason, error);
            (refusal.report.reason, refusal.exit_code)
        };
        let failed = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::MFILE] {
            let vote = VoteError::Io {
                path: PathBuf::from("vote"),
                source: failed(errno),
            };
            let store = DerivedError::Quarantine {
                what: "the store".into(),
                source: failed(errno),
            };
            let expected = (None, ExitCode::DiskFailed);
            assert_eq!(refused(RefusalReason::VoteUnreadable, &vote), expected);
            assert_eq!(refused(RefusalReason::StoreUnrecoverable, &store), expected);
        }
        // A disk that does not give the vote has lost it.
        let vote = VoteError::Io {
            path: PathBuf::from("vote"),
            source: failed(Errno::IO),
        };
        assert_eq!(
            refused(RefusalReason::VoteUnreadable, &vote),
            (Some(RefusalReason::VoteUnreadable), ExitCode::VolumeRefused)
        );
    }
}
