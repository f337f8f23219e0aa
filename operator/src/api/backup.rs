//! `RdfBackup`: one backup of a cluster, taken once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{BackupLocation, Condition, DeletionPolicy, JobOptions};

/// Takes one consistent backup of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "quadraft.dev",
    version = "v1alpha1",
    kind = "RdfBackup",
    plural = "rdfbackups",
    shortname = "rdfb",
    category = "quadraft",
    namespaced,
    status = "RdfBackupStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterName"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Quads","type":"integer","jsonPath":".status.quads"}"#,
    printcolumn = r#"{"name":"Location","type":"string","jsonPath":".status.location","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of an RdfBackup has at most 63 characters"),
)]
pub struct RdfBackupSpec {
    /// The RdfCluster in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("an RdfBackup is taken once: its cluster cannot change"))]
    pub cluster_name: String,
    /// Where the backup goes: a folder is made there, in one for the cluster, named after this object.
    #[x_kube(validation = Rule::new("self == oldSelf").message("an RdfBackup is taken once: its destination cannot change"))]
    pub destination: BackupLocation,
    /// What becomes of the data when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How the Jobs run that take the backup and delete it.
    #[serde(default)]
    pub job: JobOptions,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    #[default]
    Pending,
    Running,
    Completed,
    Failed,
}

/// What is known of the backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RdfBackupStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: BackupPhase,
    /// URL of the backup's folder, as the node writes it; `file:///backup/…` inside a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The digest over all quads, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quads: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The cluster that the backup is of, from the first time that it was seen: another one that is made
    /// under its name later is not backed up in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_cluster_uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// How often a Job was begun.
    #[serde(default)]
    pub attempts: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
