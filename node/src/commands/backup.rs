//! `backup`: streams a snapshot of a running node to a backup store.

use std::time::{Duration, Instant};

use quadraft_protocol::v1::backup_response::{Header, Part};
use quadraft_protocol::{AdminConnection, BackupReport, ConnectionError, ExitCode, NodeId, v1};

use super::Output;
use super::arguments::BackupArguments;
use super::backup_store::{BackupFolder, BackupStoreError, FORMAT_VERSION, Manifest};

const CONNECT_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Store(#[from] BackupStoreError),
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
            Self::Store(BackupStoreError::Url { .. }) => ExitCode::Usage,
            Self::Store(
                BackupStoreError::Manifest { .. } | BackupStoreError::UnknownFormat { .. },
            ) => ExitCode::BackupInvalid,
            Self::NoNode(_) | Self::Stream(_) | Self::Store(_) => ExitCode::Unreachable,
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
        Some(manifest) => (manifest, true),
        None => (write_backup(&folder, &arguments.from).await?, false),
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

async fn write_backup(folder: &BackupFolder, from: &[String]) -> Result<Manifest, BackupError> {
    let mut stream = first_stream(from).await?;
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
    let log_id = log_id.ok_or(BackupError::Malformed("nothing has been applied yet"))?;
    let progress = super::output_progress(total_bytes);

    let mut upload = folder.upload();
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
) -> Result<tonic::Streaming<v1::BackupResponse>, BackupError> {
    let mut reasons = Vec::new();
    for address in from {
        let attempt: Result<_, ConnectionError> = async {
            let mut connection = AdminConnection::connect(address, CONNECT_DEADLINE).await?;
            connection.backup(v1::BackupRequest::default()).await
        }
        .await;
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                tracing::warn!(%error, "this node gives no snapshot; trying the next one");
                reasons.push(error.to_string());
            }
        }
    }
    Err(BackupError::NoNode(reasons.join("; ")))
}
