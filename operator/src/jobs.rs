//! Jobs that run a command of the node program: how they are built, and how their result is read
//! from the termination message of their pods.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use quadraft_protocol::ExitCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{BackupLocation, JobOptions, Quantity, SecurityOptions};
use crate::kubernetes::obstacles::{Obstacle, of_pod};
use crate::names::{ANNOTATION_JOB_RESULT, short_hash};
use crate::quantity::parse_nano;

/// The container of every pod in which the node program runs.
pub const NODE_CONTAINER: &str = "node";
/// Where a claim with backups is mounted.
pub const BACKUP_MOUNT: &str = "/backup";
/// The user that all containers run as.
pub const USER: i64 = 65532;

/// The longest name of a Job: that of its pods is six characters longer, and a label.
const MAXIMUM_NAME: usize = 57;

/// What a Job's container asks for unless somebody says otherwise; a limit too, so that it starts where
/// every pod must have one.
const DEFAULT_RESOURCES: [(&str, &str, &str); 2] =
    [("cpu", "50m", "1"), ("memory", "64Mi", "512Mi")];
const DEFAULT_START_DEADLINE_SECONDS: i64 = 600;
const DEFAULT_RUN_DEADLINE_SECONDS: i64 = 6 * 3600;
const DEFAULT_KEEP_SECONDS: i64 = 24 * 3600;

const NOT_BEGUN: &str = "it did not begin before its deadline";
const NOT_ENDED: &str = "it did not end before its deadline";

/// A name for a Job that is told from all others by `distinct`, however long `name` is.
#[must_use]
pub fn name(name: &str, distinct: &str) -> String {
    let hash = short_hash(&format!("{name}/{distinct}"), 10);
    let room = MAXIMUM_NAME - hash.len() - 1;
    let cut: String = name.chars().take(room).collect();
    format!("{}-{hash}", cut.trim_end_matches(['-', '.']))
}

/// Deadlines with their defaults.
impl JobOptions {
    /// How long a Job may wait for its container to run.
    #[must_use]
    pub fn start_deadline_seconds(&self) -> i64 {
        self.start_deadline_seconds
            .unwrap_or(DEFAULT_START_DEADLINE_SECONDS)
    }

    /// How long a Job may take in all.
    #[must_use]
    pub fn run_deadline_seconds(&self) -> i64 {
        self.run_deadline_seconds
            .unwrap_or(DEFAULT_RUN_DEADLINE_SECONDS)
    }

    /// Requests and limits: what is said, the defaults for the rest. A default never exceeds a limit
    /// that is said, nor falls below a request.
    fn resources(&self) -> Value {
        let said = self.resources.clone().unwrap_or_default();
        let (mut requests, mut limits) = (said.requests, said.limits);
        for (resource, request, limit) in DEFAULT_RESOURCES {
            let above = |one: &str, other: &str| parse_nano(one) > parse_nano(other);
            if !requests.contains_key(resource) {
                let request = match limits.get(resource) {
                    Some(limit) if above(request, &limit.0) => limit.0.clone(),
                    _ => request.to_owned(),
                };
                requests.insert(resource.to_owned(), Quantity(request));
            }
            if !limits.contains_key(resource) {
                let limit = match requests.get(resource) {
                    Some(request) if above(&request.0, limit) => request.0.clone(),
                    _ => limit.to_owned(),
                };
                limits.insert(resource.to_owned(), Quantity(limit));
            }
        }
        json!({ "requests": requests, "limits": limits })
    }
}

/// One Job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    pub name: String,
    pub namespace: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub annotations: Value,
    pub owner: Value,
    pub image: String,
    pub image_pull_policy: Option<String>,
    pub service_account: Option<String>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The claim with the node's volume.
    pub data_claim: Option<String>,
    /// Where backups lie.
    pub location: Option<BackupLocation>,
    pub backup_is_read_only: bool,
    pub scheduling: Value,
    pub security: SecurityOptions,
    pub options: JobOptions,
}

