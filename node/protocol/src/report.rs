//! The JSON documents that the node's commands print and leave as termination messages.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// What opening or recovering a volume came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryOutcome {
    /// The volume was empty; a new identity was born on it.
    Created,
    /// Nothing was damaged.
    Clean,
    /// Something was damaged or torn, and is whole again under the same identity.
    Recovered,
    /// The volume cannot be served from; `reason` says why.
    Refused,
    /// Promises (vote, log) were lost: everything is in quarantine and the volume has a new
    /// identity, which must join the cluster as a new member.
    NewIdentity,
}

/// Why a volume is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    SuperblockUnreadable,
    WrongCluster,
    UnknownFormat,
    VoteUnreadable,
    LogDamaged,
    LogMissing,
    LogInconsistent,
    StoreUnrecoverable,
    RestoreIncomplete,
    InUse,
    /// A peer has seen more of this node than is on the volume.
    SetBack,
    /// Nothing is damaged: the volume can be opened once there is space.
    DiskFull,
}

/// What recovery found and did when a volume was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    pub outcome: RecoveryOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RefusalReason>,
    /// One sentence for a person.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// With [`RecoveryOutcome::NewIdentity`]: the identity that the volume had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_node_id: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uuid: Option<String>,
    #[serde(default)]
    pub boot_count: u64,
    /// The log held entries that the store had not applied yet.
    pub wal_recovered: bool,
    /// Entries applied from the log to bring the store up to date.
    pub entries_replayed: u64,
    /// Bytes of a provably unacknowledged tail that were cut off.
    pub torn_tail_truncated_bytes: u64,
    /// Files with damage, each with its first bad offset.
    pub corrupted_files: Vec<String>,
    /// Files made whole again, or moved to quarantine and rebuilt.
    pub recovered_files: Vec<String>,
    /// Orders among last log, applied, snapshot, purged and committed that did not hold.
    pub log_inconsistencies: Vec<String>,
    /// The store was rebuilt from a snapshot and the log.
    pub state_machine_repaired: bool,
    /// Log ids (term.index) that are known by name only: they are fetched from peers while the node
    /// runs.
    #[serde(default)]
    pub unreadable_entries: Vec<String>,
    /// Log ids (term.index) fetched from peers.
    pub repaired_from_peers: Vec<String>,
    pub duration_ms: u64,
}

impl RecoveryReport {
    /// A report of a volume on which nothing was found yet.
    #[must_use]
    pub fn new(outcome: RecoveryOutcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: None,
            message: message.into(),
            node_id: None,
            previous_node_id: None,
            cluster_uuid: None,
            boot_count: 0,
            wal_recovered: false,
            entries_replayed: 0,
            torn_tail_truncated_bytes: 0,
            corrupted_files: Vec::new(),
            recovered_files: Vec::new(),
            log_inconsistencies: Vec::new(),
            state_machine_repaired: false,
            unreadable_entries: Vec::new(),
            repaired_from_peers: Vec::new(),
            duration_ms: 0,
        }
    }
}

/// What `backup` wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// URL of the backup's folder in the store.
    pub location: String,
    pub cluster_uuid: String,
    pub node_id: NodeId,
    pub log_term: u64,
    pub log_index: u64,
    /// 64 hexadecimal digits.
    pub digest: String,
    pub quads: u64,
    pub bytes: u64,
    pub duration_ms: u64,
    /// An earlier run with the same name had already completed this backup.
    pub already_complete: bool,
}

/// What `delete-backup` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDeletionReport {
    pub location: String,
}

/// What `restore` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    pub location: String,
    pub cluster_uuid: String,
    pub node_id: NodeId,
    /// Cluster that the backup was taken from.
    pub source_cluster_uuid: String,
    pub log_index: u64,
    /// The digest recomputed from the restored quads; equal to the recorded one.
    pub digest: String,
    pub quads: u64,
    pub duration_ms: u64,
    pub already_complete: bool,
}
