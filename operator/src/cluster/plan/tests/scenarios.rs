//! Named situations and what is planned in them.

use k8s_openapi::jiff::Timestamp;
use quadraft_protocol::NodeId;

use super::super::super::observation::{
    JobState, Mark, Membership, Node, Observation, Pod, Record, Role, ServiceAnswer,
    ServiceObservation, Slot, SlotObservation, StatefulSetState, Termination, Volume, WaitingJob,
};
use super::super::super::status;
use super::super::{Plan, Reason, Step, Verdict, is_due_to_upgrade, plan};
use super::{UUID, bootstrap, cluster};
use crate::api::RdfClusterStatus;

fn id(slot: Slot) -> NodeId {
    NodeId(100 + u64::from(slot))
}

fn membership(slots: std::ops::Range<Slot>) -> Membership {
    Membership {
        index: 5,
        joint: false,
        voters: slots.clone().map(id).collect(),
        members: slots.map(|slot| (id(slot), Some(slot))).collect(),
    }
}

fn member(slot: Slot, membership: &Membership) -> SlotObservation {
    SlotObservation {
        volume: Some(Volume {
            uid: format!("volume-{slot}"),
            resource_version: "1".into(),
            cluster_uuid: Some(UUID.into()),
            requested_bytes: 1 << 30,
            ..Volume::default()
        }),
        stateful_set: Some(StatefulSetState {
            uid: format!("set-{slot}"),
            resource_version: "1".into(),
            replicas: 1,
            template_hash: "a".into(),
            ..StatefulSetState::default()
        }),
        pod: Some(Pod {
            uid: format!("pod-{slot}"),
            template_hash: "a".into(),
            running: true,
            ready: true,
            ..Pod::default()
        }),
        node: Some(Node {
            node_id: id(slot),
            cluster_uuid: UUID.into(),
            role: if slot == 0 {
                Role::Leader
            } else {
                Role::Follower
            },
            term: 1,
            leader: Some(id(0)),
            last_log_index: 10,
            committed_index: 10,
            applied_index: 10,
            ready: true,
            membership: Some(membership.clone()),
            // Of all there may be: whoever leads knows it of its followers.
            matching: (0..7).map(|slot| (id(slot), 10)).collect(),
            ..Node::default()
        }),
        ..SlotObservation::default()
    }
}

/// A cluster that serves, the Service asked and answering.
pub(super) fn healthy(voters: Slot) -> Observation {
    let membership = membership(0..voters);
    Observation {
        record: Record {
            cluster_uuid: Some(UUID.into()),
            initialised: true,
            ..Record::default()
        },
        slots: (0..voters)
            .map(|slot| (slot, member(slot, &membership)))
            .collect(),
        service: ServiceObservation {
            ready_pods: (0..voters).map(|slot| format!("pod-{slot}")).collect(),
            answer: ServiceAnswer::Answered,
        },
        ..Observation::default()
    }
}

fn waiting(observation: &mut Observation, slot: Slot, node_id: NodeId) {
    let mut seen = member(slot, &Membership::default());
    if let Some(node) = &mut seen.node {
        *node = Node {
            node_id,
            cluster_uuid: UUID.into(),
            ..Node::default()
        };
    }
    observation.slots.insert(slot, seen);
}

fn reason(plan: &Plan) -> Option<Reason> {
    match &plan.verdict {
        Verdict::Steady => None,
        Verdict::Progressing { reason, .. } | Verdict::Stalled { reason, .. } => Some(*reason),
    }
}

#[test]
fn a_healthy_cluster_as_wanted_needs_no_step() {
    let made = plan(&cluster(3), &healthy(3));
    assert_eq!((made.step, made.verdict), (None, Verdict::Steady));
}

#[test]
fn empty_volumes_of_an_initialised_cluster_are_never_initialised_again() {
    let mut world = healthy(3);
    for slot in 0..3 {
        waiting(&mut world, slot, NodeId(7 + u64::from(slot)));
    }
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert_eq!(reason(&made), Some(Reason::AllVolumesEmpty));
}

#[test]
fn volumes_of_an_earlier_cluster_of_the_same_name_are_served_again() {
    let mut world = healthy(3);
    world.record = Record::default();
    for seen in world.slots.values_mut() {
        (seen.pod, seen.node, seen.stateful_set) = (None, None, None);
    }
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, Some(Step::AdoptClusterUuid(UUID.into())));
    // A backup is not restored over them.
    let mut restoring = cluster(3);
    restoring.bootstrap = Some(bootstrap());
    assert_eq!(
        reason(&plan(&restoring, &world)),
        Some(Reason::VolumesExist)
    );
    // When they disagree a person decides.
    if let Some(volume) = world
        .slots
        .get_mut(&1)
        .and_then(|seen| seen.volume.as_mut())
    {
        volume.cluster_uuid = Some("another".into());
    }
    assert_eq!(
        reason(&plan(&cluster(3), &world)),
        Some(Reason::VolumesDisagree)
    );
}