impl JobSpec {
    /// The Job as it is applied.
    #[must_use]
    pub fn build(&self) -> Value {
        let mut mounts = vec![json!({ "name": "tmp", "mountPath": "/tmp" })];
        let mut volumes = vec![json!({ "name": "tmp", "emptyDir": {} })];
        if let Some(claim) = &self.data_claim {
            mounts.push(json!({ "name": "data", "mountPath": "/data" }));
            volumes
                .push(json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim } }));
        }
        let mut environment_from = Vec::new();
        if let Some(location) = &self.location {
            if let Some(claim) = &location.claim_name {
                mounts.push(json!({
                    "name": "backup", "mountPath": BACKUP_MOUNT, "readOnly": self.backup_is_read_only,
                }));
                volumes.push(
                    json!({ "name": "backup", "persistentVolumeClaim": { "claimName": claim } }),
                );
            }
            if let Some(secret) = &location.credentials_secret_name {
                environment_from.push(json!({ "secretRef": { "name": secret } }));
            }
        }
        let environment: Vec<Value> = self
            .environment
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .chain([
                json!({ "name": "QUADRAFT_TERMINATION_MESSAGE", "value": "/dev/termination-log" }),
            ])
            .collect();
        let mut container = json!({
            "name": NODE_CONTAINER,
            "image": self.image,
            "args": self.arguments,
            "env": environment,
            "envFrom": environment_from,
            "volumeMounts": mounts,
            "securityContext": container_security(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": self.options.resources(),
        });
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security(self.security),
            "containers": [container],
            "volumes": volumes,
        });
        if let Some(account) = &self.service_account {
            pod["serviceAccountName"] = json!(account);
        }
        if let (Value::Object(pod), Value::Object(scheduling)) = (&mut pod, &self.scheduling) {
            pod.extend(scheduling.clone());
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.labels,
                "annotations": self.annotations,
                "ownerReferences": self.owner,
            },
            "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": self.options.run_deadline_seconds(),
                "ttlSecondsAfterFinished": self.options.keep_seconds.unwrap_or(DEFAULT_KEEP_SECONDS),
                // What the program decided will not change by asking again.
                "podFailurePolicy": { "rules": [
                    { "action": "FailJob", "onExitCodes": {
                        "containerName": NODE_CONTAINER, "operator": "In",
                        "values": [2, 10, 20, 21, 24, 26] } },
                    { "action": "Ignore", "onPodConditions": [
                        { "type": "DisruptionTarget", "status": "True" } ] },
                ] },
                "template": {
                    "metadata": { "labels": self.labels },
                    "spec": pod,
                },
            },
        })
    }
}

/// The security context of every pod.
#[must_use]
pub fn pod_security(options: SecurityOptions) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if !options.user_from_platform {
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            context[key] = json!(USER);
        }
        context["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    context
}

/// The security context of every container.
#[must_use]
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// The URL under which the node program finds a backup's folder.
#[must_use]
pub fn location_url(location: &BackupLocation, name: Option<&str>) -> String {
    let base = match (&location.url, &location.path) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(path)) => format!("file://{BACKUP_MOUNT}/{}", path.trim_matches('/')),
        (None, None) => format!("file://{BACKUP_MOUNT}"),
    };
    match name {
        Some(name) => format!("{base}/{name}"),
        None => base,
    }
}

/// How a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// Its container has not run yet; what keeps it from that, when somebody says so.
    Waiting {
        obstacle: Option<Obstacle>,
    },
    Running,
    /// It did what it should. What it reported is gone when its pod went before anybody looked.
    Succeeded {
        report: Option<String>,
    },
    Failed {
        exit_code: Option<i32>,
        message: String,
    },
}

/// The end of a Job's container as it is kept in the Job, for when the pod is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    exit_code: i32,
    message: String,
}

