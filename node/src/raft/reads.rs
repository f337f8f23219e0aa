//! Reads at the level that the client asks for.

use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::RaftError;
use quadraft_protocol::v1;

use super::failure::{ReadFailure, ReadPoint};
use super::forward::forward_client;
use super::freshness::age_ms;
use super::node::Node;
use super::types::to_position;

/// How recent a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was acknowledged before the read began, by any node (ReadIndex; Ongaro,
    /// "Consensus: Bridging Theory and Practice", section 6.4).
    #[default]
    Linearizable,
    /// At least the log index that the client saw last.
    Session { minimum_log_index: u64 },
    /// Whatever this node has.
    Stale,
}

impl Node {
    /// Waits until a read on this node's state is as recent as `consistency` asks.
    ///
    /// # Errors
    /// When that cannot be had in time.
    pub async fn read_barrier(
        &self,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<ReadPoint, ReadFailure> {
        let until = Instant::now() + deadline;
        match consistency {
            Consistency::Stale => Ok(ReadPoint {
                age_ms: self.age().map(age_ms),
            }),
            Consistency::Session { minimum_log_index } => {
                self.wait_applied(minimum_log_index, until).await?;
                Ok(ReadPoint { age_ms: None })
            }
            Consistency::Linearizable => {
                let index = self.read_index(until).await?;
                self.wait_applied(index, until).await?;
                Ok(ReadPoint { age_ms: None })
            }
        }
    }

    async fn read_index(&self, until: Instant) -> Result<u64, ReadFailure> {
        loop {
            if self.is_stopping() {
                return Err(ReadFailure::Stopped);
            }
            let remaining = until.saturating_duration_since(Instant::now());
            let index = match self.leader() {
                Some((leader, address)) => {
                    let asked = async {
                        if leader == self.node_id().0 {
                            self.read_index_as_leader().await.ok()
                        } else {
                            self.ask_read_index(leader, &address).await
                        }
                    };
                    tokio::select! {
                        index = asked => index,
                        () = self.leader_gone(leader) => None,
                        () = tokio::time::sleep(remaining) => None,
                    }
                }
                None => None,
            };
            if let Some(index) = index {
                return Ok(index);
            }
            if !self.wait_for_another_leader(until).await {
                return Err(ReadFailure::NoLeader);
            }
        }
    }

    async fn ask_read_index(&self, leader: u64, address: &str) -> Option<u64> {
        let mut client = forward_client(address).ok()?;
        let request = v1::ReadIndexRequest {
            envelope: Some(self.peers().envelope(leader)),
        };
        let answer = client.read_index(request).await.ok()?;
        Some(answer.into_inner().log_index)
    }

    /// Confirms with a majority that this node still leads, and tells how far the log was
    /// committed by then. Zero when nothing was.
    pub(crate) async fn read_index_as_leader(&self) -> Result<u64, ReadFailure> {
        match self.raft().get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(to_position(&read.log_id().clone()).index),
            Err(RaftError::Fatal(_)) => Err(ReadFailure::Stopped),
            Err(RaftError::APIError(_)) => Err(ReadFailure::NoLeader),
        }
    }

    async fn wait_applied(&self, index: u64, until: Instant) -> Result<(), ReadFailure> {
        let mut metrics = self.raft().data_metrics();
        loop {
            if self.state().applied().map_or(0, |applied| applied.index) >= index {
                return Ok(());
            }
            let now = Instant::now();
            if now >= until {
                return Err(ReadFailure::TimedOut);
            }
            match tokio::time::timeout(until - now, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ReadFailure::Stopped),
                Err(_) => return Err(ReadFailure::TimedOut),
            }
        }
    }
}