#[test]
fn a_lost_volume_costs_the_old_identity_its_membership_first() {
    let mut world = healthy(3);
    waiting(&mut world, 2, NodeId(7));
    let made = plan(&cluster(3), &world);
    assert_eq!(
        made.step,
        Some(Step::Remove {
            slot: 2,
            node_id: id(2),
            membership_index: 5
        })
    );
}

#[test]
fn two_lost_volumes_of_five_are_replaced_while_the_other_three_are_healthy() {
    let mut world = healthy(5);
    waiting(&mut world, 3, NodeId(7));
    waiting(&mut world, 4, NodeId(8));
    let made = plan(&cluster(5), &world);
    assert_eq!(
        made.step,
        Some(Step::Remove {
            slot: 3,
            node_id: id(3),
            membership_index: 5
        })
    );
}

#[test]
fn nodes_that_were_asked_at_different_times_are_not_taken_for_slow() {
    let mut world = healthy(3);
    // The leader was asked last, and much was written in between.
    let leader = world.slots.get_mut(&0).unwrap().node.as_mut().unwrap();
    (
        leader.last_log_index,
        leader.committed_index,
        leader.applied_index,
    ) = (90_000, 90_000, 90_000);
    leader.matching = (1..3).map(|slot| (id(slot), 89_900)).collect();
    assert_eq!(plan(&cluster(3), &world).verdict, Verdict::Steady);
    // One that the leader has not brought up to date is slow.
    let leader = world.slots.get_mut(&0).unwrap().node.as_mut().unwrap();
    leader.matching.insert(id(2), 80_000);
    assert_ne!(plan(&cluster(3), &world).verdict, Verdict::Steady);
}

#[test]
fn nobody_leaves_while_another_voter_is_unhealthy() {
    let mut world = healthy(5);
    if let Some(node) = world.slots.get_mut(&3).and_then(|seen| seen.node.as_mut()) {
        node.ready = false;
    }
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert_eq!(reason(&made), Some(Reason::ScalingDown));
}

#[test]
fn nobody_leaves_while_a_voter_may_need_an_entry_from_it() {
    let mut world = healthy(5);
    let unreadable = |world: &mut Observation, entries: &[&str]| {
        if let Some(node) = world.slots.get_mut(&1).and_then(|seen| seen.node.as_mut()) {
            node.unreadable = entries.iter().map(ToString::to_string).collect();
        }
    };
    unreadable(&mut world, &["1.7"]);
    assert_eq!(plan(&cluster(3), &world).step, None);
    unreadable(&mut world, &[]);
    assert!(plan(&cluster(3), &world).step.is_some());
    // Nor does a refused volume lose what is on it.
    let mut world = healthy(3);
    unreadable(&mut world, &["1.7"]);
    fenced(&mut world, 2, 20);
    assert_eq!(
        plan(&cluster(3), &world).step,
        Some(Step::StartRecovery {
            slot: 2,
            attempt: 1,
            allow_new_identity: false,
        })
    );
}

#[test]
fn a_member_without_space_is_degraded_and_left_to_itself() {
    let mut world = healthy(3);
    if let Some(node) = world.slots.get_mut(&1).and_then(|seen| seen.node.as_mut()) {
        node.short_of_space = Some(4096);
    }
    let made = plan(&cluster(3), &world);
    assert_eq!((&made.step, &made.verdict), (&None, &Verdict::Steady));
    let old = RdfClusterStatus {
        cluster_uuid: Some(UUID.to_owned()),
        ..RdfClusterStatus::default()
    };
    let now = Timestamp::UNIX_EPOCH;
    let new = status::status(&cluster(3), Some(1), &old, &world, &made, None, now);
    let condition = |type_: &str| {
        let found = new
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_);
        found.map(|condition| (condition.status.as_str(), condition.reason.as_str()))
    };
    assert_eq!(condition("Degraded"), Some(("True", "DiskFull")));
    assert_eq!(condition("Ready"), Some(("True", "Steady")));
}

#[test]
fn the_leader_hands_over_before_it_leaves() {
    let mut world = healthy(5);
    for seen in world.slots.values_mut() {
        if let Some(node) = &mut seen.node {
            node.leader = Some(id(4));
            node.role = if node.node_id == id(4) {
                Role::Leader
            } else {
                Role::Follower
            };
        }
    }
    let made = plan(&cluster(3), &world);
    assert_eq!(
        made.step,
        Some(Step::TransferLeadership { from: 4, to: id(0) })
    );
}

