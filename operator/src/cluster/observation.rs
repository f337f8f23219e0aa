//! What a reconcile sees of one cluster, in plain types: the input of the plan.

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::{ExitCode, NodeId, RecoveryOutcome};

use crate::api::{BackupLocation, BackupPhase};

/// The number of a member's place, counted from 0.
pub type Slot = u8;

/// Everything that a plan is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    pub record: Record,
    /// Every slot of which anything exists.
    pub slots: BTreeMap<Slot, SlotObservation>,
    pub restore: JobState<RestoreFindings>,
    pub service: ServiceObservation,
    /// Jobs that have ended and do not say so themselves yet.
    pub job_ends: Vec<JobEnd>,
    /// Completed backups in the namespace, looked at only where one may have to be restored.
    pub backups: Vec<BackupSeen>,
    /// How the backup stands that is to be taken after a recovery.
    pub recovery_backup: Option<BackupPhase>,
    /// The highest number of volumes that a cluster of this name may use.
    pub newest_volume_generation: u32,
    /// When pods are restarted that only an upgrade of the operator makes otherwise, while it is not
    /// this cluster's turn.
    pub waits_for_turn: Option<String>,
}

/// The way of clients to the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObservation {
    /// UIDs of the pods that the Service of the clients sends requests to.
    pub ready_pods: BTreeSet<String>,
    pub answer: ServiceAnswer,
}

/// What came of a request through the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceAnswer {
    /// None was made: it could not have been answered, or it was answered before.
    #[default]
    NotAsked,
    Answered,
    Failed(String),
}

/// What earlier reconciles persisted in the cluster's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub cluster_uuid: Option<String>,
    pub initialised: bool,
    pub initial_members: BTreeMap<Slot, NodeId>,
    /// The node ids that were last seen in each slot.
    pub nodes: BTreeMap<Slot, NodeId>,
    /// Recovery attempts that had been made when the slot's member was last healthy.
    pub settled_attempts: BTreeMap<Slot, u32>,
    pub high_water: BTreeMap<NodeId, Mark>,
    /// Whether the cluster was Ready, which includes that the Service answered.
    pub ready: bool,
    /// How often each slot's node had been started when that was said.
    pub boot_counts: BTreeMap<Slot, u64>,
    /// Those of them after which a backup was taken.
    pub backed_up_attempts: BTreeMap<Slot, u32>,
    pub backed_up_volume_generation: u32,
    /// A loss of all data that is being made good.
    pub loss: Option<Loss>,
    /// The UUIDs that the cluster had before its data was lost.
    pub lost_cluster_uuids: Vec<String>,
}

/// A loss of all data that is being made good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub message: String,
    /// The backup that is being restored, once everything else is done.
    pub backup: Option<String>,
    /// Those that could not be restored.
    pub damaged_backups: BTreeSet<String>,
}

/// A completed backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupSeen {
    /// Name of the RdfBackup.
    pub name: String,
    pub cluster_uuid: String,
    /// In seconds since 1970.
    pub completed_at: i64,
    pub log_index: u64,
    pub digest: String,
    /// Where it was asked to be put, for what is put beside it.
    pub destination: BackupLocation,
}

/// The volume of a node id and how far its log was seen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub volume_uid: String,
    pub index: u64,
}

/// What exists for one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotObservation {
    pub volume: Option<Volume>,
    pub stateful_set: Option<StatefulSetState>,
    pub pod: Option<Pod>,
    pub node: Option<Node>,
    /// How far the node is with its start, in its own words, when it does not answer others yet.
    pub start: Option<String>,
    /// For how long the node should have answered and has not.
    pub unreachable_seconds: i64,
    /// The Job that exports what the volume still holds, after all data was lost.
    pub export: JobState<()>,
    /// Recovery Jobs by their attempt.
    pub recoveries: BTreeMap<u32, JobState<RecoveryFindings>>,
}

