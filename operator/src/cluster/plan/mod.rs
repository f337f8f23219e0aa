//! What to do next, decided from an observation alone: no client, no clock, no randomness.
//!
//! A plan holds actions that are harmless at any time (`ensure`) and at most one step that changes
//! a membership, stops a process or deletes something. That there is only one place for a step is
//! what makes two voluntary disruptions at once impossible; the rules beside each step make sure
//! that none is taken unless the voters that stay are healthy.

mod after_recovery;
mod creation;
mod disruption;
mod loss;
mod membership;
mod recovery;
mod replacement;
mod restart;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::NodeId;

pub use after_recovery::due_backup;
use loss::Assessment;
pub use restart::is_due_to_upgrade;

use super::health::{self, Leadership};
use super::observation::{BackupSeen, Membership, Observation, Slot, SlotObservation};
use super::validate::ValidatedCluster;
use crate::names::{ANNOTATION_GIVE_UP_VOLUMES, ROLE_FOLLOWER, ROLE_LEADER};

/// What to do now, and how the cluster stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub ensure: Vec<Ensure>,
    pub step: Option<Step>,
    pub verdict: Verdict,
    /// How many pods must stay through evictions.
    pub minimum_available: u32,
}

/// An object that should exist as built; applying it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensure {
    /// The slot's volume, at least of the wanted size.
    Volume { slot: Slot },
    /// What the slot's pod does, as a label that a Service chooses by.
    Role {
        slot: Slot,
        pod_uid: String,
        role: &'static str,
    },
    /// The slot's StatefulSet.
    Member {
        slot: Slot,
        replicas: i32,
        recovery_attempt: u32,
        /// Since when it is scaled away for a Job, in seconds since 1970.
        fenced_at: Option<i64>,
    },
}

/// One step that is not harmless at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a cluster UUID and persist it.
    MakeClusterUuid,
    /// Persist the UUID that the volumes carry: they hold this cluster's data.
    AdoptClusterUuid(String),
    /// Persist the node ids that the cluster will be initialised with.
    RecordInitialMembers(BTreeMap<Slot, NodeId>),
    /// Initialise the cluster through the node in slot `contact`.
    Initialise {
        contact: Slot,
        members: BTreeMap<Slot, NodeId>,
    },
    /// Persist that the cluster is initialised.
    RecordInitialised,
    /// Run the restore Job on the volume of slot 0.
    StartRestore,
    AddLearner {
        slot: Slot,
        node_id: NodeId,
        membership_index: u64,
    },
    Promote {
        slot: Slot,
        node_id: NodeId,
        membership_index: u64,
    },
    Remove {
        slot: Slot,
        node_id: NodeId,
        membership_index: u64,
    },
    TransferLeadership {
        from: Slot,
        to: NodeId,
    },
    /// Delete the pod, so that its StatefulSet makes it anew from the present template.
    RestartPod {
        slot: Slot,
        pod_uid: String,
    },
    /// Delete the volume and the pod of a member that has left the membership and does not answer, without
    /// waiting for its machine: the slot comes back empty under a new identity.
    Discard {
        slot: Slot,
        volume_uid: String,
        volume_resource_version: String,
        pod_uid: Option<String>,
    },
    DeleteStatefulSet {
        slot: Slot,
        uid: String,
        resource_version: String,
    },
    DeleteVolume {
        slot: Slot,
        uid: String,
        resource_version: String,
    },
    /// Scale the slot to 0, so that a Job may use its volume.
    Fence {
        slot: Slot,
        attempt: u32,
    },
    StartRecovery {
        slot: Slot,
        attempt: u32,
        allow_new_identity: bool,
    },
    /// Scale the slot to 1 again.
    Unfence {
        slot: Slot,
        attempt: u32,
    },
    /// Persist that the cluster's data is lost, in words.
    RecordLoss(String),
    /// Persist that it is not.
    ForgetLoss,
    /// Export what a lost cluster's volume still holds, beside a backup.
    StartExport {
        slot: Slot,
        volume_uid: String,
        beside: Box<BackupSeen>,
    },
    /// Label the volume of a lost cluster: it is not this cluster's any more, and nobody deletes it.
    KeepVolume {
        slot: Slot,
        uid: String,
    },
    /// Persist that the cluster begins anew from this backup, on new volumes.
    RecordRestore(Box<BackupSeen>),
    /// Persist the number of the volumes that an earlier cluster of this name used last.
    RecordVolumeGeneration(u32),
    /// Make the RdfBackup of this name, after a recovery.
    TakeBackup(String),
    /// Delete a Job whose container never ran, so that it is made anew.
    WithdrawJob {
        name: String,
        uid: String,
    },
}