#[test]
fn a_rolling_restart_takes_the_highest_follower_first_and_the_leader_last() {
    let mut world = healthy(3);
    for seen in world.slots.values_mut() {
        if let Some(set) = &mut seen.stateful_set {
            set.template_hash = "b".into();
        }
    }
    let restart = |slot: Slot| {
        Some(Step::RestartPod {
            slot,
            pod_uid: format!("pod-{slot}"),
        })
    };
    for slot in [2, 1] {
        assert_eq!(plan(&cluster(3), &world).step, restart(slot));
        if let Some(pod) = world
            .slots
            .get_mut(&slot)
            .and_then(|seen| seen.pod.as_mut())
        {
            pod.template_hash = "b".into();
        }
    }
    assert_eq!(
        plan(&cluster(3), &world).step,
        Some(Step::TransferLeadership { from: 0, to: id(1) })
    );
}

#[test]
fn what_only_an_upgrade_of_the_operator_changes_waits_for_its_turn() {
    let mut world = healthy(3);
    assert!(!is_due_to_upgrade(&cluster(3), &world));
    for seen in world.slots.values_mut() {
        seen.stateful_set.as_mut().unwrap().template_hash = "b".into();
    }
    assert!(is_due_to_upgrade(&cluster(3), &world));
    world.waits_for_turn = Some("after prod/books".into());
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert_eq!(reason(&made), Some(Reason::RollingRestart));
    world.waits_for_turn = None;
    let made = plan(&cluster(3), &world);
    assert!(matches!(made.step, Some(Step::RestartPod { slot: 2, .. })));
    // The person has said something else meanwhile: nobody waits for others with that.
    for seen in world.slots.values_mut() {
        seen.stateful_set.as_mut().unwrap().spec_hash = "new".into();
    }
    assert!(!is_due_to_upgrade(&cluster(3), &world));
}

#[test]
fn no_restart_while_another_pod_is_being_deleted() {
    let mut world = healthy(3);
    for seen in world.slots.values_mut() {
        if let Some(set) = &mut seen.stateful_set {
            set.template_hash = "b".into();
        }
    }
    if let Some(pod) = world.slots.get_mut(&1).and_then(|seen| seen.pod.as_mut()) {
        pod.deleting = true;
    }
    assert_eq!(plan(&cluster(3), &world).step, None);
}

fn refused(world: &mut Observation, slot: Slot, exit_code: i32) {
    if let Some(seen) = world.slots.get_mut(&slot) {
        seen.node = None;
        if let Some(pod) = &mut seen.pod {
            pod.running = false;
            pod.termination = Some(Termination {
                exit_code,
                message: "no vote".into(),
            });
        }
    }
}

fn fenced(world: &mut Observation, slot: Slot, seconds: i64) {
    if let Some(seen) = world.slots.get_mut(&slot) {
        seen.pod = None;
        if let Some(set) = &mut seen.stateful_set {
            (set.replicas, set.recovery_attempt, set.fenced_seconds) = (0, 1, seconds);
        }
    }
}

#[test]
fn a_refused_volume_is_fenced_and_recovered_with_a_new_identity_when_the_others_are_healthy() {
    let mut world = healthy(3);
    refused(&mut world, 2, 20);
    let made = plan(&cluster(3), &world);
    assert_eq!(
        made.step,
        Some(Step::Fence {
            slot: 2,
            attempt: 1,
        })
    );
    fenced(&mut world, 2, 0);
    let recovery = |allow_new_identity| {
        Some(Step::StartRecovery {
            slot: 2,
            attempt: 1,
            allow_new_identity,
        })
    };
    assert_eq!(plan(&cluster(3), &world).step, recovery(true));
    // One that may be needed for a majority is not given a new identity.
    if let Some(node) = world.slots.get_mut(&1).and_then(|seen| seen.node.as_mut()) {
        node.ready = false;
    }
    assert_eq!(plan(&cluster(3), &world).step, recovery(false));
}

#[test]
fn a_volume_that_no_recovery_could_mend_is_left_alone_until_its_image_changes() {
    let mut world = healthy(3);
    refused(&mut world, 2, 21);
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert!(matches!(
        made.verdict,
        Verdict::Stalled {
            reason: Reason::VolumeNotUsable,
            ..
        }
    ));
    if let Some(set) = world
        .slots
        .get_mut(&2)
        .and_then(|seen| seen.stateful_set.as_mut())
    {
        set.template_hash = "another image".into();
    }
    let made = plan(&cluster(3), &world);
    assert!(
        matches!(made.step, Some(Step::RestartPod { slot: 2, .. })),
        "{made:?}"
    );
}

