//! `RdfBackupSchedule`: backups by the clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{BackupLocation, Condition, DeletionPolicy, JobOptions};

/// Creates an RdfBackup at each time that a cron expression names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "quadraft.dev",
    version = "v1alpha1",
    kind = "RdfBackupSchedule",
    plural = "rdfbackupschedules",
    shortname = "rdfbs",
    category = "quadraft",
    namespaced,
    status = "RdfBackupScheduleStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterName"}"#,
    printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.schedule"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspend"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastScheduledAt"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextAt"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 50").message("the name of an RdfBackupSchedule has at most 50 characters, as backups are named after it"),
)]
pub struct RdfBackupScheduleSpec {
    /// The RdfCluster in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    pub cluster_name: String,
    /// Cron expression of five fields.
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^\S+( +\S+){4}$"))]
    pub schedule: String,
    /// The time zone of the expression, by its name in the IANA database, such as `Europe/Berlin`; UTC
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Where the backups go.
    pub destination: BackupLocation,
    /// What becomes of the data of backups that are not kept any more.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How the backups' Jobs run.
    #[serde(default)]
    pub job: JobOptions,
    /// Whether a backup is taken at once when the schedule is made.
    #[serde(default)]
    pub immediate: bool,
    /// How many completed backups of this schedule to keep; older RdfBackup objects are deleted, and
    /// their data as `deletionPolicy` says.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: i32,
    /// How many failed backups of this schedule to keep.
    #[serde(default = "default_failed_history_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_history_limit: i32,
    /// Makes no new backups while true.
    #[serde(default)]
    pub suspend: bool,
}

fn default_keep() -> i32 {
    7
}

fn default_failed_history_limit() -> i32 {
    3
}

/// What the schedule did and will do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RdfBackupScheduleStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_name: Option<String>,
    /// When a backup of this schedule was completed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