/// How the cluster stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the spec wants it.
    Steady,
    /// Something goes on or is waited for.
    Progressing { reason: Reason, message: String },
    /// A person must decide.
    Stalled { reason: Reason, message: String },
}

macro_rules! reasons {
    ($($reason:ident),* $(,)?) => {
        /// Why a cluster is not steady: the reason of its conditions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($reason,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$reason),*];
        }
    };
}

reasons! {
    Paused,
    Creating,
    Initialising,
    Restoring,
    RestoreFailed,
    RestoredVolumeLost,
    WaitingForMembers,
    WaitingForLeader,
    QuorumLost,
    Joining,
    ScalingDown,
    ReplacingMember,
    Recovering,
    RecoveryFailed,
    JobCannotStart,
    VolumeNotUsable,
    RollingRestart,
    MembershipChanging,
    AllVolumesEmpty,
    AllVolumesGone,
    MajorityLost,
    VolumesDisagree,
    VolumeOfAnotherCluster,
    VolumeWithoutCluster,
    VolumesExist,
    InitialMembersChanged,
    DataBeforeInitialisation,
    VolumeSetBack,
    Diverged,
    DataLost,
    RestoringLatestBackup,
    BackupAfterRecovery,
}

impl Step {
    /// Whether it takes data or a running state away, or lets one member's data take the place of
    /// another's.
    fn destroys(&self) -> bool {
        match self {
            Self::Remove { .. }
            | Self::AddLearner { .. }
            | Self::Promote { .. }
            | Self::TransferLeadership { .. }
            | Self::RestartPod { .. }
            | Self::Discard { .. }
            | Self::DeleteStatefulSet { .. }
            | Self::DeleteVolume { .. }
            | Self::StartRecovery {
                allow_new_identity: true,
                ..
            } => true,
            Self::MakeClusterUuid
            | Self::AdoptClusterUuid(_)
            | Self::RecordInitialMembers(_)
            | Self::Initialise { .. }
            | Self::RecordInitialised
            | Self::StartRestore
            | Self::Fence { .. }
            | Self::StartRecovery { .. }
            | Self::Unfence { .. }
            | Self::RecordLoss(_)
            | Self::ForgetLoss
            | Self::StartExport { .. }
            | Self::KeepVolume { .. }
            | Self::RecordRestore(_)
            | Self::RecordVolumeGeneration(_)
            | Self::TakeBackup(_)
            | Self::WithdrawJob { .. } => false,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, formatter)
    }
}

/// The decision of one part of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing to do here.
    Nothing,
    Step(Step, Reason, String),
    Wait(Reason, String),
    Stall(Reason, String),
}

/// Collects the decisions of all parts: the first step is taken, the worst word is said.
#[derive(Debug, Default)]
struct Draft {
    ensure: Vec<Ensure>,
    step: Option<Step>,
    progress: Option<(Reason, String)>,
    stall: Option<(Reason, String)>,
}

impl Draft {
    fn add(&mut self, decision: Decision) {
        match decision {
            Decision::Nothing => {}
            Decision::Step(step, reason, message) => {
                if self.step.is_none() {
                    self.step = Some(step);
                    self.progress = Some((reason, message));
                }
            }
            Decision::Wait(reason, message) => {
                self.progress.get_or_insert((reason, message));
            }
            Decision::Stall(reason, message) => {
                self.stall.get_or_insert((reason, message));
            }
        }
    }

