//! Whether a client that connects to the Service now is served. Pure; what is looked at and the
//! status share it.
//!
//! A node says that it is ready before Kubernetes knows: the kubelet asks it again only at its next
//! probe, the Service's endpoints follow, and the rules of the network after them. Ready is what
//! people wait for before they connect, so it waits for all of these.

use super::observation::{Observation, ServiceAnswer, Slot};
use super::validate::ValidatedCluster;

/// What is still between clients and a cluster whose members are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// These pods are not ready, as Kubernetes sees it.
    PodsNotReady(Vec<String>),
    /// The Service does not lead to these pods, though they are ready.
    EndpointsNotReady(Vec<String>),
    /// A request through the Service was not answered as one should be.
    ServiceNotReachable(String),
}

impl Obstacle {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PodsNotReady(_) => "PodsNotReady",
            Self::EndpointsNotReady(_) => "EndpointsNotReady",
            Self::ServiceNotReachable(_) => "ServiceNotReachable",
        }
    }

    /// The condition's message.
    #[must_use]
    pub fn message(&self, cluster: &ValidatedCluster) -> String {
        match self {
            Self::PodsNotReady(pods) => {
                format!(
                    "Kubernetes does not report these pods as ready: {}",
                    pods.join(", ")
                )
            }
            Self::EndpointsNotReady(pods) => format!(
                "the Service {} does not lead to these ready pods yet: {}",
                cluster.name,
                pods.join(", ")
            ),
            Self::ServiceNotReachable(why) => format!(
                "http://{}/readyz is not answered as it should be: {why}",
                cluster.client_address()
            ),
        }
    }
}

/// What is between clients and the cluster. Whether its members are healthy is judged elsewhere.
#[must_use]
pub fn obstacle(cluster: &ValidatedCluster, observation: &Observation) -> Option<Obstacle> {
    if let Some(obstacle) = without_endpoints(cluster, observation) {
        return Some(obstacle);
    }
    match &observation.service.answer {
        ServiceAnswer::Answered => None,
        ServiceAnswer::NotAsked if answered_before(cluster, observation) => None,
        ServiceAnswer::NotAsked => Some(Obstacle::ServiceNotReachable(
            "it was not asked yet".to_owned(),
        )),
        ServiceAnswer::Failed(why) => Some(Obstacle::ServiceNotReachable(why.clone())),
    }
}

/// Whether a request through the Service is to be made: it can be answered, and nothing says yet
/// that it is.
///
/// A cluster that was Ready is not asked again until a member was started anew. One request that
/// is lost must not take Ready from a cluster that serves everybody else, and what can break later
/// shows itself in the pods and the endpoints.
#[must_use]
pub fn should_ask(cluster: &ValidatedCluster, observation: &Observation) -> bool {
    without_endpoints(cluster, observation).is_none() && !answered_before(cluster, observation)
}

fn without_endpoints(cluster: &ValidatedCluster, observation: &Observation) -> Option<Obstacle> {
    let pod = |slot: &Slot| observation.slots.get(slot)?.pod.as_ref();
    let without = |serves: &dyn Fn(&Slot) -> bool| -> Vec<String> {
        cluster
            .wanted_slots()
            .filter(|slot| !serves(slot))
            .map(|slot| cluster.pod_name(slot))
            .collect()
    };
    let not_ready = without(&|slot| pod(slot).is_some_and(|pod| pod.ready && !pod.deleting));
    if !not_ready.is_empty() {
        return Some(Obstacle::PodsNotReady(not_ready));
    }
    // By their UIDs: an endpoint may still be that of a pod of the same name that is gone.
    let not_led_to = without(&|slot| {
        pod(slot).is_some_and(|pod| observation.service.ready_pods.contains(&pod.uid))
    });
    (!not_led_to.is_empty()).then_some(Obstacle::EndpointsNotReady(not_led_to))
}

