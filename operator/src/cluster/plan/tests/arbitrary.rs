//! Observations made of nothing but chance, most of which no real cluster could show.

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::{NodeId, RecoveryOutcome};

use super::super::super::observation::{
    BackupSeen, JobState, Loss, Mark, Membership, Node, Observation, Pod, Record, RecoveryFindings,
    RestoreFindings, Role, Slot, SlotObservation, StatefulSetState, Termination, Volume,
    WaitingJob,
};
use super::super::plan;
use super::{Random, UUID, assert_safe, bootstrap, cluster, for_seeds};
use crate::api::WhenDataIsLost;

const CASES: u64 = 40_000;

fn waiting(random: &mut Random) -> WaitingJob {
    WaitingJob {
        name: "job".into(),
        uid: "job".into(),
        seconds: *random.pick(&[0, 100, 10_000]),
        obstacle: random.chance(50).then(|| "FailedCreate".to_owned()),
        is_outdated: random.chance(20),
        deleting: random.chance(20),
    }
}

fn node_id(random: &mut Random) -> NodeId {
    NodeId(1 + random.below(8))
}

fn membership(random: &mut Random) -> Membership {
    let count = 1 + random.below(5);
    let voters: BTreeSet<NodeId> = (0..count).map(|_| node_id(random)).collect();
    let mut members: BTreeMap<NodeId, Option<Slot>> = voters
        .iter()
        .map(|id| (*id, Some(u8::try_from(id.0 % 5).unwrap())))
        .collect();
    if random.chance(20) {
        members.insert(
            node_id(random),
            Some(u8::try_from(random.below(6)).unwrap()),
        );
    }
    Membership {
        index: random.below(20),
        joint: random.chance(5),
        voters,
        members,
    }
}

fn node(random: &mut Random, slot: Slot, shared: &Membership) -> Node {
    let waiting = random.chance(20);
    let usual = NodeId(if slot == 0 { 5 } else { u64::from(slot) });
    Node {
        node_id: if random.chance(80) {
            usual
        } else {
            node_id(random)
        },
        cluster_uuid: if random.chance(95) {
            UUID.into()
        } else {
            "other".into()
        },
        role: if waiting {
            Role::Waiting
        } else {
            *random.pick(&[
                Role::Follower,
                Role::Follower,
                Role::Leader,
                Role::Learner,
                Role::Candidate,
            ])
        },
        term: 1 + random.below(2),
        leader: random.chance(90).then(|| NodeId(1 + random.below(3))),
        last_log_index: if waiting && random.chance(90) {
            0
        } else {
            1000 + random.below(10)
        },
        committed_index: 1000,
        applied_index: if waiting && random.chance(90) {
            0
        } else {
            1000
        },
        ready: random.chance(85),
        membership: (!waiting).then(|| {
            if random.chance(85) {
                shared.clone()
            } else {
                membership(random)
            }
        }),
        matching: (1..8)
            .map(|id| (NodeId(id), 900 + random.below(200)))
            .collect(),
        unreadable: if random.chance(5) {
            vec!["1.7".to_owned()]
        } else {
            Vec::new()
        },
        ..Node::default()
    }
}

