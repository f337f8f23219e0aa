//! The wire protocol between Quadraft nodes, their operator and their tools.
//!
//! Whoever talks to a node links this crate and never the store: the generated gRPC types
//! ([`v1`]), a client with deadlines ([`AdminConnection`]), and the documents that a node prints
//! or leaves as its termination message ([`RecoveryReport`], [`BackupReport`], [`ExitCode`]).

mod connection;
mod exit_code;
mod node_id;
mod report;

pub use connection::{AdminConnection, ConnectionError, connect_peer};
pub use exit_code::ExitCode;
pub use node_id::{NodeId, ParseNodeIdError};
pub use report::{
    BackupDeletionReport, BackupReport, RecoveryOutcome, RecoveryReport, RefusalReason,
    RestoreReport,
};

/// The port that serves SPARQL, health and recovery reports over HTTP.
pub const HTTP_PORT: u16 = 7878;
/// The port that serves peers and administration over gRPC.
pub const PEER_PORT: u16 = 7879;
/// The port that serves metrics over HTTP.
pub const METRICS_PORT: u16 = 9464;

/// Metadata key of the gRPC error detail that names the leader's node id.
pub const LEADER_METADATA_KEY: &str = "quadraft-leader";

/// Messages and services generated from `proto/quadraft.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic
)]
pub mod v1 {
    tonic::include_proto!("quadraft.v1");
}
