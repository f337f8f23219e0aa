//! `verify`: reads everything, writes nothing.

use std::sync::Arc;

use quadraft_protocol::ExitCode;

use super::Output;
use super::arguments::VolumeArguments;
use super::progress::Watched;
use crate::disk::{RealFileSystem, SharedFileSystem};
use crate::recovery::verify_volume;

pub(super) fn verify(arguments: &VolumeArguments) -> ExitCode {
    let real: SharedFileSystem = Arc::new(RealFileSystem);
    let data = &arguments.data;
    let report = verify_volume(&Watched::reading(&real, data, 1), data);
    Output::new(None).report(&report);
    report.exit_code()
}
