//! The plan against generated observations and against a simulated world. Every failure prints
//! its seed; `QUADRAFT_SEED=n` runs that one alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod arbitrary;
mod loss;
mod readiness;
mod replacement;
mod scenarios;
mod world;

use std::collections::BTreeSet;

use super::super::observation::{JobState, Membership, Node, Observation, Role, Slot, WaitingJob};
use super::super::validate::{BootstrapSource, ValidatedBootstrap, ValidatedCluster};
use super::*;
use crate::api::{OnClusterDeletion, RdfClusterSpec, WhenDataIsLost};

pub(super) const UUID: &str = "11111111-1111-4111-8111-111111111111";

/// SplitMix64: small, and the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Runs `case` for each seed, or for the one in `QUADRAFT_SEED`.
pub(super) fn for_seeds(count: u64, case: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let chosen = std::env::var("QUADRAFT_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seeds = chosen.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        if let Err(cause) = std::panic::catch_unwind(|| case(seed)) {
            eprintln!("failed with QUADRAFT_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}

pub(super) fn cluster(replicas: u8) -> ValidatedCluster {
    ValidatedCluster {
        name: "films".into(),
        namespace: "prod".into(),
        uid: "uid".into(),
        generation: 1,
        replicas,
        version: "0.1.0".into(),
        image: "quadraft-node:0.1.0".into(),
        storage_bytes: 1 << 30,
        on_deletion: OnClusterDeletion::Retain,
        bootstrap: None,
        paused: false,
        cors_origins: Vec::new(),
        accepted_volume: None,
        replaced_volume: None,
        given_up_volumes: BTreeSet::new(),
        volume_generation: 0,
        spec: RdfClusterSpec::default(),
    }
}

pub(super) fn bootstrap() -> ValidatedBootstrap {
    ValidatedBootstrap {
        source: BootstrapSource::Backup("b".into()),
        expected_digest: None,
    }
}

/// However many pods evictions take away: those of a majority of the voters stay.
fn assert_keeps_majority(observation: &Observation, plan: &Plan) {
    let sets = observation
        .slots
        .values()
        .filter(|seen| seen.stateful_set.is_some());
    let lost = sets
        .count()
        .saturating_sub(usize::try_from(plan.minimum_available).unwrap());
    let memberships = observation.slots.values().filter_map(|seen| {
        let node = seen
            .node
            .as_ref()
            .filter(|node| node.role == Role::Leader)?;
        node.membership.as_ref()
    });
    let Some(membership) = memberships.max_by_key(|membership| membership.index) else {
        assert_eq!(lost, 0, "nobody leads");
        return;
    };
    let voters = membership.voters.len();
    assert!(
        voters.saturating_sub(lost) * 2 > voters || lost == 0,
        "{lost} of {voters} may go"
    );
}

fn nobody_has_data(observation: &Observation) -> bool {
    let mut nodes = observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref());
    nodes.all(|node| node.membership.is_none())
}

fn waiting<T>(state: &JobState<T>) -> Option<&WaitingJob> {
    match state {
        JobState::Waiting(job) => Some(job),
        _ => None,
    }
}

/// The rules that no plan may break, written down a second time and apart from the plan's code.
pub(super) fn assert_safe(cluster: &ValidatedCluster, observation: &Observation, plan: &Plan) {
    assert_keeps_majority(observation, plan);
    let Some(step) = &plan.step else { return };
    assert!(!cluster.paused, "a paused cluster is not touched");
    if !health::divergences(observation).is_empty() {
        assert!(
            !matches!(
                step,
                Step::Remove { .. }
                    | Step::RestartPod { .. }
                    | Step::Discard { .. }
                    | Step::DeleteVolume { .. }
                    | Step::DeleteStatefulSet { .. }
                    | Step::StartRecovery {
                        allow_new_identity: true,
                        ..
                    }
            ),
            "the evidence of a divergence is kept"
        );
    }
    match step {
        Step::RestartPod { slot, .. } => {
            let pod = observation.slots[slot]
                .pod
                .as_ref()
                .expect("a pod to restart");
            assert!(!pod.deleting);
            if pod.running {
                let (membership, _) = led(observation);
                let stopped = at_slot(membership, *slot);
                assert_others_healthy(
                    observation,
                    membership,
                    &stopped,
                    membership.voters.len() > 1,
                );
            } else {
                assert!(observation.slots[slot].node.is_none(), "it serves");
            }
        }
        Step::RecordLoss(_) => {
            assert_eq!(
                cluster.spec.recovery.when_data_is_lost,
                WhenDataIsLost::RestoreLatestBackup
            );
            assert!(nobody_has_data(observation));
        }
        Step::ForgetLoss => assert!(!nobody_has_data(observation)),
        Step::StartExport { slot, .. } => {
            let seen = &observation.slots[slot];
            assert!(seen.stateful_set.is_none() && seen.pod.is_none(), "in use");
        }
        Step::KeepVolume { .. } => assert!(observation.record.loss.is_some()),
        Step::RecordRestore(backup) => {
            let loss = observation.record.loss.as_ref().expect("a loss");
            assert!(!loss.damaged_backups.contains(&backup.name));
            assert_ne!(loss.backup.as_ref(), Some(&backup.name));
            if loss.backup.is_none() {
                for seen in observation.slots.values() {
                    assert!(seen.stateful_set.is_none() && seen.pod.is_none(), "it runs");
                    assert!(seen.volume.as_ref().is_none_or(|volume| volume.is_kept));
                }
            }
        }
        Step::RecordVolumeGeneration(_) => assert!(observation.record.cluster_uuid.is_none()),
        Step::TakeBackup(_) => assert!(cluster.spec.recovery.backup_after_recovery.is_some()),
        Step::Discard {
            slot, volume_uid, ..
        } => {
            let seen = &observation.slots[slot];
            assert_eq!(
                seen.volume.as_ref().map(|volume| &volume.uid),
                Some(volume_uid)
            );
            assert_not_a_member(observation, *slot);
            assert!(seen.node.is_none(), "it answers");
            let after = cluster.spec.recovery.replace_after_seconds;
            let asked = cluster.replaced_volume == Some((*slot, volume_uid.clone()));
            let silent = Some(seen.unreachable_seconds) >= after;
            assert!(asked || (after.is_some() && silent), "nobody wants it");
            assert!(asked || seen.start.is_none(), "it is only slow");
        }
        Step::Remove {
            slot,
            node_id,
            membership_index,
        } => {
            let (membership, _) = led(observation);
            assert_eq!(*membership_index, membership.index);
            assert!(!membership.joint);
            if membership.voters.contains(node_id) {
                assert!(
                    membership.voters.len() > 1,
                    "the last voter is never removed"
                );
                let removed = BTreeSet::from([*node_id]);
                let gone = observation.slots.get(slot).is_some_and(|seen| {
                    seen.node
                        .as_ref()
                        .is_some_and(|node| node.node_id != *node_id)
                });
                if gone {
                    let others = membership.voters.difference(&removed);
                    let healthy = others
                        .filter(|other| is_healthy(observation, **other))
                        .count();
                    assert!(
                        healthy * 2 > membership.voters.len(),
                        "the others are no healthy majority"
                    );
                    return;
                }
                let alive = is_healthy(observation, *node_id);
                assert_others_healthy(observation, membership, &removed, !alive);
            }
        }
        Step::Promote { node_id, .. } => {
            let (membership, _) = led(observation);
            assert!(membership.members.contains_key(node_id));
            assert!(!membership.voters.contains(node_id));
        }
        Step::AddLearner { node_id, .. } => {
            let (membership, _) = led(observation);
            assert!(!membership.members.contains_key(node_id));
        }
        Step::TransferLeadership { from, to } => {
            let (membership, leader) = led(observation);
            assert_eq!(
                observation.slots[from]
                    .node
                    .as_ref()
                    .map(|node| node.node_id),
                Some(leader.node_id)
            );
            assert!(membership.voters.contains(to) && is_healthy(observation, *to));
            assert_ne!(leader.node_id, *to);
        }
        Step::DeleteVolume { slot, uid, .. } => {
            // Kubernetes keeps the volume until no pod uses it.
            assert_eq!(
                observation.slots[slot]
                    .volume
                    .as_ref()
                    .map(|volume| &volume.uid),
                Some(uid)
            );
            assert_not_a_member(observation, *slot);
        }
        Step::DeleteStatefulSet { .. } if observation.record.loss.is_some() => {
            assert!(nobody_has_data(observation));
        }
        Step::DeleteStatefulSet { slot, .. } => assert_not_a_member(observation, *slot),
        Step::WithdrawJob { uid, .. } => {
            let waits = |state: Option<&WaitingJob>| {
                state.is_some_and(|job| job.uid == *uid && !job.deleting)
            };
            let of_slots = observation
                .slots
                .values()
                .flat_map(|seen| seen.recoveries.values());
            let recovery_waits = of_slots.into_iter().any(|state| waits(waiting(state)));
            assert!(
                recovery_waits || waits(waiting(&observation.restore)),
                "a Job that runs, or has, is never taken away"
            );
        }
        Step::Fence { slot, .. } => {
            let seen = &observation.slots[slot];
            assert!(
                !seen.pod.as_ref().is_some_and(|pod| pod.running),
                "what runs is not fenced"
            );
        }
        Step::StartRecovery {
            slot,
            allow_new_identity,
            ..
        } => {
            let seen = &observation.slots[slot];
            assert!(
                seen.pod.is_none() && seen.is_fenced(),
                "the volume is in use"
            );
            if *allow_new_identity {
                let (membership, _) = led(observation);
                assert_others_healthy(observation, membership, &at_slot(membership, *slot), true);
            }
        }
        Step::Initialise { members, .. } => {
            assert!(!observation.record.initialised, "initialised twice");
            assert!(cluster.bootstrap.is_none());
            assert_eq!(*members, observation.record.initial_members);
            for seen in observation.slots.values() {
                if let Some(node) = &seen.node {
                    assert!(node.membership.is_none(), "a node has a membership");
                    assert_eq!(
                        (node.last_log_index, node.applied_index),
                        (0, 0),
                        "a node has data"
                    );
                }
                if let Some(volume) = &seen.volume {
                    assert_eq!(volume.cluster_uuid, observation.record.cluster_uuid);
                }
            }
        }
        Step::MakeClusterUuid => {
            assert!(observation.record.cluster_uuid.is_none());
            assert!(observation.slots.values().all(|seen| seen.volume.is_none()));
        }
        Step::AdoptClusterUuid(uuid) => {
            for volume in observation
                .slots
                .values()
                .filter_map(|seen| seen.volume.as_ref())
            {
                assert_eq!(volume.cluster_uuid.as_ref(), Some(uuid));
            }
        }
        Step::RecordInitialMembers(_) => assert!(observation.record.initial_members.is_empty()),
        Step::RecordInitialised => assert!(observation.slots.values().any(|seen| {
            seen.node
                .as_ref()
                .is_some_and(|node| node.membership.is_some())
        })),
        Step::StartRestore => assert!(!observation.record.initialised),
        Step::Unfence { slot, .. } => assert!(observation.slots[slot].is_fenced()),
    }
}

fn led(observation: &Observation) -> (&Membership, &Node) {
    let leader = observation
        .slots
        .values()
        .filter_map(|seen| seen.node.as_ref())
        .filter(|node| node.role == Role::Leader && node.cluster_uuid == UUID)
        .max_by_key(|node| node.term)
        .expect("a step that needs a leader was planned without one");
    (
        leader
            .membership
            .as_ref()
            .expect("a leader has a membership"),
        leader,
    )
}

fn at_slot(membership: &Membership, slot: Slot) -> BTreeSet<NodeId> {
    membership
        .members
        .iter()
        .filter(|(_, member)| **member == Some(slot))
        .map(|(node, _)| *node)
        .collect()
}

fn is_healthy(observation: &Observation, id: NodeId) -> bool {
    observation.slots.values().any(|seen| {
        seen.pod
            .as_ref()
            .is_some_and(|pod| pod.running && !pod.deleting)
            && seen.node.as_ref().is_some_and(|node| {
                node.node_id == id
                    && node.ready
                    && node.unreadable.is_empty()
                    && matches!(node.role, Role::Leader | Role::Follower)
            })
    })
}

fn assert_others_healthy(
    observation: &Observation,
    membership: &Membership,
    without: &BTreeSet<NodeId>,
    majority_needed: bool,
) {
    let others: Vec<NodeId> = membership.voters.difference(without).copied().collect();
    for other in &others {
        assert!(is_healthy(observation, *other), "{other} is not healthy");
    }
    if majority_needed {
        assert!(
            others.len() * 2 > membership.voters.len(),
            "the others are no majority"
        );
    }
}

fn assert_not_a_member(observation: &Observation, slot: Slot) {
    let (membership, leader) = led(observation);
    assert!(
        membership.index <= leader.committed_index,
        "the membership is not committed"
    );
    assert!(
        at_slot(membership, slot).is_empty(),
        "the slot has a member"
    );
    if let Some(node) = &observation.slots[&slot].node {
        assert!(!membership.members.contains_key(&node.node_id));
    }
}