    /// Whether something is to be done or waited for.
    fn is_decided(&self) -> bool {
        self.step.is_some() || self.progress.is_some() || self.stall.is_some()
    }

    /// Data is lost, and what is left of it may come back: that is the word, whatever else is.
    fn wait_for_volumes(&mut self, awaited: &str) {
        self.stall = None;
        self.progress = Some((
            Reason::DataLost,
            format!(
                "data is lost, and no backup is restored while what is left may come back: {awaited}. To \
                 give volumes up, annotate the cluster with {ANNOTATION_GIVE_UP_VOLUMES} and their UIDs"
            ),
        ));
    }

    /// Two members have different data, and nobody knows which is right: whatever would take evidence
    /// away, or hand one of them on as the truth, waits for a person.
    fn keep_evidence(&mut self, diverged: &[(NodeId, NodeId)]) {
        let Some((one, other)) = diverged.first() else {
            return;
        };
        if self.step.as_ref().is_some_and(Step::destroys) {
            self.step = None;
        }
        self.stall = Some((
            Reason::Diverged,
            format!(
                "nodes {one} and {other} have different data at the same log index: nothing is removed, \
                 restarted, recovered under a new identity or scaled down until a person decides"
            ),
        ));
    }

    fn finish(self, minimum_available: impl FnOnce(Option<&Step>) -> u32) -> Plan {
        let verdict = match (self.stall, self.progress) {
            (Some((reason, message)), _) => Verdict::Stalled { reason, message },
            (None, Some((reason, message))) => Verdict::Progressing { reason, message },
            (None, None) => Verdict::Steady,
        };
        Plan {
            minimum_available: minimum_available(self.step.as_ref()),
            ensure: self.ensure,
            step: self.step,
            verdict,
        }
    }
}

/// Decides what to do next.
#[must_use]
pub fn plan(cluster: &ValidatedCluster, observation: &Observation) -> Plan {
    let mut draft = Draft::default();
    let mut leadership = None;
    if cluster.paused {
        draft.add(Decision::Wait(
            Reason::Paused,
            "spec.paused is true: nothing is changed".to_owned(),
        ));
    } else {
        let saving = observation.record.loss.as_ref();
        match (creation::cluster_uuid(cluster, observation), saving) {
            (Err(decision), _) => draft.add(decision),
            (Ok(_), Some(loss)) if loss.backup.is_none() => {
                loss::save(cluster, observation, loss, &mut draft);
            }
            (Ok(uuid), _) if observation.record.initialised => {
                leadership = health::leadership(observation, uuid);
                initialised(cluster, observation, uuid, leadership.as_ref(), &mut draft);
            }
            (Ok(uuid), _) => creation::create(cluster, observation, uuid, &mut draft),
        }
    }
    draft.keep_evidence(&health::divergences(observation));
    draft.finish(|step| {
        disruption::minimum_available(cluster, observation, leadership.as_ref(), step)
    })
}

