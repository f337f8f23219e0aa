//! Nodes that only say how they are: many of them in one process, told from each other by the name under
//! which they are asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use quadraft_protocol::v1::admin_server::{Admin, AdminServer};
use quadraft_protocol::{HTTP_PORT, PEER_PORT, v1};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

/// How often a busy node has something new in a second.
const WRITES_PER_SECOND: u128 = 20;

#[derive(Clone, Debug)]
struct Node {
    cluster_uuid: String,
    member: Option<v1::Member>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    nodes: Arc<Mutex<HashMap<String, Node>>>,
    busy: Arc<AtomicBool>,
    started: Instant,
}

/// The name of the pod that was asked.
#[derive(Clone, Debug)]
struct Asked(String);

impl Nodes {
    /// Serves all nodes at one address, on the ports of a node.
    ///
    /// # Errors
    /// When the ports are taken.
    pub(crate) async fn serve(address: IpAddr) -> Result<Self, String> {
        let nodes = Self {
            nodes: Arc::default(),
            busy: Arc::default(),
            started: Instant::now(),
        };
        let http = TcpListener::bind((address, HTTP_PORT))
            .await
            .map_err(|error| error.to_string())?;
        let ready = Router::new().route("/readyz", get(|| async { "ready" }));
        tokio::spawn(async move { axum::serve(http, ready).await });
        let named = MapRequestLayer::new(|mut request: axum::http::Request<_>| {
            let host = request.uri().host().unwrap_or_default();
            let pod = host.split('.').next().unwrap_or_default().to_owned();
            request.extensions_mut().insert(Asked(pod));
            request
        });
        let server = tonic::transport::Server::builder()
            .layer(named)
            .add_service(AdminServer::new(nodes.clone()));
        tokio::spawn(server.serve((address, PEER_PORT).into()));
        Ok(nodes)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the node of a pod.
    pub(crate) fn start(&self, pod: &str, cluster_uuid: &str) {
        let node = Node {
            cluster_uuid: cluster_uuid.to_owned(),
            member: None,
        };
        self.lock().entry(pod.to_owned()).or_insert(node);
    }

    /// From now on all nodes are written to, or rest.
    pub(crate) fn be_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
    }

    fn index(&self) -> u64 {
        let since = if self.busy.load(Ordering::SeqCst) {
            self.started.elapsed()
        } else {
            Duration::ZERO
        };
        u64::try_from(since.as_millis() * WRITES_PER_SECOND / 1000).unwrap_or(0) + 10
    }
}

fn node_id(pod: &str) -> u64 {
    let digest = Sha256::digest(pod.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
        .max(1)
}

fn asked<T>(request: &Request<T>) -> Result<String, Status> {
    let asked = request.extensions().get::<Asked>();
    asked
        .map(|asked| asked.0.clone())
        .ok_or_else(|| Status::invalid_argument("who is asked?"))
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this node only says how it is"))
}

#[tonic::async_trait]
impl Admin for Nodes {
    type BackupStream = futures::stream::Empty<Result<v1::BackupResponse, Status>>;

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let pod = asked(&request)?;
        let node = self.lock().get(&pod).cloned();
        let node = node.ok_or_else(|| Status::unavailable("it was not started"))?;
        let id = node_id(&pod);
        let mut status = v1::StatusResponse {
            version: "0.1.0".to_owned(),
            node_id: id,
            cluster_uuid: node.cluster_uuid,
            boot_count: 1,
            ..v1::StatusResponse::default()
        };
        let Some(member) = node.member else {
            status.set_role(v1::Role::Waiting);
            return Ok(Response::new(status));
        };
        let index = self.index();
        let at = |index| Some(v1::LogId { term: 1, index });
        status.set_role(v1::Role::Leader);
        (status.term, status.leader_node_id) = (1, id);
        (status.last_log_id, status.committed, status.applied) = (at(index), at(index), at(index));
        status.membership = Some(v1::Membership {
            log_id: at(1),
            configurations: vec![v1::VoterSet { voters: vec![id] }],
            members: vec![member],
        });
        status.digest = format!("{index:064x}");
        status.ready = true;
        Ok(Response::new(status))
    }

    async fn initialise(
        &self,
        request: Request<v1::InitialiseRequest>,
    ) -> Result<Response<v1::InitialiseResponse>, Status> {
        let pod = asked(&request)?;
        let member = request.into_inner().members.into_iter().next();
        if let Some(node) = self.lock().get_mut(&pod) {
            node.member = member;
        }
        Ok(Response::new(v1::InitialiseResponse::default()))
    }

    async fn claim(
        &self,
        _: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        nothing()
    }

    async fn add_learner(
        &self,
        _: Request<v1::AddLearnerRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        nothing()
    }

    async fn promote(
        &self,
        _: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        nothing()
    }

    async fn remove(
        &self,
        _: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        nothing()
    }

    async fn update_member(
        &self,
        _: Request<v1::UpdateMemberRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        nothing()
    }

    async fn transfer_leadership(
        &self,
        _: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        nothing()
    }

    async fn snapshot(
        &self,
        _: Request<v1::SnapshotRequest>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        nothing()
    }

    async fn verify(
        &self,
        _: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        nothing()
    }

    async fn digest_at(
        &self,
        _: Request<v1::DigestAtRequest>,
    ) -> Result<Response<v1::DigestAtResponse>, Status> {
        nothing()
    }

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        nothing()
    }
}
