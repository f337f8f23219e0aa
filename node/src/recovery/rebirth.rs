//! A new identity for a volume whose promises are lost.

use std::path::Path;

use quadraft_protocol::{NodeId, RecoveryOutcome, RecoveryReport};
use uuid::Uuid;

use super::refusal::Refusal;
use crate::disk::{OpenMode, SharedFileSystem, VolumeLock, quarantine, remove_durably};
use crate::identity::{Superblock, SuperblockFile};

/// Moves everything on the volume to quarantine and gives it a new identity in the same cluster.
/// The member that it carried must be removed from the cluster, and the new one added: its data
/// comes from the others. Can be interrupted and run again.
///
/// # Errors
/// When the volume is in use, or the disk fails.
pub fn give_new_identity(
    file_system: &SharedFileSystem,
    data: &Path,
    cluster_uuid: Option<Uuid>,
    refused: &RecoveryReport,
) -> Result<RecoveryReport, Refusal> {
    let mut report = refused.clone();
    let failed = |report: &RecoveryReport, error: &(dyn std::error::Error + 'static)| {
        Refusal::disk_failure(report.clone(), error)
    };
    let _lock =
        VolumeLock::acquire(file_system.as_ref(), data).map_err(|error| failed(&report, &error))?;

    let previous = SuperblockFile::open(file_system.as_ref(), data, OpenMode::Read)
        .ok()
        .flatten()
        .map(|(file, _)| file.current().clone());
    let cluster_uuid = previous
        .as_ref()
        .map(|superblock| superblock.cluster_uuid)
        .filter(|uuid| !uuid.is_nil())
        .or(cluster_uuid)
        .unwrap_or(Uuid::nil());
    let previous_node_id = previous
        .as_ref()
        .map_or(NodeId(0), |superblock| superblock.node_id);

    // The superblock goes last: until then the volume still says whose it was, and is refused.
    for name in ["log", "vote", "store", "snapshots", "superblock"] {
        let path = data.join(name);
        let moved = file_system.exists(&path).and_then(|exists| {
            if exists {
                quarantine(file_system.as_ref(), data, &path).map(Some)
            } else {
                Ok(None)
            }
        });
        match moved {
            Ok(Some(kept)) => report.recovered_files.push(format!(
                "{} (kept as {})",
                path.display(),
                kept.display()
            )),
            Ok(None) => {}
            Err(error) => return Err(failed(&report, &error)),
        }
    }
    let leftover = data.join("superblock.new");
    if file_system
        .exists(&leftover)
        .map_err(|error| failed(&report, &error))?
    {
        remove_durably(file_system.as_ref(), &leftover).map_err(|error| failed(&report, &error))?;
    }
    let born = Superblock::new(cluster_uuid, previous_node_id);
    report.outcome = RecoveryOutcome::NewIdentity;
    report.node_id = Some(born.node_id);
    report.previous_node_id = previous.as_ref().map(|superblock| superblock.node_id);
    report.cluster_uuid = Some(cluster_uuid.to_string());
    report.boot_count = 0;
    report.message = format!(
        "promises were lost ({}); everything is in quarantine and the volume is node {} now",
        refused.message, born.node_id
    );
    SuperblockFile::create(file_system.as_ref(), data, born)
        .map_err(|error| failed(&report, &error))?;
    Ok(report)
}
