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
    /// Completes `report` with the reason; the exit code follows from it.
    #[must_use]
    pub fn new(
        mut report: RecoveryReport,
        reason: RefusalReason,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
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
        report.reason = is_out_of_space(error).then_some(RefusalReason::DiskFull);
        report.message = describe(error);
        Self {
            report: Box::new(report),
            exit_code: ExitCode::DiskFailed,
        }
    }
}

/// Whether an operation of the file system found no space, somewhere among an error's causes.
fn is_out_of_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(crate::disk::is_out_of_space)
        {
            return true;
        }
        next = error.source();
    }
    false
}