/// A cluster that was initialised: drive its membership and pods towards the spec.
fn initialised(
    cluster: &ValidatedCluster,
    observation: &Observation,
    uuid: &str,
    leadership: Option<&Leadership<'_>>,
    draft: &mut Draft,
) {
    let set_back = health::set_back(cluster, observation);
    let assessment = match leadership {
        Some(_) => Assessment::Usual,
        None => loss::assess(cluster, observation),
    };
    if assessment == Assessment::Lost {
        let words = match without_leader(observation) {
            Decision::Stall(_, words) => words,
            _ => "no volume of the cluster can be served from".to_owned(),
        };
        draft.add(Decision::Step(
            Step::RecordLoss(words.clone()),
            Reason::DataLost,
            words,
        ));
        return;
    }

    for (slot, seen) in &observation.slots {
        draft.add(recovery::recover(
            *slot,
            seen,
            recovery::may_lose_identity(*slot, leadership),
            observation
                .record
                .settled_attempts
                .get(slot)
                .copied()
                .unwrap_or(0),
            cluster.spec.jobs.start_deadline_seconds(),
        ));
    }
    for (slot, seen) in &observation.slots {
        draft.add(restart::replace_what_serves_nothing(*slot, seen));
    }
    if let Some((slot, evidence)) = set_back {
        ensure_existing(observation, &BTreeSet::new(), draft);
        draft.add(Decision::Stall(
            Reason::VolumeSetBack,
            format!("slot {slot}: {evidence}; no membership is changed until a person decides"),
        ));
        return;
    }
    let Some(leadership) = leadership else {
        ensure_existing(observation, &membership_slots(observation), draft);
        draft.add(without_leader(observation));
        if let Assessment::Waits(awaited) = assessment {
            draft.wait_for_volumes(&awaited);
        }
        return;
    };

    let retiring = membership::retiring(cluster, observation, leadership);
    let member_slots: BTreeSet<Slot> = leadership
        .membership
        .members
        .values()
        .flatten()
        .copied()
        .collect();
    let joining = membership::slot_to_create(cluster, observation, leadership);
    for slot in slots_of(observation)
        .union(&member_slots)
        .copied()
        .chain(joining)
        .filter(|slot| !retiring.contains(slot))
    {
        ensure_slot(observation, slot, draft);
    }
    draft.ensure.extend(roles(observation, leadership));
    if let Some(slot) = joining {
        draft.add(Decision::Wait(
            Reason::Joining,
            format!("slot {slot} is being made"),
        ));
    }
    draft.add(replacement::replace(cluster, observation, leadership));
    let backup = after_recovery::backup(cluster, observation, leadership);
    draft.add(membership::step(
        cluster,
        observation,
        leadership,
        uuid,
        backup == Decision::Nothing,
    ));
    draft.add(membership::retire(observation, &retiring));
    draft.add(membership::missing(cluster, observation, leadership));
    if backup == Decision::Nothing {
        draft.add(restart::roll(cluster, observation, leadership));
    }
    draft.add(backup);
}

/// The pods whose label does not say what they do. While nobody is known to lead they stay as they are.
fn roles(observation: &Observation, leadership: &Leadership<'_>) -> Vec<Ensure> {
    let seen = observation.slots.iter();
    seen.filter_map(|(slot, seen)| {
        let pod = seen.pod.as_ref().filter(|pod| !pod.deleting)?;
        let node = seen.node.as_ref()?;
        let role = if *slot == leadership.slot {
            ROLE_LEADER
        } else if leadership.membership.members.contains_key(&node.node_id) {
            ROLE_FOLLOWER
        } else {
            return None;
        };
        (pod.role.as_deref() != Some(role)).then(|| Ensure::Role {
            slot: *slot,
            pod_uid: pod.uid.clone(),
            role,
        })
    })
    .collect()
}

/// The slots of which a volume or a StatefulSet exists.
fn slots_of(observation: &Observation) -> BTreeSet<Slot> {
    observation
        .slots
        .iter()
        .filter(|(_, seen)| seen.volume.is_some() || seen.stateful_set.is_some())
        .map(|(slot, _)| *slot)
        .collect()
}

/// The newest membership that any node tells of, led or not.
pub fn known_membership(observation: &Observation) -> Option<&Membership> {
    observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref()?.membership.as_ref())
        .max_by_key(|membership| membership.index)
}

fn membership_slots(observation: &Observation) -> BTreeSet<Slot> {
    known_membership(observation)
        .map(|membership| membership.members.values().flatten().copied().collect())
        .unwrap_or_default()
}

/// Keeps what exists running: the start of every member is parallel and waits for no other.
fn ensure_existing(observation: &Observation, more: &BTreeSet<Slot>, draft: &mut Draft) {
    for slot in slots_of(observation).union(more) {
        ensure_slot(observation, *slot, draft);
    }
}

