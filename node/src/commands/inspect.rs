//! `inspect`: what is on a volume, for people and scripts.

use std::sync::Arc;

use quadraft_protocol::ExitCode;
use serde::Serialize;

use super::Output;
use super::arguments::InspectArguments;
use crate::disk::{OpenMode, RealFileSystem, SharedFileSystem};
use crate::identity::SuperblockFile;
use crate::recovery::{VerifyReport, list_entries, verify_volume};

#[derive(Serialize)]
struct Inspection {
    #[serde(flatten)]
    volume: VerifyReport,
    entries: Vec<String>,
}

pub(super) fn inspect(arguments: &InspectArguments) -> ExitCode {
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let data = &arguments.volume.data;
    let volume = verify_volume(&file_system, data);
    let entries = if arguments.entries == 0 {
        Vec::new()
    } else {
        match SuperblockFile::open(file_system.as_ref(), data, OpenMode::Read) {
            Ok(Some((superblock, _))) => {
                list_entries(&file_system, data, superblock.current(), arguments.entries)
            }
            _ => Vec::new(),
        }
    };
    let known = volume.node_id.is_some();
    Output::new(None).report(&Inspection { volume, entries });
    if known {
        ExitCode::Success
    } else {
        ExitCode::DamageFound
    }
}
