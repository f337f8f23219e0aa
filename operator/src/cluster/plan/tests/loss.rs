//! All data is lost, and the newest backup is to take its place.

use super::super::super::observation::{
    BackupSeen, JobState, Loss, Node, Observation, Role, SlotObservation, Termination,
};
use super::super::super::validate::ValidatedCluster;
use super::super::{Plan, Reason, Step, Verdict, plan};
use super::scenarios::healthy;
use super::{UUID, assert_safe, bootstrap, cluster};
use crate::api::WhenDataIsLost;

fn restoring(replicas: u8) -> ValidatedCluster {
    let mut cluster = cluster(replicas);
    cluster.spec.recovery.when_data_is_lost = WhenDataIsLost::RestoreLatestBackup;
    cluster
}

fn backup(name: &str, cluster_uuid: &str, completed_at: i64) -> BackupSeen {
    BackupSeen {
        name: name.to_owned(),
        cluster_uuid: cluster_uuid.to_owned(),
        completed_at,
        ..BackupSeen::default()
    }
}

fn with_backups(mut world: Observation) -> Observation {
    world.backups = vec![
        backup("old", UUID, 1),
        backup("new", UUID, 2),
        backup("of-another", "another", 3),
    ];
    world
}

/// Nodes that answer from empty volumes.
fn emptied(replicas: u8) -> Observation {
    let mut world = with_backups(healthy(replicas));
    for seen in world.slots.values_mut() {
        seen.node = Some(Node {
            cluster_uuid: UUID.to_owned(),
            role: Role::Waiting,
            ..Node::default()
        });
    }
    world
}

fn planned(cluster: &ValidatedCluster, world: &Observation) -> Plan {
    let made = plan(cluster, world);
    assert_safe(cluster, world, &made);
    made
}

fn is_lost(plan: &Plan) -> bool {
    matches!(plan.step, Some(Step::RecordLoss(_)))
}

fn reason(plan: &Plan) -> Option<Reason> {
    match &plan.verdict {
        Verdict::Steady => None,
        Verdict::Progressing { reason, .. } | Verdict::Stalled { reason, .. } => Some(*reason),
    }
}

fn stopped(world: &mut Observation) {
    for seen in world.slots.values_mut() {
        (seen.node, seen.pod, seen.stateful_set) = (None, None, None);
    }
}

#[test]
fn nothing_is_restored_unless_the_spec_says_so_and_there_is_a_backup_of_this_cluster() {
    let world = emptied(3);
    assert!(is_lost(&planned(&restoring(3), &world)));
    let made = planned(&cluster(3), &world);
    assert_eq!(
        (made.step.clone(), reason(&made)),
        (None, Some(Reason::AllVolumesEmpty))
    );
    let mut without = world;
    without.backups.retain(|backup| backup.name == "of-another");
    let made = planned(&restoring(3), &without);
    assert_eq!(
        (made.step.clone(), reason(&made)),
        (None, Some(Reason::AllVolumesEmpty))
    );
}

#[test]
fn each_way_of_losing_everything_is_seen() {
    // No object is left.
    let mut gone = with_backups(healthy(3));
    gone.slots.clear();
    assert!(is_lost(&planned(&restoring(3), &gone)));
    // The only member's volume is refused, and its recovery has failed.
    let mut refused = with_backups(healthy(1));
    let seen = refused.slots.get_mut(&0).unwrap();
    (seen.node, seen.pod) = (None, None);
    let set = seen.stateful_set.as_mut().unwrap();
    (set.replicas, set.recovery_attempt) = (0, 1);
    assert!(
        !is_lost(&planned(&restoring(1), &refused)),
        "it is being recovered"
    );
    let failed = JobState::Failed {
        exit_code: Some(20),
        message: "the vote is gone".to_owned(),
        with_new_identity: false,
    };
    refused.slots.get_mut(&0).unwrap().recoveries = [(1, failed)].into();
    assert!(is_lost(&planned(&restoring(1), &refused)));
}

#[test]
fn what_may_come_back_is_waited_for_unless_a_person_names_it() {
    let mut world = emptied(3);
    let seen = world.slots.get_mut(&2).unwrap();
    seen.node = None;
    let pod = seen.pod.as_mut().unwrap();
    pod.running = false;
    pod.waiting = Some("Unschedulable: no machine".to_owned());
    let made = planned(&restoring(3), &world);
    assert_eq!(
        (made.step.clone(), reason(&made)),
        (None, Some(Reason::DataLost))
    );
    let Verdict::Progressing { message, .. } = &made.verdict else {
        panic!("{made:?}")
    };
    assert!(
        message.contains("volume-2") && message.contains("no machine"),
        "{message}"
    );
    let mut named = restoring(3);
    named.given_up_volumes = ["volume-2".to_owned()].into();
    assert!(is_lost(&planned(&named, &world)));
    // A claim on its way out may still be there.
    let mut world = emptied(3);
    let seen = world.slots.get_mut(&1).unwrap();
    seen.node = None;
    seen.volume.as_mut().unwrap().deleting = true;
    assert!(!is_lost(&planned(&restoring(3), &world)));
    // One that has data is never passed over.
    let mut world = emptied(3);
    world
        .slots
        .insert(0, with_backups(healthy(3)).slots[&0].clone());
    assert!(!is_lost(&planned(&restoring(3), &world)));
}

