//! What is said of clusters that Kubernetes does not send clients to yet, or not any more.

use k8s_openapi::jiff::Timestamp;

use super::super::super::observation::{Observation, ServiceAnswer, Slot};
use super::super::super::validate::ValidatedCluster;
use super::super::super::{observe, serving, status};
use super::super::plan;
use super::scenarios::healthy;
use super::{UUID, cluster};
use crate::api::RdfClusterStatus;

fn status_of(cluster: &ValidatedCluster, observation: &Observation) -> RdfClusterStatus {
    let made = plan(cluster, observation);
    let old = RdfClusterStatus {
        cluster_uuid: Some(UUID.to_owned()),
        ..RdfClusterStatus::default()
    };
    let now = Timestamp::UNIX_EPOCH;
    status::status(cluster, Some(1), &old, observation, &made, None, now)
}

fn condition<'a>(status: &'a RdfClusterStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    (&found.status, &found.reason, &found.message)
}

fn pod_is_not_ready(observation: &mut Observation, slot: Slot) {
    let seen = observation.slots.get_mut(&slot).unwrap();
    seen.pod.as_mut().unwrap().ready = false;
}

#[test]
fn a_cluster_whose_service_answers_is_ready() {
    let status = status_of(&cluster(3), &healthy(3));
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Reconciling").0, "False");
    assert_eq!(status.ready_members.as_deref(), Some("3/3"));
}

#[test]
fn a_member_is_not_counted_as_ready_before_kubernetes_says_so() {
    let mut world = healthy(1);
    pod_is_not_ready(&mut world, 0);
    let status = status_of(&cluster(1), &world);
    assert_eq!(status.ready_members.as_deref(), Some("0/1"));
    assert!(!status.members[0].ready);
    assert_eq!(
        status.members[0].message.as_deref(),
        Some("Kubernetes does not report its pod as ready")
    );
    assert_eq!(
        condition(&status, "Ready"),
        (
            "False",
            "PodsNotReady",
            "Kubernetes does not report these pods as ready: films-0-0"
        )
    );
    // It goes on, and nobody has to do anything about it.
    let (status_of_it, reason, _) = condition(&status, "Reconciling");
    assert_eq!((status_of_it, reason), ("True", "PodsNotReady"));
    assert_eq!(condition(&status, "Stalled").0, "False");
}

#[test]
fn ready_waits_for_the_endpoints_and_for_an_answer_through_them() {
    let mut world = healthy(3);
    world.service.ready_pods.remove("pod-1");
    world.service.answer = ServiceAnswer::NotAsked;
    let status = status_of(&cluster(3), &world);
    let (ready, reason, message) = condition(&status, "Ready");
    assert_eq!((ready, reason), ("False", "EndpointsNotReady"));
    assert!(message.ends_with("films-1-0"), "{message}");

    let mut world = healthy(3);
    world.service.answer = ServiceAnswer::Failed("no connection".to_owned());
    let status = status_of(&cluster(3), &world);
    let (ready, reason, message) = condition(&status, "Ready");
    assert_eq!((ready, reason), ("False", "ServiceNotReachable"));
    assert!(message.ends_with("no connection"), "{message}");
    // The members serve: what is missing is the way to them.
    assert_eq!(status.ready_members.as_deref(), Some("3/3"));
}

#[test]
fn what_the_plan_waits_for_is_said_before_what_keeps_clients_out() {
    let mut world = healthy(3);
    let seen = world.slots.get_mut(&2).unwrap();
    seen.node = None;
    pod_is_not_ready(&mut world, 2);
    let status = status_of(&cluster(3), &world);
    let (ready, reason, _) = condition(&status, "Ready");
    assert_eq!((ready, reason), ("False", "WaitingForMembers"));
}

#[test]
fn a_paused_cluster_is_ready_only_while_clients_reach_it() {
    let mut paused = cluster(3);
    paused.paused = true;
    let mut world = healthy(3);
    assert_eq!(condition(&status_of(&paused, &world), "Ready").0, "True");
    pod_is_not_ready(&mut world, 1);
    let status = status_of(&paused, &world);
    let (ready, reason, _) = condition(&status, "Ready");
    assert_eq!((ready, reason), ("False", "PodsNotReady"));
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn a_status_that_says_ready_is_remembered_with_the_starts_it_was_said_of() {
    let mut world = healthy(3);
    let mut written = status_of(&cluster(3), &world);
    world.service.answer = ServiceAnswer::NotAsked;
    world.record = observe::record(&written);
    assert!(!serving::should_ask(&cluster(3), &world));
    // A status that says anything else proves nothing.
    written
        .conditions
        .retain(|condition| condition.type_ != "Ready");
    world.record = observe::record(&written);
    assert!(serving::should_ask(&cluster(3), &world));
}
