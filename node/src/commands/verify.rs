//! `verify`: reads everything, writes nothing.

use std::sync::Arc;

use quadraft_protocol::ExitCode;

use super::Output;
use super::arguments::VolumeArguments;
use crate::disk::{RealFileSystem, SharedFileSystem};
use crate::recovery::verify_volume;

pub(super) fn verify(arguments: &VolumeArguments) -> ExitCode {
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let report = verify_volume(&file_system, &arguments.data);
    Output::new(None).report(&report);
    if report.is_clean() {
        ExitCode::Success
    } else {
        ExitCode::DamageFound
    }
}