/// Reads how a Job stands from it and its pods. `warning` is the last one about a Job without pods.
#[must_use]
pub fn result(
    job: &Job,
    pods: &[Arc<Pod>],
    warning: Option<&Obstacle>,
    now: Timestamp,
) -> JobResult {
    let mine: Vec<&Pod> = pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| belongs_to(pod, job))
        .collect();
    let ends = ends(job, &mine);
    let succeeded = ends.iter().find(|end| end.exit_code == 0);
    let status = job.status.clone().unwrap_or_default();
    if let Some(end) = succeeded {
        return JobResult::Succeeded {
            report: Some(end.message.clone()),
        };
    }
    if condition(job, "Complete").is_some() || status.succeeded.unwrap_or(0) > 0 {
        return JobResult::Succeeded { report: None };
    }
    // What the program decided explains more than a kill before it.
    let worst = ends.iter().max_by_key(|end| {
        ExitCode::from_status(end.exit_code).is_some_and(|code| code as u8 >= 10)
    });
    if let Some(failed) = condition(job, "Failed") {
        if failed.reason.as_deref() == Some("DeadlineExceeded") {
            let begun = mine
                .iter()
                .any(|pod| of_pod(pod, NODE_CONTAINER, now).is_none());
            return JobResult::Failed {
                exit_code: None,
                message: if begun { NOT_ENDED } else { NOT_BEGUN }.to_owned(),
            };
        }
        return JobResult::Failed {
            exit_code: worst.map(|end| end.exit_code),
            message: match worst {
                Some(end) => explain(&end.message),
                None => failed
                    .message
                    .clone()
                    .unwrap_or_else(|| "the Job failed".to_owned()),
            },
        };
    }
    // Beside a container that somebody else put into the pod it may never end by itself.
    if let Some(end) = worst.filter(|_| mine.iter().any(|pod| has_ended_in_a_running_pod(pod))) {
        return JobResult::Failed {
            exit_code: Some(end.exit_code),
            message: explain(&end.message),
        };
    }
    let obstacles: Vec<Option<Obstacle>> = mine
        .iter()
        .map(|pod| of_pod(pod, NODE_CONTAINER, now))
        .collect();
    if mine.iter().any(|pod| has_begun(pod)) {
        return JobResult::Running;
    }
    JobResult::Waiting {
        obstacle: obstacles.into_iter().flatten().next().or_else(|| {
            let told = warning.filter(|_| mine.is_empty());
            told.cloned()
        }),
    }
}

/// The patch that keeps the end of a Job's container in the Job, and stops what somebody else put beside
/// it; nothing when that was done, or there is nothing to keep.
#[must_use]
pub fn to_keep(job: &Job, pods: &[Arc<Pod>]) -> Option<Value> {
    let is_kept = annotation(job).is_some();
    let mine: Vec<&Pod> = pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| belongs_to(pod, job))
        .collect();
    let end = ends(job, &mine).into_iter().max_by_key(|end| {
        let decided = ExitCode::from_status(end.exit_code).is_some_and(|code| code as u8 >= 10);
        (end.exit_code == 0, decided)
    })?;
    let is_over = condition(job, "Complete").is_some() || condition(job, "Failed").is_some();
    let goes_on = mine.iter().any(|pod| has_ended_in_a_running_pod(pod));
    if is_kept || !(is_over || goes_on) {
        return None;
    }
    let text = serde_json::to_string(&end).ok()?;
    let mut patch = json!({ "metadata": {
        "uid": job.metadata.uid,
        "annotations": { ANNOTATION_JOB_RESULT: text },
    } });
    if !is_over {
        patch["spec"] = json!({ "suspend": true });
    }
    Some(patch)
}

/// Writes what [`to_keep`] gives into the Job.
///
/// # Errors
/// When the API server does not answer or refuses. A Job that is gone needs nothing.
pub async fn keep(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> Result<(), kube::Error> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let patched = jobs
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

fn annotation(job: &Job) -> Option<Kept> {
    let annotations = job.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(ANNOTATION_JOB_RESULT)?).ok()
}

/// Whether nothing of a Job will happen any more, or it was stopped.
#[must_use]
pub fn has_ended(job: &Job) -> bool {
    annotation(job).is_some()
        || condition(job, "Complete").is_some()
        || condition(job, "Failed").is_some()
}

fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The node program's container in a pod; a mesh may have put others before it.
fn node_state(pod: &Pod) -> Option<&ContainerState> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ours = containers
        .iter()
        .find(|container| container.name == NODE_CONTAINER)?;
    ours.state.as_ref()
}

