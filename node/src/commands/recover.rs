//! `recover`: offline repair of one volume. Can be interrupted and run again.

use std::sync::Arc;

use quadraft_protocol::{ExitCode, RecoveryReport, RefusalReason};

use super::Output;
use super::arguments::RecoverArguments;
use super::progress::Watched;
use crate::disk::{RealFileSystem, SharedFileSystem};
use crate::log::LogOptions;
use crate::recovery::{OpenOptions, Refusal, StorePlace, give_new_identity, open_volume};

pub(super) fn recover(arguments: &RecoverArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let watched = Watched::reading(&file_system, &arguments.volume.data, 1);
    let recovered = try_recover(&watched, arguments);
    drop(watched);
    let (report, code) = match recovered {
        Ok(report) => (report, ExitCode::Success),
        Err(refusal) => (*refusal.report, refusal.exit_code),
    };
    tracing::info!(outcome = ?report.outcome, "{}", report.message);
    output.report(&report);
    code
}

fn try_recover(
    file_system: &SharedFileSystem,
    arguments: &RecoverArguments,
) -> Result<RecoveryReport, Refusal> {
    let options = OpenOptions {
        data: arguments.volume.data.clone(),
        cluster_uuid: arguments.cluster_uuid,
        log: LogOptions::default(),
        store: StorePlace::Volume,
        lets_go_of_applied: true,
    };
    // What `serve` mends by itself is mended here the same way.
    match open_volume(file_system, &options) {
        Ok((_, report)) => Ok(report),
        Err(refusal) if arguments.allow_new_identity && promises_are_lost(&refusal.report) => {
            give_new_identity(
                file_system,
                &options.data,
                options.cluster_uuid,
                &refusal.report,
            )
        }
        Err(refusal) => Err(refusal),
    }
}

/// Whether a new identity is what the volume needs: never for one that belongs to somebody else,
/// is in use, has a newer format, or holds half a restore.
fn promises_are_lost(report: &RecoveryReport) -> bool {
    matches!(
        report.reason,
        Some(
            RefusalReason::SuperblockUnreadable
                | RefusalReason::VoteUnreadable
                | RefusalReason::LogDamaged
                | RefusalReason::LogMissing
                | RefusalReason::LogInconsistent
                | RefusalReason::StoreUnrecoverable
                | RefusalReason::SetBack
        )
    )
}