#[test]
fn a_start_after_a_crash_is_no_loss() {
    let mut world = with_backups(healthy(3));
    for seen in world.slots.values_mut() {
        seen.node = None;
    }
    let made = planned(&restoring(3), &world);
    assert_eq!(made.step, None);
    assert_ne!(reason(&made), Some(Reason::DataLost));
}

#[test]
fn everything_is_stopped_exported_and_kept_before_the_newest_backup_is_chosen() {
    let cluster = restoring(3);
    let mut world = emptied(3);
    world.record.loss = Some(Loss::default());
    assert!(matches!(
        planned(&cluster, &world).step,
        Some(Step::DeleteStatefulSet { slot: 0, .. })
    ));
    stopped(&mut world);
    for slot in 0..3 {
        let made = planned(&cluster, &world);
        assert!(
            matches!(&made.step, Some(Step::StartExport { slot: found, beside, .. })
                if *found == slot && beside.name == "new"),
            "{made:?}"
        );
        world.slots.get_mut(&slot).unwrap().export = JobState::Running;
    }
    assert_eq!(planned(&cluster, &world).step, None);
    for seen in world.slots.values_mut() {
        // That it holds nothing is no reason to stop.
        seen.export = JobState::Failed {
            exit_code: Some(20),
            message: "nothing is there".to_owned(),
            with_new_identity: false,
        };
    }
    for slot in 0..3 {
        let made = planned(&cluster, &world);
        assert!(
            matches!(&made.step, Some(Step::KeepVolume { slot: found, .. }) if *found == slot),
            "{made:?}"
        );
        let seen: &mut SlotObservation = world.slots.get_mut(&slot).unwrap();
        seen.volume.as_mut().unwrap().is_kept = true;
    }
    let made = planned(&cluster, &world);
    assert_eq!(
        made.step,
        Some(Step::RecordRestore(Box::new(backup("new", UUID, 2))))
    );
}

#[test]
fn data_that_comes_back_before_anything_is_stopped_is_served() {
    let mut world = emptied(3);
    world.record.loss = Some(Loss::default());
    world.slots.insert(1, healthy(3).slots[&1].clone());
    assert_eq!(planned(&restoring(3), &world).step, Some(Step::ForgetLoss));
}

#[test]
fn a_damaged_backup_gives_way_to_the_next_older_one_and_the_last_to_a_person() {
    let mut cluster = restoring(3);
    cluster.bootstrap = Some(bootstrap());
    cluster.volume_generation = 1;
    let mut world = with_backups(healthy(3));
    world.slots.clear();
    world.record.initialised = false;
    world.record.loss = Some(Loss {
        backup: Some("new".to_owned()),
        ..Loss::default()
    });
    assert_eq!(planned(&cluster, &world).step, Some(Step::StartRestore));
    let failed = |exit_code| JobState::Failed {
        exit_code: Some(exit_code),
        message: "the digest differs".to_owned(),
        with_new_identity: false,
    };
    world.restore = failed(24);
    assert_eq!(
        planned(&cluster, &world).step,
        Some(Step::RecordRestore(Box::new(backup("old", UUID, 1))))
    );
    // One that cannot be reached is not damaged.
    world.restore = failed(25);
    let made = planned(&cluster, &world);
    assert_eq!(
        (made.step.clone(), reason(&made)),
        (None, Some(Reason::RestoreFailed))
    );
    world.restore = failed(24);
    world.record.loss = Some(Loss {
        backup: Some("old".to_owned()),
        damaged_backups: ["new".to_owned()].into(),
        ..Loss::default()
    });
    let made = planned(&cluster, &world);
    assert_eq!(
        (made.step.clone(), reason(&made)),
        (None, Some(Reason::RestoreFailed))
    );
}

#[test]
fn a_volume_that_its_node_refuses_is_recovered_before_anything_is_called_lost() {
    let mut world = with_backups(healthy(1));
    let seen = world.slots.get_mut(&0).unwrap();
    seen.node = None;
    let pod = seen.pod.as_mut().unwrap();
    pod.running = false;
    pod.termination = Some(Termination {
        exit_code: 20,
        message: String::new(),
    });
    let made = planned(&restoring(1), &world);
    assert!(
        matches!(made.step, Some(Step::Fence { slot: 0, .. })),
        "{made:?}"
    );
}
