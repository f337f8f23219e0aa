//! `inspect`: what is on a volume, for people and scripts.

use std::path::Path;
use std::sync::Arc;

use quadraft_protocol::ExitCode;
use serde::Serialize;

use super::Output;
use super::arguments::InspectArguments;
use super::progress::Watched;
use crate::disk::{OpenMode, RealFileSystem, SharedFileSystem};
use crate::identity::SuperblockFile;
use crate::recovery::{VerifyReport, list_entries, verify_volume};

#[derive(Serialize)]
pub(super) struct Inspection {
    #[serde(flatten)]
    pub(super) volume: VerifyReport,
    /// The last entries of the log by name and size.
    pub(super) entries: Vec<String>,
}

pub(super) fn inspect(arguments: &InspectArguments) -> ExitCode {
    let real: SharedFileSystem = Arc::new(RealFileSystem);
    let data = &arguments.volume.data;
    let passes = if arguments.entries > 0 { 2 } else { 1 };
    let inspection = inspect_volume(
        &Watched::reading(&real, data, passes),
        data,
        arguments.entries,
    );
    let code = inspection.volume.exit_code();
    Output::new(None).report(&inspection);
    code
}

/// What `verify` says of a volume, and the names of its last `entries` entries. Writes nothing.
pub(super) fn inspect_volume(
    file_system: &SharedFileSystem,
    data: &Path,
    entries: usize,
) -> Inspection {
    let volume = verify_volume(file_system, data);
    let entries = if entries == 0 {
        Vec::new()
    } else {
        match SuperblockFile::open(file_system.as_ref(), data, OpenMode::Read) {
            Ok(Some((superblock, _))) => {
                list_entries(file_system, data, superblock.current(), entries)
            }
            _ => Vec::new(),
        }
    };
    Inspection { volume, entries }
}
