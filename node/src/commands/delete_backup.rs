//! `delete-backup`: takes away the folder of one backup, and of no other.

use quadraft_protocol::{BackupDeletionReport, ExitCode};

use super::Output;
use super::arguments::DeleteBackupArguments;
use super::backup_store::{BackupFolder, BackupStoreError, Owner};

#[derive(Debug, thiserror::Error)]
enum DeletionError {
    #[error(transparent)]
    Store(#[from] BackupStoreError),
    #[error(
        "what lies at {url} is not the backup that is to be deleted: it is of cluster {}, asked for by \
         {:?}. Nothing was deleted",
        found.cluster_uuid, found.backup_id
    )]
    OtherBackup { url: String, found: Owner },
    #[error("something lies at {url} that does not say whose it is: nothing was deleted")]
    NoOwner { url: String },
}

impl DeletionError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::OtherBackup { .. } | Self::NoOwner { .. } => ExitCode::BackupInvalid,
        }
    }
}

pub(super) async fn delete_backup(arguments: DeleteBackupArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    match try_delete(&arguments).await {
        Ok(report) => {
            output.report(&report);
            ExitCode::Success
        }
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn try_delete(
    arguments: &DeleteBackupArguments,
) -> Result<BackupDeletionReport, DeletionError> {
    let folder = BackupFolder::open(&arguments.at)?;
    let wanted = Owner {
        cluster_uuid: arguments.cluster_uuid.to_string(),
        backup_id: arguments.backup_id.clone(),
    };
    match folder.owner().await? {
        Some(found) if found == wanted => folder.delete().await?,
        Some(found) => {
            return Err(DeletionError::OtherBackup {
                url: folder.url,
                found,
            });
        }
        None if folder.is_empty().await? => {}
        None => return Err(DeletionError::NoOwner { url: folder.url }),
    }
    Ok(BackupDeletionReport {
        location: folder.url,
    })
}