/// A recovery Job of slot 2 that has not begun.
fn recovery_job_waits(world: &mut Observation, seconds: i64, is_outdated: bool) {
    let job = WaitingJob {
        name: "films-recover-2".into(),
        uid: "job".into(),
        seconds,
        obstacle: Some("FailedCreate: exceeded quota".into()),
        is_outdated,
        deleting: false,
    };
    if let Some(seen) = world.slots.get_mut(&2) {
        seen.recoveries.insert(1, JobState::Waiting(job));
    }
}

#[test]
fn a_recovery_job_that_cannot_start_is_told_made_anew_and_given_up() {
    let mut world = healthy(3);
    refused(&mut world, 2, 20);
    fenced(&mut world, 2, 30);
    recovery_job_waits(&mut world, 30, false);
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    let Verdict::Progressing { reason, message } = made.verdict else {
        panic!("{:?}", made.verdict);
    };
    assert_eq!(reason, Reason::JobCannotStart);
    assert!(message.contains("exceeded quota"), "{message}");
    let withdraw = Some(Step::WithdrawJob {
        name: "films-recover-2".into(),
        uid: "job".into(),
    });
    recovery_job_waits(&mut world, 30, true);
    assert_eq!(plan(&cluster(3), &world).step, withdraw);
    recovery_job_waits(&mut world, 121, false);
    assert_eq!(plan(&cluster(3), &world).step, withdraw);
    // In the end the node itself tries the volume again; the attempt was none.
    fenced(&mut world, 2, 601);
    let unfence = Some(Step::Unfence {
        slot: 2,
        attempt: 0,
    });
    assert_eq!(plan(&cluster(3), &world).step, unfence);
}

#[test]
fn the_only_member_of_a_cluster_never_gets_a_new_identity() {
    let mut world = healthy(1);
    refused(&mut world, 0, 20);
    fenced(&mut world, 0, 0);
    assert_eq!(
        plan(&cluster(1), &world).step,
        Some(Step::StartRecovery {
            slot: 0,
            attempt: 1,
            allow_new_identity: false
        })
    );
}

#[test]
fn a_lost_majority_is_named_and_nothing_is_done_about_it() {
    let mut world = healthy(3);
    for slot in [1, 2] {
        if let Some(seen) = world.slots.get_mut(&slot) {
            seen.node = None;
        }
    }
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert_eq!(reason(&made), Some(Reason::QuorumLost));
    waiting(&mut world, 1, NodeId(7));
    waiting(&mut world, 2, NodeId(8));
    assert_eq!(
        reason(&plan(&cluster(3), &world)),
        Some(Reason::MajorityLost)
    );
}

#[test]
fn a_copied_volume_stops_every_change_of_the_membership() {
    let mut world = healthy(3);
    world.record.high_water.insert(
        id(1),
        Mark {
            volume_uid: "the-original".into(),
            index: 1,
        },
    );
    waiting(&mut world, 2, NodeId(7));
    let made = plan(&cluster(3), &world);
    assert_eq!(made.step, None);
    assert_eq!(reason(&made), Some(Reason::VolumeSetBack));
}

#[test]
fn a_copied_volume_is_served_when_a_person_accepts_it_and_it_has_everything() {
    let world = |mark_index| {
        let mut world = healthy(3);
        let mark = Mark {
            volume_uid: "the-original".into(),
            index: mark_index,
        };
        world.record.high_water.insert(id(1), mark);
        world
    };
    let last = world(0).slots[&1].node.as_ref().unwrap().last_log_index;
    let uid = world(0).slots[&1].volume.as_ref().unwrap().uid.clone();
    let accepting = |slot, uid: &str| {
        let mut cluster = cluster(3);
        cluster.accepted_volume = Some((slot, uid.to_owned()));
        cluster
    };
    assert_eq!(reason(&plan(&accepting(1, &uid), &world(last))), None);
    for (cluster, mark_index) in [
        (accepting(1, &uid), last + 1),
        (accepting(2, &uid), last),
        (accepting(1, "the-original"), last),
    ] {
        let made = plan(&cluster, &world(mark_index));
        assert_eq!(reason(&made), Some(Reason::VolumeSetBack), "{made:?}");
    }
}

#[test]
fn a_paused_cluster_is_only_reported() {
    let mut paused = cluster(3);
    paused.paused = true;
    let made = plan(&paused, &Observation::default());
    assert_eq!((made.ensure.len(), made.step), (0, None));
}

#[test]
fn every_reason_is_explained_to_those_who_run_clusters() {
    let page = include_str!("../../../../../docs/operations/conditions.md");
    let unexplained: Vec<&Reason> = Reason::ALL
        .iter()
        .filter(|reason| !page.contains(&format!("`{reason}`")))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}
