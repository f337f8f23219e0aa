//! Members that are replaced because their machine is gone, or because a person asks for it.

use quadraft_protocol::NodeId;

use super::super::super::observation::{Observation, Slot};
use super::super::super::validate::ValidatedCluster;
use super::super::{Plan, Reason, Step, Verdict, plan};
use super::scenarios::healthy;
use super::{assert_safe, cluster};

const AFTER: i64 = 600;

fn replacing() -> ValidatedCluster {
    let mut cluster = cluster(3);
    cluster.spec.recovery.replace_after_seconds = Some(AFTER);
    cluster
}

fn silent(world: &mut Observation, slot: Slot, seconds: i64) {
    let seen = world.slots.get_mut(&slot).unwrap();
    seen.node = None;
    seen.unreachable_seconds = seconds;
}

/// Whoever is in `slot` has left.
fn without(world: &mut Observation, slot: Slot) {
    for seen in world.slots.values_mut() {
        if let Some(membership) = seen.node.as_mut().and_then(|node| node.membership.as_mut()) {
            membership.members.retain(|_, member| *member != Some(slot));
            membership.voters.remove(&NodeId(100 + u64::from(slot)));
        }
    }
}

fn planned(cluster: &ValidatedCluster, world: &Observation) -> Plan {
    let made = plan(cluster, world);
    assert_safe(cluster, world, &made);
    made
}

fn discards(plan: &Plan, slot: Slot) -> bool {
    matches!(&plan.step, Some(Step::Discard { slot: found, .. }) if *found == slot)
}

#[test]
fn a_member_that_is_silent_for_as_long_as_was_said_leaves_and_its_volume_is_given_up() {
    let mut world = healthy(3);
    silent(&mut world, 2, AFTER - 1);
    assert_eq!(planned(&replacing(), &world).step, None);
    silent(&mut world, 2, AFTER);
    // Nobody has said that it may be replaced.
    assert_eq!(planned(&cluster(3), &world).step, None);
    let made = planned(&replacing(), &world);
    assert!(
        matches!(made.step, Some(Step::Remove { slot: 2, .. })),
        "{made:?}"
    );
    // It opens its volume, which takes long, and says so.
    world.slots.get_mut(&2).unwrap().start = Some("5 of 9 bytes are read".to_owned());
    assert_eq!(planned(&replacing(), &world).step, None);
    world.slots.get_mut(&2).unwrap().start = None;
    without(&mut world, 2);
    assert!(discards(&planned(&replacing(), &world), 2));
    // The volume goes; it is not given up again.
    let seen = world.slots.get_mut(&2).unwrap();
    seen.volume.as_mut().unwrap().deleting = true;
    assert!(!discards(&planned(&replacing(), &world), 2));
}

#[test]
fn nobody_is_replaced_while_another_voter_is_missing_or_has_other_data() {
    let mut world = healthy(3);
    silent(&mut world, 2, AFTER);
    world
        .slots
        .get_mut(&1)
        .unwrap()
        .node
        .as_mut()
        .unwrap()
        .ready = false;
    let made = planned(&replacing(), &world);
    assert_eq!(made.step, None);
    assert!(
        matches!(
            made.verdict,
            Verdict::Progressing {
                reason: Reason::ReplacingMember,
                ..
            }
        ),
        "{made:?}"
    );
    let mut world = healthy(5);
    silent(&mut world, 4, AFTER);
    let digest = |world: &mut Observation, slot, digest: &str| {
        let seen = world.slots.get_mut(&slot).unwrap();
        seen.node.as_mut().unwrap().digest = digest.to_owned();
    };
    digest(&mut world, 1, "one");
    digest(&mut world, 2, "other");
    let mut five = replacing();
    five.replicas = 5;
    assert_eq!(planned(&five, &world).step, None);
}

#[test]
fn a_member_that_a_person_names_with_its_volume_is_replaced_the_leader_after_handing_over() {
    let mut named = cluster(3);
    named.replaced_volume = Some((1, "volume-1".to_owned()));
    let mut world = healthy(3);
    let made = planned(&named, &world);
    assert!(
        matches!(made.step, Some(Step::Remove { slot: 1, .. })),
        "{made:?}"
    );
    // The volume that was named is gone already.
    world
        .slots
        .get_mut(&1)
        .unwrap()
        .volume
        .as_mut()
        .unwrap()
        .uid = "new".to_owned();
    assert_eq!(planned(&named, &world).step, None);
    named.replaced_volume = Some((0, "volume-0".to_owned()));
    let made = planned(&named, &world);
    assert!(
        matches!(made.step, Some(Step::TransferLeadership { from: 0, .. })),
        "{made:?}"
    );
}

#[test]
fn the_only_member_and_one_whose_volume_was_refused_are_not_replaced() {
    let mut one = replacing();
    one.replicas = 1;
    let mut world = healthy(1);
    silent(&mut world, 0, AFTER);
    assert_eq!(planned(&one, &world).step, None);
    let mut world = healthy(3);
    silent(&mut world, 2, AFTER);
    let pod = world.slots.get_mut(&2).unwrap().pod.as_mut().unwrap();
    pod.running = false;
    pod.termination = Some(super::super::super::observation::Termination {
        exit_code: 20,
        message: String::new(),
    });
    let made = planned(&replacing(), &world);
    assert!(
        matches!(made.step, Some(Step::Fence { slot: 2, .. })),
        "{made:?}"
    );
}
