//! `backup`: streams a snapshot of a running node to a backup store.

use std::time::{Duration, Instant};

use quadraft_protocol::v1::backup_response::{Header, Part};
use quadraft_protocol::{AdminConnection, BackupReport, ConnectionError, ExitCode, NodeId, v1};

use uuid::Uuid;

use super::Output;
use super::arguments::BackupArguments;
use super::backup_store::{BackupFolder, BackupStoreError, FORMAT_VERSION, Manifest, Owner};

const CONNECT_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Store(#[from] BackupStoreError),
    #[error(
        "there is a backup at {url} already: of cluster {cluster_uuid} at log index {log_index}, asked for \
         by {asked_by}. It is not written over"
    )]
    OtherBackup {
        url: String,
        cluster_uuid: String,
        log_index: u64,
        asked_by: String,
    },
    #[error(
        "the node at {address} serves cluster {found}, not {wanted}: that cluster was made anew"
    )]
    OtherCluster {
        address: String,
        found: String,
        wanted: Uuid,
    },
    #[error("no node gave a snapshot: {0}")]
    NoNode(String),
    #[error("the stream of the snapshot broke off")]
    Stream(#[source] Box<tonic::Status>),
    #[error("the stream of the snapshot makes no sense: {0}")]
    Malformed(&'static str),
}

impl BackupError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::OtherBackup { .. } => ExitCode::BackupInvalid,
            Self::OtherCluster { .. } => ExitCode::WrongIdentity,
            Self::NoNode(_) | Self::Stream(_) => ExitCode::Unreachable,
            Self::Malformed(_) => ExitCode::Failure,
        }
    }
}

pub(super) async fn backup(arguments: BackupArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    match try_backup(&arguments).await {
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

async fn try_backup(arguments: &BackupArguments) -> Result<BackupReport, BackupError> {
    let started = Instant::now();
    let folder = BackupFolder::open(&arguments.to)?;
    let (manifest, already_complete) = match folder.manifest().await? {
        Some(manifest) if is_this(&manifest, arguments) => (manifest, true),
        Some(manifest) => {
            let by_a_person = manifest.backup_id.is_empty();
            return Err(BackupError::OtherBackup {
                url: folder.url,
                cluster_uuid: manifest.cluster_uuid,
                log_index: manifest.log_index,
                asked_by: if by_a_person {
                    "a person".to_owned()
                } else {
                    manifest.backup_id
                },
            });
        }
        None => (write_backup(&folder, arguments).await?, false),
    };
    Ok(BackupReport {
        location: folder.url,
        cluster_uuid: manifest.cluster_uuid,
        node_id: manifest.node_id,
        log_term: manifest.log_term,
        log_index: manifest.log_index,
        digest: manifest.digest,
        quads: manifest.quads,
        bytes: manifest.bytes,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        already_complete,
    })
}

/// Whether a complete backup is the one that is asked for. A person's two calls are two backups.
fn is_this(manifest: &Manifest, arguments: &BackupArguments) -> bool {
    let is_mine = arguments.backup_id.as_ref() == Some(&manifest.backup_id);
    let wanted = arguments.cluster_uuid.map(|uuid| uuid.to_string());
    is_mine && wanted.is_none_or(|wanted| wanted == manifest.cluster_uuid)
}

async fn write_backup(
    folder: &BackupFolder,
    arguments: &BackupArguments,
) -> Result<Manifest, BackupError> {
    let (address, mut stream) = first_stream(&arguments.from).await?;
    let next = stream
        .message()
        .await
        .map_err(|status| BackupError::Stream(Box::new(status)))?;
    let Some(Part::Header(header)) = next.and_then(|message| message.part) else {
        return Err(BackupError::Malformed("it does not begin with a header"));
    };
    let Header {
        cluster_uuid,
        node_id,
        log_id,
        digest,
        quads,
        total_bytes,
    } = header;
    if let Some(wanted) = arguments.cluster_uuid
        && cluster_uuid != wanted.to_string()
    {
        return Err(BackupError::OtherCluster {
            address,
            found: cluster_uuid,
            wanted,
        });
    }
    let log_id = log_id.ok_or(BackupError::Malformed("nothing has been applied yet"))?;
    let owner = Owner {
        cluster_uuid: cluster_uuid.clone(),
        backup_id: arguments.backup_id.clone().unwrap_or_default(),
    };
    folder.take(&owner).await?;
    let progress = super::output_progress(total_bytes);

    let mut upload = folder.upload(total_bytes);
    let mut received_bytes = 0;
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| BackupError::Stream(Box::new(status)))?
    {
        let Some(Part::Data(data)) = message.part else {
            return Err(BackupError::Malformed("it has a second header"));
        };
        received_bytes = upload.write(&data).await?;
        progress.set_position(received_bytes);
    }
    if received_bytes != total_bytes {
        return Err(BackupError::Malformed("it ended early"));
    }
    let (bytes, sha256) = upload.finish().await?;
    progress.finish();
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        backup_id: owner.backup_id,
        cluster_uuid,
        node_id: NodeId(node_id),
        log_term: log_id.term,
        log_index: log_id.index,
        digest,
        quads,
        bytes,
        sha256,
    };
    folder.complete(&manifest).await?;
    Ok(manifest)
}

async fn first_stream(
    from: &[String],
) -> Result<(String, tonic::Streaming<v1::BackupResponse>), BackupError> {
    let mut reasons = Vec::new();
    for address in from {
        let attempt: Result<_, ConnectionError> = async {
            let mut connection = AdminConnection::connect(address, CONNECT_DEADLINE).await?;
            connection.backup(v1::BackupRequest::default()).await
        }
        .await;
        match attempt {
            Ok(stream) => return Ok((address.clone(), stream)),
            Err(error) => {
                tracing::warn!(%error, "this node gives no snapshot; trying the next one");
                reasons.push(error.to_string());
            }
        }
    }
    Err(BackupError::NoNode(reasons.join("; ")))
}
