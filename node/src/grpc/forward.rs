//! What followers ask of the leader on behalf of their clients.

use std::sync::Arc;
use std::time::Duration;

use quadraft_protocol::v1;
use quadraft_protocol::v1::forward_server::Forward;
use tonic::{Request, Response, Status};

use super::raft::refuse_envelope;
use crate::raft::Node;
use crate::sparql::update::Write;
use crate::state::RequestId;

#[derive(Debug)]
pub(super) struct ForwardService {
    node: Arc<Node>,
}

impl ForwardService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), Status> {
        self.node
            .peers()
            .check(envelope)
            .map_err(|error| refuse_envelope(&error))
    }
}

#[tonic::async_trait]
impl Forward for ForwardService {
    async fn write(
        &self,
        request: Request<v1::WriteRequest>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let id: [u8; 16] = request
            .request_id
            .as_ref()
            .try_into()
            .map_err(|_| Status::internal("a request id has 16 bytes"))?;
        let write: Write = serde_json::from_slice(&request.write)
            .map_err(|error| Status::internal(format!("the write does not decode: {error}")))?;
        let deadline = Duration::from_millis(request.deadline_ms);
        let committed = self
            .node
            .write_as_leader(RequestId(id), write, deadline)
            .await?;
        Ok(Response::new(v1::WriteResponse {
            log_index: committed.log_index,
            duplicate: committed.duplicate,
            created: committed.created,
        }))
    }

    async fn read_index(
        &self,
        request: Request<v1::ReadIndexRequest>,
    ) -> Result<Response<v1::ReadIndexResponse>, Status> {
        self.check(request.get_ref().envelope.as_ref())?;
        let log_index = self
            .node
            .read_index_as_leader()
            .await
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(v1::ReadIndexResponse { log_index }))
    }
}
