//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::http::Origin;

/// A replicated SPARQL 1.1 database node.
#[derive(Debug, Parser)]
#[command(name = "quadraft-node", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// How logs are written on stderr.
    #[arg(
        long,
        global = true,
        env = "QUADRAFT_LOG_FORMAT",
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve the database from a volume.
    Serve(Box<ServeArguments>),
    /// Check a volume without changing it.
    Verify(VolumeArguments),
    /// Show what is on a volume without changing it.
    Inspect(InspectArguments),
    /// Gather what someone who helps needs of a volume, without its data, without changing it.
    Collect(CollectArguments),
    /// Write out what a volume still holds, without changing it: for one that `recover` cannot repair.
    Export(ExportArguments),
    /// Repair a volume that no node serves from.
    Recover(RecoverArguments),
    /// Stream a consistent snapshot of a running cluster to a backup store.
    Backup(BackupArguments),
    /// Delete one backup from a backup store.
    DeleteBackup(DeleteBackupArguments),
    /// Put a backup onto an empty volume, as the first node of a new cluster.
    Restore(RestoreArguments),
}

#[derive(Clone, Debug, Args)]
pub(super) struct VolumeArguments {
    /// Folder of the volume.
    #[arg(long, env = "QUADRAFT_DATA")]
    pub(super) data: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// Address of the HTTP port.
    #[arg(long, env = "QUADRAFT_LISTEN", default_value = "127.0.0.1:7878")]
    pub(super) listen: SocketAddr,
    /// Address of the peer port [default: the host of --listen and its port + 1].
    #[arg(long, env = "QUADRAFT_PEER_LISTEN")]
    pub(super) peer_listen: Option<SocketAddr>,
    /// Address that serves nothing but metrics [default: none; /metrics is always on --listen].
    #[arg(long, env = "QUADRAFT_METRICS_LISTEN")]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Host name under which the peers reach this node [default: the host of --listen].
    #[arg(long, env = "QUADRAFT_ADVERTISE")]
    pub(super) advertise: Option<String>,
    /// Cluster that the volume must belong to; the node waits to be initialised or added.
    #[arg(long, env = "QUADRAFT_CLUSTER_UUID", conflicts_with = "members")]
    pub(super) cluster_uuid: Option<Uuid>,
    /// HTTP addresses of all initial members of a local cluster, this node's among them.
    #[arg(long, env = "QUADRAFT_MEMBERS", value_delimiter = ',')]
    pub(super) members: Vec<SocketAddr>,
    /// File for the report when the process must not go on.
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
    /// A leader that no majority answers for this long leads no more; a follower that hears none for
    /// nearly twice this long calls an election.
    #[arg(long, env = "QUADRAFT_ELECTION_TIMEOUT_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub(super) election_timeout_ms: u64,
    #[arg(long, env = "QUADRAFT_HEARTBEAT_INTERVAL_MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(5..=20_000))]
    pub(super) heartbeat_interval_ms: u64,
    /// A snapshot is taken after this many log entries; a large one, once the log has grown by as much
    /// as the last one was long.
    #[arg(long, env = "QUADRAFT_SNAPSHOT_AFTER_ENTRIES", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..))]
    pub(super) snapshot_after_entries: u64,
    /// Length that log segments are preallocated with.
    #[arg(long, env = "QUADRAFT_SEGMENT_BYTES", default_value_t = 64 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(65_536..))]
    pub(super) segment_bytes: u64,
    /// Bytes that are kept free on the disk: with fewer, no writes are taken and leadership is handed
    /// on [default: two log segments and 64 MiB].
    #[arg(long, env = "QUADRAFT_DISK_RESERVE_BYTES")]
    pub(super) disk_reserve_bytes: Option<u64>,
    /// Origin whose pages may read and write, as scheme://host[:port], or * for every one; may be
    /// repeated [default: none but the node's own page].
    #[arg(
        long = "cors-origin",
        env = "QUADRAFT_CORS_ORIGINS",
        value_delimiter = ','
    )]
    pub(super) cors_origins: Vec<Origin>,
    /// Longest request body.
    #[arg(long, env = "QUADRAFT_MAXIMUM_REQUEST_BYTES", default_value_t = 64 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1024..=134_217_728))]
    pub(super) maximum_request_bytes: u64,
    /// How long requests are served after the node was told to stop: it is not ready any more, and whoever
    /// sends clients to it needs some time to see that.
    #[arg(long, env = "QUADRAFT_DRAIN_SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600))]
    pub(super) drain_seconds: u64,
    /// Longest time that a query may take.
    #[arg(long, env = "QUADRAFT_QUERY_TIMEOUT_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) query_timeout_ms: u64,
    /// Queries evaluated at the same time.
    #[arg(long, env = "QUADRAFT_MAXIMUM_CONCURRENT_QUERIES", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(super) maximum_concurrent_queries: u64,
    /// How much the process may grow while a query or an update is evaluated, before that is
    /// stopped.
    #[arg(long, env = "QUADRAFT_EVALUATION_MEMORY_BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1_048_576..))]
    pub(super) evaluation_memory_bytes: u64,
    /// Longest time until a write is answered.
    #[arg(long, env = "QUADRAFT_WRITE_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) write_timeout_ms: u64,
    /// Everything on the volume is read and checked once in this time; 0 switches that off.
    #[arg(long, env = "QUADRAFT_SCRUB_INTERVAL_SECONDS", default_value_t = 7 * 24 * 3600, value_parser = clap::value_parser!(u64).range(..=31_622_400))]
    pub(super) scrub_interval_seconds: u64,
    /// Bytes read in a second at most while scrubbing; 0 switches it off.
    #[arg(long, env = "QUADRAFT_SCRUB_BYTES_PER_SECOND", default_value_t = 8 * 1024 * 1024)]
    pub(super) scrub_bytes_per_second: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct InspectArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// List this many of the last log entries by name.
    #[arg(long, default_value_t = 0)]
    pub(super) entries: usize,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CollectArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// Archive (tar) to write: outside of the volume, and not there yet.
    #[arg(long)]
    pub(super) output: PathBuf,
    /// List this many of the last log entries by name.
    #[arg(long, default_value_t = 1000)]
    pub(super) entries: usize,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// File to write as N-Quads: outside of the volume, and not there yet.
    #[arg(long, required_unless_present = "to", conflicts_with = "to")]
    pub(super) output: Option<PathBuf>,
    /// URL of a folder for a backup, which `restore` takes (file:///…, s3://…, gs://…, az://…,
    /// https://…).
    #[arg(long)]
    pub(super) to: Option<String>,
    /// Folder, outside of the volume, for a copy of the store while this runs [default: the folder of
    /// --output; with --to, the system's folder for temporary files].
    #[arg(long)]
    pub(super) scratch: Option<PathBuf>,
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RecoverArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// Cluster that the volume belongs to, for when its superblock cannot say.
    #[arg(long, env = "QUADRAFT_CLUSTER_UUID")]
    pub(super) cluster_uuid: Option<Uuid>,
    /// When vote or log are lost: move everything to quarantine and make the volume a new node,
    /// which must be added to the cluster in place of the old one. Only when the other voters are
    /// a healthy majority.
    #[arg(long)]
    pub(super) allow_new_identity: bool,
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct BackupArguments {
    /// Peer addresses (host:port), tried in order.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(super) from: Vec<String>,
    /// URL of the backup's folder (file:///…, s3://…, gs://…, az://…, https://…).
    #[arg(long)]
    pub(super) to: String,
    /// The cluster to take the backup of; any other is refused [default: that of the node that answers].
    #[arg(long, env = "QUADRAFT_CLUSTER_UUID")]
    pub(super) cluster_uuid: Option<Uuid>,
    /// Who asks for the backup. With it, a run that finds the backup done by an earlier one has nothing
    /// to do; a complete backup of anybody else is never written over.
    #[arg(long)]
    pub(super) backup_id: Option<String>,
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DeleteBackupArguments {
    /// URL of the backup's folder.
    #[arg(long)]
    pub(super) at: String,
    /// The cluster that the backup is of.
    #[arg(long, env = "QUADRAFT_CLUSTER_UUID")]
    pub(super) cluster_uuid: Uuid,
    /// Who asked for the backup; empty when a person did.
    #[arg(long, default_value = "")]
    pub(super) backup_id: String,
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    pub(super) volume: VolumeArguments,
    /// URL of the backup's folder.
    #[arg(long)]
    pub(super) from: String,
    /// The new cluster.
    #[arg(long, env = "QUADRAFT_CLUSTER_UUID")]
    pub(super) cluster_uuid: Uuid,
    /// Host name under which peers will reach the node.
    #[arg(long, env = "QUADRAFT_ADVERTISE", default_value = "127.0.0.1")]
    pub(super) advertise: String,
    /// HTTP port that the node will serve; the peer port is the next one.
    #[arg(long, default_value_t = quadraft_protocol::HTTP_PORT)]
    pub(super) http_port: u16,
    /// The digest that the data must have, besides the one that the backup records.
    #[arg(long)]
    pub(super) expected_digest: Option<String>,
    #[arg(long, env = "QUADRAFT_TERMINATION_MESSAGE")]
    pub(super) termination_message: Option<PathBuf>,
}
