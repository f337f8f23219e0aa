//! Connections to a node's peer port, with deadlines.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::v1;
use crate::v1::admin_client::AdminClient;

/// Entries and forwarded writes are bounded at the edges; this bound is above all of them.
pub(crate) const MAXIMUM_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// A node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("{address:?} is not an address of the form host:port")]
    Address {
        address: String,
        source: tonic::transport::Error,
    },
    #[error("failed to connect to {address}")]
    Connect {
        address: String,
        source: tonic::transport::Error,
    },
    #[error("{address} answered {code:?}: {message}", code = source.code(), message = source.message())]
    Call {
        address: String,
        source: Box<tonic::Status>,
    },
}

impl ConnectionError {
    /// The answer of the node, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<&tonic::Status> {
        match self {
            Self::Call { source, .. } => Some(source),
            Self::Address { .. } | Self::Connect { .. } => None,
        }
    }
}

/// Makes a channel to the peer port at `address` (host:port) that connects when first used.
///
/// # Errors
/// When `address` is not of that form.
pub fn connect_peer(address: &str, connect_timeout: Duration) -> Result<Channel, ConnectionError> {
    Ok(endpoint(address, connect_timeout)?.connect_lazy())
}

fn endpoint(address: &str, connect_timeout: Duration) -> Result<Endpoint, ConnectionError> {
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| ConnectionError::Address {
            address: address.to_owned(),
            source,
        })?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5)))
}

/// A connection to the administration service of one node.
#[derive(Clone, Debug)]
pub struct AdminConnection {
    address: String,
    deadline: Duration,
    client: AdminClient<Channel>,
}

impl AdminConnection {
    /// Connects to the node at `address` (host:port); each call ends within `deadline`.
    ///
    /// # Errors
    /// When the address is malformed or nobody answers there in time.
    pub async fn connect(address: &str, deadline: Duration) -> Result<Self, ConnectionError> {
        let channel = endpoint(address, deadline)?
            .connect()
            .await
            .map_err(|source| ConnectionError::Connect {
                address: address.to_owned(),
                source,
            })?;
        Ok(Self {
            address: address.to_owned(),
            deadline,
            client: AdminClient::new(channel).max_decoding_message_size(MAXIMUM_MESSAGE_BYTES),
        })
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    async fn finish<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, ConnectionError> {
        // The deadline travels with the call; this one ends it also when the peer is gone.
        let answer = tokio::time::timeout(self.deadline, call)
            .await
            .unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        answer
            .map(tonic::Response::into_inner)
            .map_err(|source| ConnectionError::Call {
                address: self.address.clone(),
                source: Box::new(source),
            })
    }
}

macro_rules! calls {
    ($($(#[$documentation:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        impl AdminConnection {
            $(
                $(#[$documentation])*
                ///
                /// # Errors
                /// When the node refuses or does not answer in time.
                pub async fn $name(
                    &mut self,
                    message: v1::$request,
                ) -> Result<v1::$response, ConnectionError> {
                    let request = self.request(message);
                    let mut client = self.client.clone();
                    self.finish(client.$name(request)).await
                }
            )*
        }
    };
}

calls! {
    /// Who the node is and how it stands.
    status(StatusRequest) -> StatusResponse;
    /// Claims an unclaimed volume for a cluster.
    claim(ClaimRequest) -> ClaimResponse;
    /// Initialises the cluster, once.
    initialise(InitialiseRequest) -> InitialiseResponse;
    /// Adds a learner.
    add_learner(AddLearnerRequest) -> MembershipResponse;
    /// Makes a caught-up learner a voter.
    promote(PromoteRequest) -> MembershipResponse;
    /// Removes a voter or learner.
    remove(RemoveRequest) -> MembershipResponse;
    /// Replaces a member's addresses.
    update_member(UpdateMemberRequest) -> MembershipResponse;
    /// Hands leadership to another voter and waits until it leads.
    transfer_leadership(TransferLeadershipRequest) -> TransferLeadershipResponse;
    /// Takes a snapshot now.
    snapshot(SnapshotRequest) -> SnapshotResponse;
    /// Recomputes the digest and compares it with the one kept.
    verify(VerifyRequest) -> VerifyResponse;
    /// The digest that the node had at a log index.
    digest_at(DigestAtRequest) -> DigestAtResponse;
}

impl AdminConnection {
    /// Streams a consistent snapshot of the state. Only reaching the node is bound by the
    /// deadline; the stream takes as long as the data needs.
    ///
    /// # Errors
    /// When the node refuses or does not begin to answer in time.
    pub async fn backup(
        &mut self,
        message: v1::BackupRequest,
    ) -> Result<tonic::Streaming<v1::BackupResponse>, ConnectionError> {
        let mut client = self.client.clone();
        self.finish(client.backup(tonic::Request::new(message)))
            .await
    }
}