fn ensure_slot(observation: &Observation, slot: Slot, draft: &mut Draft) {
    let seen = observation.slots.get(&slot);
    let volume_is_deleted =
        seen.is_some_and(|seen| seen.volume.as_ref().is_some_and(|volume| volume.deleting));
    let set = seen.and_then(|seen| seen.stateful_set.as_ref());
    if !volume_is_deleted {
        draft.ensure.push(Ensure::Volume { slot });
    }
    // What is on its way out goes before anything takes its place.
    if set.is_some_and(|set| set.deleting) || (set.is_none() && volume_is_deleted) {
        return;
    }
    let is_recovering = seen.is_some_and(SlotObservation::is_recovering);
    draft.ensure.push(Ensure::Member {
        slot,
        replicas: i32::from(!is_recovering),
        recovery_attempt: seen.map_or(0, SlotObservation::recovery_attempt),
        fenced_at: set.and_then(|set| set.fenced_at).filter(|_| is_recovering),
    });
}

/// What to say of an initialised cluster that nobody leads. Nothing is done: there is nothing
/// that is safe to do.
fn without_leader(observation: &Observation) -> Decision {
    let existing = slots_of(observation);
    let answering: BTreeSet<Slot> = observation
        .slots
        .iter()
        .filter(|(_, seen)| seen.node.is_some())
        .map(|(slot, _)| *slot)
        .collect();
    let Some(membership) = known_membership(observation) else {
        if existing.is_empty() {
            return Decision::Stall(
                Reason::AllVolumesGone,
                "no volume of the cluster exists any more. The cluster is not initialised again; \
                 restore a backup into a new cluster, or bring the volumes back"
                    .to_owned(),
            );
        }
        if !existing.is_empty() && existing.iter().all(|slot| answering.contains(slot)) {
            return Decision::Stall(
                Reason::AllVolumesEmpty,
                "every node answers and none has the cluster's data: the volumes are empty. The \
                 cluster is not initialised again; restore a backup into a new cluster, or bring \
                 the volumes back"
                    .to_owned(),
            );
        }
        return Decision::Wait(
            Reason::WaitingForMembers,
            format!("{} of {} nodes answer", answering.len(), existing.len()),
        );
    };
    let nodes = health::nodes_by_id(observation);
    let missing: Vec<String> = membership
        .voters
        .iter()
        .filter(|voter| !nodes.contains_key(voter))
        .map(|voter| describe(*voter, membership))
        .collect();
    // A voter is lost for good when its slot answers under another identity.
    let lost: Vec<String> = membership
        .voters
        .iter()
        .filter(|voter| {
            !nodes.contains_key(voter)
                && membership
                    .members
                    .get(voter)
                    .copied()
                    .flatten()
                    .is_some_and(|slot| {
                        observation
                            .slots
                            .get(&slot)
                            .is_some_and(|seen| seen.node.is_some())
                    })
        })
        .map(|voter| describe(*voter, membership))
        .collect();
    let voters = membership.voters.len();
    if lost.len() * 2 >= voters && !lost.is_empty() {
        return Decision::Stall(
            Reason::MajorityLost,
            format!(
                "{} of {voters} voters are gone with their volumes ({}): the others cannot decide \
                 without them. Restore a backup into a new cluster, or bring the volumes back",
                lost.len(),
                lost.join(", ")
            ),
        );
    }
    if missing.len() * 2 >= voters && !missing.is_empty() {
        return Decision::Wait(
            Reason::QuorumLost,
            format!(
                "{} of {voters} voters do not answer: {}",
                missing.len(),
                missing.join(", ")
            ),
        );
    }
    Decision::Wait(
        Reason::WaitingForLeader,
        "a majority answers and has not elected a leader yet".to_owned(),
    )
}

/// A node as people know it.
pub(super) fn describe(node: NodeId, membership: &Membership) -> String {
    match membership.members.get(&node).copied().flatten() {
        Some(slot) => format!("slot {slot} (node {node})"),
        None => format!("node {node}"),
    }
}