/// Whether the Service answered while the members ran that run now.
fn answered_before(cluster: &ValidatedCluster, observation: &Observation) -> bool {
    let record = &observation.record;
    record.ready
        && cluster.wanted_slots().all(|slot| {
            let node = observation
                .slots
                .get(&slot)
                .and_then(|seen| seen.node.as_ref());
            // One that does not answer at this moment was not necessarily started anew.
            node.is_none_or(|node| record.boot_counts.get(&slot) == Some(&node.boot_count))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::observation::{Node, Pod, SlotObservation};
    use super::super::validate::validate;
    use super::*;

    fn cluster() -> ValidatedCluster {
        let object = serde_json::from_value(serde_json::json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster",
            "metadata": { "name": "films", "namespace": "prod", "uid": "u" },
            "spec": { "replicas": 3, "storage": { "size": "1Gi" } },
        }))
        .unwrap();
        validate(&object, "quadraft-node").unwrap()
    }

    /// Three members that serve, the Service asked and answering.
    fn serving() -> Observation {
        let mut observation = Observation::default();
        for slot in 0..3 {
            let uid = format!("pod-{slot}");
            observation.service.ready_pods.insert(uid.clone());
            let seen = SlotObservation {
                pod: Some(Pod {
                    uid,
                    running: true,
                    ready: true,
                    ..Pod::default()
                }),
                node: Some(Node {
                    boot_count: 4,
                    ..Node::default()
                }),
                ..SlotObservation::default()
            };
            observation.slots.insert(slot, seen);
        }
        observation.service.answer = ServiceAnswer::Answered;
        observation
    }

    /// The same as the next reconcile sees it: Ready was said, and nothing is asked.
    fn served_before() -> Observation {
        let mut observation = serving();
        observation.record.ready = true;
        observation.record.boot_counts = (0..3).map(|slot| (slot, 4)).collect();
        observation.service.answer = ServiceAnswer::NotAsked;
        observation
    }

    fn pod(observation: &mut Observation, slot: Slot) -> &mut Pod {
        let seen = observation.slots.get_mut(&slot).unwrap();
        seen.pod.as_mut().unwrap()
    }

    #[test]
    fn nothing_is_in_the_way_when_pods_endpoints_and_the_service_say_so() {
        assert_eq!(obstacle(&cluster(), &serving()), None);
    }

    #[test]
    fn a_pod_that_kubernetes_does_not_report_as_ready_is_named() {
        let mut observation = serving();
        pod(&mut observation, 1).ready = false;
        observation.slots.remove(&2);
        let found = obstacle(&cluster(), &observation).unwrap();
        assert_eq!(found.reason(), "PodsNotReady");
        assert_eq!(
            found.message(&cluster()),
            "Kubernetes does not report these pods as ready: films-1-0, films-2-0"
        );
        assert!(!should_ask(&cluster(), &observation));
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_ready_whatever_it_still_says() {
        let mut observation = serving();
        pod(&mut observation, 0).deleting = true;
        assert_eq!(
            obstacle(&cluster(), &observation),
            Some(Obstacle::PodsNotReady(vec!["films-0-0".to_owned()]))
        );
    }

    #[test]
    fn the_endpoint_of_an_earlier_pod_of_the_same_name_does_not_count() {
        let mut observation = serving();
        pod(&mut observation, 2).uid = "pod-2-anew".to_owned();
        let found = obstacle(&cluster(), &observation).unwrap();
        assert_eq!(found.reason(), "EndpointsNotReady");
        assert!(found.message(&cluster()).contains("Service films"));
        assert!(found.message(&cluster()).ends_with("films-2-0"));
        assert!(!should_ask(&cluster(), &observation));
    }

    #[test]
    fn the_pod_of_a_slot_that_is_not_wanted_is_not_waited_for() {
        let mut observation = serving();
        let mut leaving = observation.slots[&0].clone();
        if let Some(pod) = &mut leaving.pod {
            pod.ready = false;
        }
        observation.slots.insert(3, leaving);
        assert_eq!(obstacle(&cluster(), &observation), None);
    }

    #[test]
    fn the_service_has_to_answer_before_the_cluster_is_ready_the_first_time() {
        let mut observation = serving();
        observation.service.answer = ServiceAnswer::NotAsked;
        assert!(should_ask(&cluster(), &observation));
        let reason = obstacle(&cluster(), &observation).map(|found| found.reason());
        assert_eq!(reason, Some("ServiceNotReachable"));
        observation.service.answer = ServiceAnswer::Failed("refused".to_owned());
        let found = obstacle(&cluster(), &observation).unwrap();
        assert_eq!(
            found.message(&cluster()),
            "http://films.prod.svc:7878/readyz is not answered as it should be: refused"
        );
    }

    #[test]
    fn a_cluster_that_is_ready_is_not_asked_again_so_that_one_lost_request_changes_nothing() {
        let observation = served_before();
        assert!(!should_ask(&cluster(), &observation));
        assert_eq!(obstacle(&cluster(), &observation), None);
    }

    #[test]
    fn a_node_that_misses_one_question_was_not_started_anew() {
        let mut observation = served_before();
        observation.slots.get_mut(&1).unwrap().node = None;
        assert_eq!(obstacle(&cluster(), &observation), None);
    }

    #[test]
    fn a_member_that_was_started_anew_is_asked_through_the_service_again() {
        let mut observation = served_before();
        let node = observation.slots.get_mut(&1).unwrap().node.as_mut();
        node.unwrap().boot_count = 5;
        assert!(should_ask(&cluster(), &observation));
        assert!(obstacle(&cluster(), &observation).is_some());
        // So is one of which no status told before.
        let mut observation = served_before();
        observation.record.boot_counts.remove(&2);
        assert!(should_ask(&cluster(), &observation));
    }

    #[test]
    fn a_pod_that_is_not_ready_any_more_is_in_the_way_also_of_a_cluster_that_was_ready() {
        let mut observation = served_before();
        pod(&mut observation, 1).ready = false;
        let reason = obstacle(&cluster(), &observation).map(|found| found.reason());
        assert_eq!(reason, Some("PodsNotReady"));
    }

    #[test]
    fn every_obstacle_is_in_the_documentation() {
        let page = include_str!("../../../docs/operations/conditions.md");
        for obstacle in [
            Obstacle::PodsNotReady(Vec::new()),
            Obstacle::EndpointsNotReady(Vec::new()),
            Obstacle::ServiceNotReachable(String::new()),
        ] {
            assert!(
                page.contains(&format!("`{}`", obstacle.reason())),
                "{obstacle:?}"
            );
        }
    }
}
