//! Taking in a snapshot that arrives in pieces.

use std::io::{self, Write as _};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tonic::Status;

use super::{SnapshotFile, Snapshots};
use crate::disk::FileStream;
use crate::position::LogPosition;

/// Writes the pieces to a new file, syncs and verifies it, and puts it in its place; what is not
/// accepted is removed.
///
/// # Errors
/// Why it was not accepted.
pub(crate) async fn receive_snapshot(
    snapshots: &Snapshots,
    position: Option<LogPosition>,
    total_bytes: u64,
    pieces: impl Stream<Item = Result<Bytes, Status>> + Unpin,
) -> Result<SnapshotFile, Status> {
    let (path, file) = snapshots.receive().map_err(|error| not_kept(&error))?;
    let accepted = match write_all(file, pieces, total_bytes).await {
        Ok(()) => {
            let (snapshots, path) = (snapshots.clone(), path.clone());
            tokio::task::spawn_blocking(move || snapshots.accept(&path, position))
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| Status::data_loss(crate::describe::describe(&error)))
        }
        Err(status) => Err(status),
    };
    if accepted.is_err()
        && let Err(error) = snapshots.discard(&path)
    {
        tracing::warn!(%error, "failed to remove a refused snapshot");
    }
    accepted
}

/// Writes the stream's bytes to a new file and syncs it.
async fn write_all(
    mut file: FileStream,
    mut pieces: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    total_bytes: u64,
) -> Result<(), Status> {
    let mut received_bytes = 0_u64;
    while let Some(data) = pieces.next().await {
        let data = data?;
        received_bytes += data.len() as u64;
        if received_bytes > total_bytes {
            return Err(Status::invalid_argument(
                "the stream is longer than announced",
            ));
        }
        file = blocking(file, move |file| file.write_all(&data)).await?;
    }
    if received_bytes != total_bytes {
        return Err(Status::invalid_argument(format!(
            "the stream ended after {received_bytes} of {total_bytes} bytes"
        )));
    }
    blocking(file, |file| file.file().sync()).await.map(|_| ())
}

fn not_kept(error: &(dyn std::error::Error + 'static)) -> Status {
    let error = crate::describe::describe(error);
    Status::resource_exhausted(format!("failed to keep the snapshot: {error}"))
}

/// Does something with a file where waiting for the disk holds up nobody else.
async fn blocking(
    mut file: FileStream,
    work: impl FnOnce(&mut FileStream) -> io::Result<()> + Send + 'static,
) -> Result<FileStream, Status> {
    tokio::task::spawn_blocking(move || work(&mut file).map(|()| file))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| not_kept(&error))
}
