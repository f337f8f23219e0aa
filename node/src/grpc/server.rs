//! Serving the peer port.

use std::sync::Arc;
use std::time::Duration;

use quadraft_protocol::v1::admin_server::AdminServer;
use quadraft_protocol::v1::forward_server::ForwardServer;
use quadraft_protocol::v1::raft_server::RaftServer;
use quadraft_protocol::v1::repair_server::RepairServer;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::admin::{AdminService, UnclaimedService};
use super::forward::ForwardService;
use super::raft::RaftService;
use super::repair::RepairService;
use crate::raft::{Node, RepairSource};

/// Above every entry that is accepted at the edges.
const MAXIMUM_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

fn builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
}

/// Connections that send at once: the server's own setting holds for listeners that it makes. An
/// answer is more than one packet, and the second would wait until the first is acknowledged, which
/// the other side puts off for 40 ms.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Serves a running node until `shutdown` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let repair = repair_server(node.repair_source().clone());
    builder()
        .add_service(repair)
        .add_service(
            RaftServer::new(RaftService::new(node.clone()))
                .max_decoding_message_size(MAXIMUM_MESSAGE_BYTES)
                .max_encoding_message_size(MAXIMUM_MESSAGE_BYTES),
        )
        .add_service(
            ForwardServer::new(ForwardService::new(node.clone()))
                .max_decoding_message_size(MAXIMUM_MESSAGE_BYTES)
                .max_encoding_message_size(MAXIMUM_MESSAGE_BYTES),
        )
        .add_service(AdminServer::new(AdminService::new(node)))
        .serve_with_incoming_shutdown(incoming(listener), shutdown)
        .await
}

fn repair_server(source: Arc<RepairSource>) -> RepairServer<RepairService> {
    RepairServer::new(RepairService::new(source)).max_encoding_message_size(MAXIMUM_MESSAGE_BYTES)
}

/// Serves entries to peers that cannot read them, and nothing else: before the Raft core runs, and
/// while it may itself wait for entries from peers.
///
/// # Errors
/// When the listener fails.
pub async fn serve_repair(
    source: Arc<RepairSource>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    builder()
        .add_service(repair_server(source))
        .serve_with_incoming_shutdown(incoming(listener), shutdown)
        .await
}

/// Serves a volume that belongs to no cluster yet, until it is claimed: who it is, and the claim.
///
/// # Errors
/// When the listener fails.
pub async fn serve_unclaimed(
    service: UnclaimedService,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    builder()
        .add_service(AdminServer::new(service))
        .serve_with_incoming_shutdown(incoming(listener), shutdown)
        .await
}