fn slot(random: &mut Random, slot: Slot, shared: &Membership) -> SlotObservation {
    let running = random.chance(75);
    SlotObservation {
        volume: random.chance(90).then(|| Volume {
            uid: format!("volume-{slot}"),
            resource_version: "1".into(),
            cluster_uuid: random.chance(98).then(|| UUID.to_owned()),
            requested_bytes: 1,
            deleting: random.chance(5),
            is_kept: random.chance(20),
        }),
        stateful_set: random.chance(90).then(|| StatefulSetState {
            uid: "set".into(),
            resource_version: "1".into(),
            replicas: i32::from(random.chance(85)),
            template_hash: if random.chance(80) {
                "a".into()
            } else {
                "b".into()
            },
            recovery_attempt: u32::try_from(random.below(4)).unwrap(),
            fenced_at: random.chance(50).then_some(0),
            fenced_seconds: *random.pick(&[0, 10, 10_000]),
            spec_hash: String::new(),
            deleting: random.chance(5),
        }),
        pod: random.chance(90).then(|| Pod {
            uid: "pod".into(),
            template_hash: "a".into(),
            running,
            ready: running && random.chance(80),
            deleting: random.chance(10),
            role: random.chance(50).then(|| "follower".to_owned()),
            termination: random.chance(30).then(|| Termination {
                exit_code: *random.pick(&[20, 21, 26, 1, 137]),
                message: String::new(),
            }),
            ..Pod::default()
        }),
        node: (running && random.chance(85)).then(|| node(random, slot, shared)),
        export: match random.below(4) {
            0 => JobState::Absent,
            1 => JobState::Running,
            2 => JobState::Waiting(waiting(random)),
            _ => JobState::Succeeded(()),
        },
        start: (running && random.chance(15)).then(String::new),
        unreachable_seconds: *random.pick(&[0, 0, 10, 10_000]),
        recoveries: if random.chance(30) {
            let state = match random.below(5) {
                4 => JobState::Waiting(waiting(random)),
                0 => JobState::Running,
                1 => JobState::Succeeded(RecoveryFindings {
                    outcome: RecoveryOutcome::NewIdentity,
                    message: String::new(),
                    entries_replayed: 0,
                }),
                _ => JobState::Failed {
                    exit_code: Some(*random.pick(&[20, 1])),
                    message: String::new(),
                    with_new_identity: random.chance(50),
                },
            };
            [(1 + u32::try_from(random.below(3)).unwrap(), state)].into()
        } else {
            BTreeMap::new()
        },
    }
}

fn observation(random: &mut Random) -> Observation {
    let shared = membership(random);
    let slots: BTreeMap<Slot, SlotObservation> = (0..6)
        .filter_map(|number| {
            if random.chance(70) {
                Some((number, slot(random, number, &shared)))
            } else {
                None
            }
        })
        .collect();
    let members: BTreeMap<Slot, NodeId> = slots
        .iter()
        .filter_map(|(slot, seen)| Some((*slot, seen.node.as_ref()?.node_id)))
        .collect();
    Observation {
        record: Record {
            cluster_uuid: random.chance(95).then(|| UUID.to_owned()),
            initialised: random.chance(75),
            initial_members: if random.chance(50) {
                members
            } else {
                BTreeMap::new()
            },
            high_water: if random.chance(10) {
                [(
                    node_id(random),
                    Mark {
                        volume_uid: format!("volume-{}", random.below(3)),
                        index: random.below(2000),
                    },
                )]
                .into()
            } else {
                BTreeMap::new()
            },
            loss: random.chance(15).then(|| Loss {
                backup: random.chance(50).then(|| "backup-0".to_owned()),
                ..Loss::default()
            }),
            ..Record::default()
        },
        slots,
        restore: match random.below(5) {
            4 => JobState::Waiting(waiting(random)),
            0 => JobState::Absent,
            1 => JobState::Running,
            2 => JobState::Succeeded(RestoreFindings::default()),
            _ => JobState::Failed {
                exit_code: None,
                message: String::new(),
                with_new_identity: false,
            },
        },
        backups: (0..random.below(3))
            .map(|number| BackupSeen {
                name: format!("backup-{number}"),
                cluster_uuid: UUID.to_owned(),
                completed_at: i64::try_from(random.below(9)).unwrap(),
                ..BackupSeen::default()
            })
            .collect(),
        ..Observation::default()
    }
}

#[test]
fn no_plan_from_any_observation_breaks_the_rules() {
    for_seeds(CASES, |seed| {
        let mut random = Random::new(seed);
        let mut cluster = cluster(*random.pick(&[1, 3, 3, 5]));
        cluster.paused = random.chance(2);
        cluster.bootstrap = random.chance(15).then(bootstrap);
        cluster.spec.recovery.replace_after_seconds = random.chance(30).then_some(600);
        if random.chance(40) {
            cluster.spec.recovery.when_data_is_lost = WhenDataIsLost::RestoreLatestBackup;
        }
        if random.chance(10) {
            let slot = *random.pick(&[0, 1, 2]);
            cluster.replaced_volume = Some((slot, format!("volume-{slot}")));
        }
        let observation = observation(&mut random);
        let made = plan(&cluster, &observation);
        assert_safe(&cluster, &observation, &made);
        assert_eq!(
            made,
            plan(&cluster, &observation),
            "a plan is a function of what is seen"
        );
    });
}
