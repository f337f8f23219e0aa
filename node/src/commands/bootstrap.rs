//! Clusters that are started without an operator: claiming the volumes and initialising, once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quadraft_protocol::{AdminConnection, ConnectionError, v1};
use uuid::Uuid;

use crate::raft::Node;

const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// The other members may not be started yet: they are asked again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The peer port of a local member: the one after its HTTP port.
pub(super) fn peer_address(http: SocketAddr) -> SocketAddr {
    SocketAddr::new(http.ip(), http.port().saturating_add(1))
}

/// Makes this node and the other members one cluster, unless it is one already. Goes on trying
/// until all members have answered.
pub(super) async fn initialise(node: Arc<Node>, own: v1::Member, others: Vec<SocketAddr>) {
    loop {
        if node.is_stopping() || node.has_membership() {
            return;
        }
        match try_initialise(&node, own.clone(), &others).await {
            Ok(()) => {
                tracing::info!(members = others.len() + 1, "the cluster is initialised");
                return;
            }
            Err(error) => {
                tracing::info!(%error, "waiting for all members before the cluster is initialised");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BootstrapError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("two members are the same node")]
    SameNode,
    #[error("this node refuses: {0}")]
    Refused(String),
}

async fn try_initialise(
    node: &Node,
    own: v1::Member,
    others: &[SocketAddr],
) -> Result<(), BootstrapError> {
    let cluster_uuid = node.cluster_uuid().to_string();
    let mut members = BTreeMap::from([(own.node_id, own)]);
    for http in others {
        let peer = peer_address(*http).to_string();
        let mut connection = AdminConnection::connect(&peer, CALL_DEADLINE).await?;
        connection
            .claim(v1::ClaimRequest {
                cluster_uuid: cluster_uuid.clone(),
            })
            .await?;
        let status = connection.status(v1::StatusRequest {}).await?;
        let member = v1::Member {
            node_id: status.node_id,
            peer_address: peer,
            http_address: http.to_string(),
        };
        if members.insert(status.node_id, member).is_some() {
            return Err(BootstrapError::SameNode);
        }
    }
    node.initialise_with(members.into_values().collect())
        .await
        .map_err(|error| BootstrapError::Refused(error.to_string()))
}

/// Gives an unclaimed volume a new cluster of its own.
pub(super) fn claim_for_new_cluster(
    superblock: &mut crate::identity::SuperblockFile,
) -> Result<Uuid, crate::identity::IdentityError> {
    let cluster_uuid = Uuid::new_v4();
    superblock.update(|superblock| superblock.cluster_uuid = cluster_uuid)?;
    Ok(cluster_uuid)
}

/// Locks a shared superblock, whatever happened to those who held it before.
pub(super) fn unshare<T>(shared: Arc<std::sync::Mutex<T>>) -> Option<T> {
    Arc::into_inner(shared).map(|mutex| mutex.into_inner().unwrap_or_else(PoisonError::into_inner))
}
