//! Entries for peers that cannot read them.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use quadraft_protocol::v1;
use quadraft_protocol::v1::repair_server::Repair;
use tonic::{Request, Response, Status};

use super::raft::refuse_envelope;
use crate::position::LogPosition;
use crate::raft::{PeerEntry, RepairSource, SNAPSHOT_CHUNK_BYTES, position_message};

/// Bytes of entries in one answer, unless the first alone has more.
const MAXIMUM_ANSWER_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct RepairService {
    source: Arc<RepairSource>,
}

impl RepairService {
    pub(super) fn new(source: Arc<RepairSource>) -> Self {
        Self { source }
    }
}

fn to_message(entry: PeerEntry) -> v1::FetchedEntry {
    use v1::fetched_entry::State;
    let (state, payload) = match entry {
        PeerEntry::Held(payload) => (State::Held, payload),
        PeerEntry::Unreadable => (State::Unreadable, bytes::Bytes::new()),
        PeerEntry::NotHeld => (State::NotHeld, bytes::Bytes::new()),
        PeerEntry::Purged => (State::Purged, bytes::Bytes::new()),
    };
    v1::FetchedEntry {
        state: state.into(),
        payload,
    }
}

#[tonic::async_trait]
impl Repair for RepairService {
    type FetchSnapshotStream = BoxStream<'static, Result<v1::FetchSnapshotResponse, Status>>;

    async fn fetch_entries(
        &self,
        request: Request<v1::FetchEntriesRequest>,
    ) -> Result<Response<v1::FetchEntriesResponse>, Status> {
        let request = request.into_inner();
        self.source
            .check(request.envelope.as_ref())
            .map_err(|error| refuse_envelope(&error))?;
        let source = self.source.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            let mut entries = Vec::new();
            for log_id in &request.log_ids {
                if bytes >= MAXIMUM_ANSWER_BYTES {
                    break;
                }
                let entry = to_message(source.entry(LogPosition {
                    term: log_id.term,
                    index: log_id.index,
                }));
                bytes += entry.payload.len();
                entries.push(entry);
            }
            entries
        });
        let entries = reading
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::FetchEntriesResponse {
            entries,
            responder: Some(self.source.responder()),
        }))
    }

    async fn seen(
        &self,
        request: Request<v1::SeenRequest>,
    ) -> Result<Response<v1::SeenResponse>, Status> {
        let seen = self
            .source
            .seen(request.get_ref())
            .map_err(Status::unauthenticated)?;
        Ok(Response::new(v1::SeenResponse { seen }))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<v1::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        use v1::fetch_snapshot_response::{Header, Part};
        let request = request.into_inner();
        self.source
            .check(request.envelope.as_ref())
            .map_err(|error| refuse_envelope(&error))?;
        let source = self.source.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let Some(snapshot) = source
                .snapshot()
                .map_err(|error| Status::data_loss(crate::describe::describe(&error)))?
            else {
                return Err(Status::not_found("there is no snapshot here"));
            };
            let opened = snapshot
                .open()
                .and_then(|stream| Ok((stream.file().length_bytes()?, stream)))
                .map_err(|error| Status::unavailable(error.to_string()))?;
            Ok((snapshot.summary().status.applied, opened))
        });
        let (position, (total_bytes, stream)) = opening
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        let header = Header {
            last_log_id: position.map(position_message),
            total_bytes,
            responder: Some(self.source.responder()),
        };
        let message = |part| Ok(v1::FetchSnapshotResponse { part: Some(part) });
        let data = futures::stream::try_unfold(stream, move |mut stream| async move {
            let reading = tokio::task::spawn_blocking(move || {
                stream
                    .next_chunk(SNAPSHOT_CHUNK_BYTES)
                    .map(|chunk| (chunk, stream))
            });
            let (chunk, stream) = reading
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| Status::data_loss(error.to_string()))?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let part = Some(Part::Data(chunk.into()));
            Ok(Some((v1::FetchSnapshotResponse { part }, stream)))
        });
        let first = futures::stream::once(async move { message(Part::Header(header)) });
        Ok(Response::new(first.chain(data).boxed()))
    }
}
