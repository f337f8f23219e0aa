//! Why a pod does not run, in the words of whoever keeps it from running: the scheduler, the kubelet, or
//! the API server, which tells the controller that makes pods of quotas, ranges of limits and admission.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};

/// How long a container may be in the making before that is worth telling: volumes are attached and
/// images pulled meanwhile.
const MAKING_SECONDS: i64 = 30;

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// `Unschedulable`, `ErrImagePull`, `FailedCreate` and so on.
    pub reason: String,
    pub message: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.reason.as_str(), self.message.as_str()) {
            (reason, "") => formatter.write_str(reason),
            ("", message) => formatter.write_str(message),
            (reason, message) => write!(formatter, "{reason}: {message}"),
        }
    }
}

/// What keeps the container `name` of a pod from running; nothing when it runs, has run, or may begin
/// at any moment.
#[must_use]
pub fn of_pod(pod: &Pod, name: &str, now: Timestamp) -> Option<Obstacle> {
    let status = pod.status.as_ref()?;
    let created = pod.metadata.creation_timestamp.as_ref();
    let age_seconds = created.map_or(0, |time| now.as_second() - time.0.as_second());
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled");
    if let Some(condition) = scheduled.filter(|condition| condition.status == "False") {
        return Some(Obstacle {
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        });
    }
    // One that was put before it may be what it waits for.
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    let ours = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == name);
    if ours.is_some_and(has_begun) {
        return None;
    }
    let waiting: Vec<Obstacle> = all
        .filter_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            Some(Obstacle {
                reason: waiting.reason.clone().unwrap_or_default(),
                message: waiting.message.clone().unwrap_or_default(),
            })
        })
        .collect();
    let is_usual = |obstacle: &&Obstacle| {
        matches!(
            obstacle.reason.as_str(),
            "ContainerCreating" | "PodInitializing"
        )
    };
    if let Some(told) = waiting.iter().find(|obstacle| !is_usual(obstacle)) {
        return Some(told.clone());
    }
    if age_seconds < MAKING_SECONDS {
        return None;
    }
    let told = waiting.into_iter().next().unwrap_or_else(|| Obstacle {
        reason: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
        message: String::new(),
    });
    Some(Obstacle {
        message: format!("for {age_seconds} s; {}", told.message)
            .trim_end_matches("; ")
            .to_owned(),
        ..told
    })
}

fn has_begun(container: &ContainerStatus) -> bool {
    container
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        || container.restart_count > 0
}

/// The last warning about an object, which for a Job or a StatefulSet without a pod says why there is
/// none.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn last_warning(
    client: &Client,
    namespace: &str,
    uid: &str,
) -> Result<Option<Obstacle>, kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let found = events.list(&about).await?;
    Ok(latest(found.items))
}

fn latest(events: Vec<Event>) -> Option<Obstacle> {
    let time = |event: &Event| {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        series
            .map(|time| time.0)
            .or(event.last_timestamp.as_ref().map(|time| time.0))
            .or(event.event_time.as_ref().map(|time| time.0))
            .or(event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0))
    };
    let last = events.into_iter().max_by_key(time)?;
    Some(Obstacle {
        reason: last.reason.unwrap_or_default(),
        message: last.message.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "creationTimestamp": at(0).to_string() }, "status": status,
        }))
        .unwrap()
    }

    fn container(name: &str, state: Value) -> Value {
        json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state })
    }

    #[test]
    fn the_words_of_scheduler_and_kubelet_are_told() {
        let unschedulable = pod(
            json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available" }] }),
        );
        let told = of_pod(&unschedulable, "node", at(1)).unwrap();
        assert_eq!(told.to_string(), "Unschedulable: 0/1 nodes are available");
        for reason in [
            "ErrImagePull",
            "ImagePullBackOff",
            "CreateContainerConfigError",
        ] {
            let waits = pod(json!({ "phase": "Pending", "containerStatuses": [
                container("node", json!({ "waiting": { "reason": reason, "message": "why" } }))] }));
            assert_eq!(of_pod(&waits, "node", at(1)).unwrap().reason, reason);
        }
    }

    #[test]
    fn a_container_in_the_making_is_an_obstacle_when_it_takes_long() {
        let waits = pod(json!({ "phase": "Pending", "containerStatuses": [
            container("node", json!({ "waiting": { "reason": "ContainerCreating" } }))] }));
        assert_eq!(of_pod(&waits, "node", at(5)), None);
        let told = of_pod(&waits, "node", at(90)).unwrap();
        assert_eq!(told.to_string(), "ContainerCreating: for 90 s");
    }

    #[test]
    fn what_was_put_before_the_container_may_be_what_it_waits_for() {
        let waits = pod(json!({ "phase": "Pending",
            "initContainerStatuses": [
                container("mesh", json!({ "waiting": { "reason": "ErrImagePull" } }))],
            "containerStatuses": [
                container("node", json!({ "waiting": { "reason": "PodInitializing" } }))] }));
        assert_eq!(
            of_pod(&waits, "node", at(1)).unwrap().reason,
            "ErrImagePull"
        );
    }

    #[test]
    fn nothing_keeps_one_that_runs_or_has_run_whatever_stands_beside_it() {
        for state in [
            json!({ "running": {} }),
            json!({ "terminated": { "exitCode": 0 } }),
        ] {
            let runs = pod(json!({ "phase": "Running", "containerStatuses": [
                container("mesh", json!({ "waiting": { "reason": "CrashLoopBackOff" } })),
                container("node", state)] }));
            assert_eq!(of_pod(&runs, "node", at(900)), None);
        }
    }

    #[test]
    fn the_newest_warning_is_told_however_its_time_is_written() {
        let event = |reason: &str, time: Value| -> Event {
            let mut event = json!({ "metadata": {}, "involvedObject": {}, "reason": reason,
                "message": "exceeded quota" });
            event
                .as_object_mut()
                .unwrap()
                .extend(time.as_object().unwrap().clone());
            serde_json::from_value(event).unwrap()
        };
        let events = vec![
            event("Old", json!({ "lastTimestamp": at(1).to_string() })),
            event(
                "FailedCreate",
                json!({ "series": { "count": 2,
                "lastObservedTime": format!("{}", at(9)) } }),
            ),
            event("Middle", json!({ "eventTime": at(5).to_string() })),
        ];
        assert_eq!(latest(events).unwrap().reason, "FailedCreate");
        assert_eq!(latest(Vec::new()), None);
    }
}