impl SlotObservation {
    /// Whether the slot's pod was scaled away so that a Job may use its volume.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.stateful_set
            .as_ref()
            .is_some_and(|set| set.replicas == 0)
    }

    /// Whether the node should answer and does not, and has not said why. One that opens its volume
    /// slowly has.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        let should_run = self
            .stateful_set
            .as_ref()
            .is_some_and(|set| set.replicas > 0 && !set.deleting);
        should_run
            && self.node.is_none()
            && self.start.is_none()
            && self.refused().is_none()
            && self.cannot_use_volume().is_none()
            && !self.ended_as_removed()
    }

    /// Whether a recovery Job may have, or wait for, the slot's volume.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.is_fenced() && self.recovery_attempt() > 0
    }

    /// The number of the newest recovery attempt; 0 when there was none.
    #[must_use]
    pub fn recovery_attempt(&self) -> u32 {
        let newest_job = self.recoveries.keys().next_back().copied().unwrap_or(0);
        let fenced_for = self
            .stateful_set
            .as_ref()
            .map_or(0, |set| set.recovery_attempt);
        newest_job.max(fenced_for)
    }

    /// How the pod's container ended with one of the node program's own codes, when it does not run.
    fn ended_with(&self, code: ExitCode) -> Option<&Termination> {
        let pod = self.pod.as_ref()?;
        if pod.running || pod.deleting {
            return None;
        }
        let termination = pod.termination.as_ref()?;
        (ExitCode::from_status(termination.exit_code) == Some(code)).then_some(termination)
    }

    /// Whether the node program refused the volume and does not run.
    #[must_use]
    pub fn refused(&self) -> Option<&Termination> {
        self.ended_with(ExitCode::VolumeRefused)
    }

    /// Whether the volume is that of another cluster, or in a format that the node program does not
    /// know: nothing that recovery could repair.
    #[must_use]
    pub fn cannot_use_volume(&self) -> Option<&Termination> {
        self.ended_with(ExitCode::WrongIdentity)
    }

    /// Whether the pod's container ended because its node had been removed from the cluster.
    #[must_use]
    pub fn ended_as_removed(&self) -> bool {
        self.ended_with(ExitCode::Removed).is_some()
    }
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub uid: String,
    pub resource_version: String,
    /// The label that says which cluster the volume was made for.
    pub cluster_uuid: Option<String>,
    pub requested_bytes: u64,
    pub deleting: bool,
    /// Labelled as that of a cluster whose data was lost.
    pub is_kept: bool,
}

/// A StatefulSet of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatefulSetState {
    pub uid: String,
    pub resource_version: String,
    pub replicas: i32,
    pub template_hash: String,
    pub spec_hash: String,
    /// The attempt that the set was fenced for the last time.
    pub recovery_attempt: u32,
    /// When it was scaled away for a Job, in seconds since 1970, and how long ago that is.
    pub fenced_at: Option<i64>,
    pub fenced_seconds: i64,
    pub deleting: bool,
}

/// A member's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    pub template_hash: String,
    pub spec_hash: String,
    /// The node's container runs now.
    pub running: bool,
    /// The pod's condition Ready: the kubelet's probes succeed.
    pub ready: bool,
    pub deleting: bool,
    /// The machine that it was bound to.
    pub machine: Option<String>,
    /// How the container ended the last time.
    pub termination: Option<Termination>,
    /// What the pod's label says that it does.
    pub role: Option<String>,
    /// Why the container does not run, as the kubelet or scheduler puts it.
    pub waiting: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Termination {
    pub exit_code: i32,
    pub message: String,
}

/// A Job as far as the plan cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobState<T> {
    #[default]
    Absent,
    /// Its container has not run yet.
    Waiting(WaitingJob),
    Running,
    Succeeded(T),
    Failed {
        exit_code: Option<i32>,
        message: String,
        /// The Job had been allowed to give the volume a new identity.
        with_new_identity: bool,
    },
}

/// A Job whose container has not run yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitingJob {
    pub name: String,
    pub uid: String,
    /// How long the Job exists.
    pub seconds: i64,
    /// What keeps it from running, in the words of whoever does.
    pub obstacle: Option<String>,
    /// The spec of the cluster has changed since it was made.
    pub is_outdated: bool,
    pub deleting: bool,
}

/// The end of a Job's container, to be kept in the Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    pub name: String,
    pub patch: serde_json::Value,
}

/// What a recovery Job reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryFindings {
    pub outcome: RecoveryOutcome,
    pub message: String,
    pub entries_replayed: u64,
}

/// What a restore Job reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreFindings {
    pub node_id: NodeId,
    pub location: String,
    pub digest: String,
    pub quads: u64,
    pub source_cluster_uuid: String,
}

/// What the node program plays in Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Waiting,
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

/// The answer of a node about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub node_id: NodeId,
    pub cluster_uuid: String,
    pub version: String,
    pub boot_count: u64,
    pub role: Role,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub last_log_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub digest: String,
    pub ready: bool,
    pub not_ready_reason: String,
    pub membership: Option<Membership>,
    /// On the leader: how far each member's log matches.
    pub matching: BTreeMap<NodeId, u64>,
    /// Nodes whose digest differed at an equal index, and where.
    pub diverged_from: BTreeMap<NodeId, Divergence>,
    /// Log ids of entries that the node cannot read and that no peer has given it yet.
    pub unreadable: Vec<String>,
    /// Bytes left on its disk, when they are so few that it takes no writes.
    pub short_of_space: Option<u64>,
    pub recovery: Option<RecoveryFindings>,
}

/// Where two nodes were found to have different data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divergence {
    pub log_index: u64,
    /// The digest of the node that says so.
    pub own_digest: String,
    pub other_digest: String,
    /// The last index at which they were compared and found equal; 0 when there was none.
    pub equal_log_index: u64,
}

/// Raft's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Log index of the entry that holds it.
    pub index: u64,
    /// More than one set of voters is in force.
    pub joint: bool,
    pub voters: BTreeSet<NodeId>,
    /// Voters and learners, with the slot that their address names.
    pub members: BTreeMap<NodeId, Option<Slot>>,
}