fn has_begun(pod: &Pod) -> bool {
    node_state(pod).is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

fn has_ended_in_a_running_pod(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running") && node_state(pod).is_some_and(|state| state.terminated.is_some())
}

/// How the containers of a Job ended, by the names of their pods; what was kept stands first.
fn ends(job: &Job, pods: &[&Pod]) -> Vec<Kept> {
    let mut found: Vec<(Option<&str>, Kept)> = pods
        .iter()
        .filter_map(|pod| {
            let terminated = node_state(pod)?.terminated.as_ref()?;
            let end = Kept {
                exit_code: terminated.exit_code,
                message: terminated.message.clone().unwrap_or_default(),
            };
            Some((pod.metadata.name.as_deref(), end))
        })
        .collect();
    found.sort_by_key(|(name, _)| *name);
    let found = found.into_iter().map(|(_, end)| end);
    annotation(job).into_iter().chain(found).collect()
}

fn belongs_to(pod: &Pod, job: &Job) -> bool {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// The sentence in a termination message: `error` or `message` of the JSON, else its last line.
#[must_use]
pub fn explain(termination_message: &str) -> String {
    let parsed: Value = serde_json::from_str(termination_message).unwrap_or_default();
    for key in ["error", "message"] {
        if let Some(text) = parsed.get(key).and_then(Value::as_str) {
            return text.to_owned();
        }
    }
    let line = termination_message.trim().lines().next_back().unwrap_or("");
    if line.is_empty() {
        "the program left no message".to_owned()
    } else {
        line.chars().take(500).collect()
    }
}

/// The reason of a failed Job, by the documented exit codes.
#[must_use]
pub fn failure_reason(exit_code: Option<i32>, message: &str) -> &'static str {
    match exit_code {
        Some(2) => "WrongArguments",
        Some(20) => "VolumeRefused",
        Some(21) => "WrongIdentity",
        Some(22) => "VolumeInUse",
        Some(23) => "DiskFailed",
        Some(24) => "BackupInvalid",
        Some(25) => "Unreachable",
        Some(137) => "Killed",
        None if message == NOT_BEGUN => "StartDeadlineExceeded",
        None if message == NOT_ENDED => "RunDeadlineExceeded",
        _ => "JobFailed",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn job(status: Value) -> Job {
        serde_json::from_value(json!({ "metadata": { "uid": "j" }, "status": status })).unwrap()
    }

    fn pod_of(name: &str, phase: &str, state: Value) -> Arc<Pod> {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name, "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "j" }] },
            "status": { "phase": phase, "containerStatuses": [
                { "name": "mesh", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": { "terminated": { "exitCode": 9, "message": "not ours" } } },
                { "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": state },
            ] },
        }));
        Arc::new(pod.unwrap())
    }

    fn pod(name: &str, exit_code: i32, message: &str) -> Arc<Pod> {
        let phase = if exit_code == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
        let state = json!({ "terminated": { "exitCode": exit_code, "message": message } });
        pod_of(name, phase, state)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn result_of(job: &Job, pods: &[Arc<Pod>]) -> JobResult {
        result(job, pods, None, now())
    }

    fn complete() -> Job {
        job(json!({ "succeeded": 1, "conditions": [{ "type": "Complete", "status": "True" }] }))
    }

    fn failed() -> Job {
        job(json!({ "conditions": [{ "type": "Failed", "status": "True" }] }))
    }

    #[test]
    fn a_job_waits_until_its_container_runs_and_says_why() {
        let begun = job(json!({ "active": 1 }));
        assert_eq!(
            result_of(&begun, &[]),
            JobResult::Waiting { obstacle: None }
        );
        let quota = Obstacle {
            reason: "FailedCreate".into(),
            message: "exceeded quota".into(),
        };
        assert_eq!(
            result(&begun, &[], Some(&quota), now()),
            JobResult::Waiting {
                obstacle: Some(quota.clone())
            }
        );
        let waiting = pod_of(
            "a",
            "Pending",
            json!({ "waiting": { "reason": "ErrImagePull" } }),
        );
        let told = match result(&begun, &[waiting], Some(&quota), now()) {
            JobResult::Waiting { obstacle } => obstacle,
            _ => None,
        };
        assert_eq!(told.unwrap().reason, "ErrImagePull");
        let running = pod_of("a", "Running", json!({ "running": {} }));
        assert_eq!(result_of(&begun, &[running]), JobResult::Running);
    }

    #[test]
    fn a_refusal_explains_a_failed_job_better_than_a_kill() {
        let refusal = r#"{"outcome":"refused","message":"the vote is unreadable"}"#;
        let pods = [pod("a", 20, refusal), pod("b", 137, "")];
        assert_eq!(
            result_of(&failed(), &pods),
            JobResult::Failed {
                exit_code: Some(20),
                message: "the vote is unreadable".into()
            }
        );
    }

    #[test]
    fn a_successful_job_gives_the_message_of_the_pod_that_succeeded() {
        let pods = [pod("a", 25, r#"{"error":"no node"}"#), pod("b", 0, "{}")];
        let report = Some("{}".to_owned());
        assert_eq!(
            result_of(&complete(), &pods),
            JobResult::Succeeded { report }
        );
    }

    #[test]
    fn the_end_is_kept_in_the_job_for_when_its_pod_is_gone() {
        assert_eq!(
            result_of(&complete(), &[]),
            JobResult::Succeeded { report: None }
        );
        let pods = [pod("a", 0, "{}")];
        let patch = to_keep(&complete(), &pods).unwrap();
        assert_eq!(patch["spec"], Value::Null);
        let mut kept = complete();
        let annotations = patch["metadata"]["annotations"].clone();
        kept.metadata.annotations = serde_json::from_value(annotations).unwrap();
        let report = Some("{}".to_owned());
        assert_eq!(result_of(&kept, &[]), JobResult::Succeeded { report });
        assert_eq!(to_keep(&kept, &pods), None);
    }

    #[test]
    fn what_stands_beside_the_container_does_not_keep_the_job_running() {
        let runs = job(json!({ "active": 1 }));
        for (exit_code, expected) in [
            (
                0,
                JobResult::Succeeded {
                    report: Some("{}".into()),
                },
            ),
            (
                20,
                JobResult::Failed {
                    exit_code: Some(20),
                    message: "{}".into(),
                },
            ),
        ] {
            let state = json!({ "terminated": { "exitCode": exit_code, "message": "{}" } });
            let pods = [pod_of("a", "Running", state)];
            assert_eq!(result_of(&runs, &pods), expected);
            assert_eq!(to_keep(&runs, &pods).unwrap()["spec"]["suspend"], true);
        }
        // Without it the Job tries again by itself.
        let tried = [pod("a", 25, "{}")];
        assert_eq!(result_of(&runs, &tried), JobResult::Running);
        assert_eq!(to_keep(&runs, &tried), None);
    }

    #[test]
    fn names_of_jobs_are_short_enough_for_the_names_of_their_pods_and_differ() {
        let long = "a".repeat(63);
        assert!(name(&long, "one").len() <= MAXIMUM_NAME);
        assert_ne!(name(&long, "one"), name(&long, "two"));
        assert_ne!(
            name(&format!("{long}b"), "one"),
            name(&format!("{long}c"), "one")
        );
        assert!(name("films", "one").starts_with("films-"));
    }

    #[test]
    fn defaults_of_resources_fit_what_is_said() {
        let options = |said: Value| JobOptions {
            resources: Some(serde_json::from_value(said).unwrap()),
            ..JobOptions::default()
        };
        assert_eq!(
            JobOptions::default().resources(),
            json!({ "requests": { "cpu": "50m", "memory": "64Mi" },
                "limits": { "cpu": "1", "memory": "512Mi" } })
        );
        let said = options(json!({ "requests": { "memory": "1Gi" }, "limits": { "cpu": "20m" } }));
        assert_eq!(
            said.resources(),
            json!({ "requests": { "cpu": "20m", "memory": "1Gi" },
                "limits": { "cpu": "20m", "memory": "1Gi" } })
        );
    }

    #[test]
    fn a_backup_is_a_folder_of_its_own_inside_its_destination() {
        let claim = BackupLocation {
            claim_name: Some("c".into()),
            path: Some("films".into()),
            ..BackupLocation::default()
        };
        assert_eq!(location_url(&claim, Some("b1")), "file:///backup/films/b1");
        let store = BackupLocation {
            url: Some("s3://bucket/x/".into()),
            ..BackupLocation::default()
        };
        assert_eq!(location_url(&store, Some("b1")), "s3://bucket/x/b1");
        assert_eq!(location_url(&store, None), "s3://bucket/x");
    }
}
