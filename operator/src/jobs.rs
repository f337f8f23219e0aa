//! Jobs that run a command of the node program: how they are built, and how their result is read
//! from the termination message of their pods.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::api::BackupLocation;

/// Where a claim with backups is mounted.
pub const BACKUP_MOUNT: &str = "/backup";
/// The user that all containers run as.
pub const USER: i64 = 65532;

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
            "name": "node",
            "image": self.image,
            "args": self.arguments,
            "env": environment,
            "envFrom": environment_from,
            "volumeMounts": mounts,
            "securityContext": container_security(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } },
        });
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security(),
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
                // What the program decided will not change by asking again.
                "podFailurePolicy": { "rules": [
                    { "action": "FailJob", "onExitCodes": {
                        "containerName": "node", "operator": "In", "values": [2, 10, 20, 21, 24, 26] } },
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
pub fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    })
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
    Running,
    Succeeded {
        message: String,
    },
    Failed {
        exit_code: Option<i32>,
        message: String,
    },
}

/// Reads how a Job stands from it and its pods.
#[must_use]
pub fn result(job: &Job, pods: &[Pod]) -> JobResult {
    let status = job.status.clone().unwrap_or_default();
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    let mut ends: Vec<(i32, String, Option<&str>)> = pods
        .iter()
        .filter(|pod| belongs_to(pod, job))
        .filter_map(|pod| {
            let terminated = pod
                .status
                .as_ref()?
                .container_statuses
                .as_ref()?
                .first()?
                .state
                .as_ref()?
                .terminated
                .as_ref()?;
            Some((
                terminated.exit_code,
                terminated.message.clone().unwrap_or_default(),
                pod.metadata.name.as_deref(),
            ))
        })
        .collect();
    ends.sort_by_key(|(_, _, name)| *name);
    if condition("Complete").is_some() || status.succeeded.unwrap_or(0) > 0 {
        let message = ends
            .iter()
            .find(|(code, _, _)| *code == 0)
            .map(|(_, message, _)| message.clone())
            .unwrap_or_default();
        return JobResult::Succeeded { message };
    }
    if let Some(failed) = condition("Failed") {
        // What the program decided explains more than a kill before it.
        let end = ends
            .iter()
            .max_by_key(|(code, _, _)| (10..=26).contains(code));
        return JobResult::Failed {
            exit_code: end.map(|(code, _, _)| *code),
            message: end
                .map(|(_, message, _)| explain(message))
                .unwrap_or_else(|| {
                    failed
                        .message
                        .clone()
                        .unwrap_or_else(|| "the Job failed".to_owned())
                }),
        };
    }
    JobResult::Running
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
pub fn failure_reason(exit_code: Option<i32>) -> &'static str {
    match exit_code {
        Some(2) => "WrongArguments",
        Some(20) => "VolumeRefused",
        Some(21) => "WrongIdentity",
        Some(22) => "VolumeInUse",
        Some(23) => "DiskFailed",
        Some(24) => "BackupInvalid",
        Some(25) => "Unreachable",
        Some(137) => "Killed",
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

    fn pod(name: &str, exit_code: i32, message: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "j" }] },
            "status": { "containerStatuses": [{
                "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": exit_code, "message": message } } }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_job_without_an_end_runs() {
        assert_eq!(
            result(&job(json!({ "active": 1 })), &[]),
            JobResult::Running
        );
    }

    #[test]
    fn a_refusal_explains_a_failed_job_better_than_a_kill() {
        let failed = job(json!({ "conditions": [{ "type": "Failed", "status": "True" }] }));
        let pods = [
            pod(
                "a",
                20,
                r#"{"outcome":"refused","message":"the vote is unreadable"}"#,
            ),
            pod("b", 137, ""),
        ];
        assert_eq!(
            result(&failed, &pods),
            JobResult::Failed {
                exit_code: Some(20),
                message: "the vote is unreadable".into()
            }
        );
    }

    #[test]
    fn a_successful_job_gives_the_message_of_the_pod_that_succeeded() {
        let done = job(
            json!({ "succeeded": 1, "conditions": [{ "type": "Complete", "status": "True" }] }),
        );
        let pods = [pod("a", 25, r#"{"error":"no node"}"#), pod("b", 0, "{}")];
        assert_eq!(
            result(&done, &pods),
            JobResult::Succeeded {
                message: "{}".into()
            }
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
