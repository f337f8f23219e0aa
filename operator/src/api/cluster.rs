//! `RdfCluster`: one replicated RDF database.

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::common::{
    BackupLocation, Condition, JobOptions, Quantity, Resources, quantity_schema, resources_schema,
};

/// A SPARQL 1.1 database of 1, 3, 5 or 7 nodes that agree by Raft.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "quadraft.dev",
    version = "v1alpha1",
    kind = "RdfCluster",
    plural = "rdfclusters",
    shortname = "rdfc",
    category = "quadraft",
    namespaced,
    status = "RdfClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Members","type":"string","jsonPath":".status.readyMembers"}"#,
    printcolumn = r#"{"name":"Leader","type":"string","jsonPath":".status.leader"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 40").message("the name of an RdfCluster has at most 40 characters, as its pods and Jobs are named after it"),
    validation = Rule::new("!self.metadata.name.endsWith('-any') && !self.metadata.name.endsWith('-ro')").message("the name of an RdfCluster must not end in -any or -ro: it may be that of a Service of another one"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name of an RdfCluster is that of a Service: it begins with a letter and has small letters, digits and dashes"),
)]
#[x_kube(
    validation = Rule::new("has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)").message("bootstrap is used once, when the cluster is made: it cannot change"),
)]
pub struct RdfClusterSpec {
    /// How many nodes vote: 1, 3, 5 or 7.
    #[serde(default = "default_replicas")]
    #[x_kube(validation = Rule::new("self in [1, 3, 5, 7]").message("replicas must be 1, 3, 5 or 7"))]
    pub replicas: i32,
    /// Version of Quadraft that the nodes run; the operator knows a list.
    #[serde(default = "default_version")]
    #[schemars(length(min = 1, max = 32))]
    pub version: String,
    /// Node image to use instead of the one that belongs to `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When the kubelet pulls the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Always|IfNotPresent|Never)$"))]
    pub image_pull_policy: Option<String>,
    /// The volume of each node.
    pub storage: Storage,
    /// Requests and limits of each node's container.
    #[serde(default)]
    #[schemars(schema_with = "resources_schema")]
    pub resources: Resources,
    /// How the recovery and restore Jobs run.
    #[serde(default)]
    pub jobs: JobOptions,
    /// Options of the node program.
    #[serde(default)]
    pub node: NodeOptions,
    /// How the nodes serve HTTP.
    #[serde(default)]
    pub http: HttpOptions,
    /// How the Services are reached.
    #[serde(default)]
    pub service: ServiceOptions,
    /// Which user the pods run as.
    #[serde(default)]
    pub security: SecurityOptions,
    /// Where the pods may run.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// What is done about members and data that do not come back.
    #[serde(default)]
    pub recovery: Recovery,
    /// Where the first data comes from; empty when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// While true the operator changes nothing and only reports.
    #[serde(default)]
    pub paused: bool,
}

fn default_replicas() -> i32 {
    3
}

fn default_version() -> String {
    "0.1.0".to_owned()
}

/// The volume of each node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName cannot change"),
)]
pub struct Storage {
    /// Size of each volume, such as `10Gi`. Volumes grow where their class allows it and never shrink; a
    /// size that was refused can be taken back.
    #[schemars(schema_with = "quantity_schema")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity('1Mi')) >= 0").message("storage.size must be at least 1Mi"),
    )]
    pub size: Quantity,
    /// Storage class of the volumes; the default class when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// What happens to the volumes when the RdfCluster is deleted.
    #[serde(default)]
    pub on_cluster_deletion: OnClusterDeletion,
}

/// What happens to the volumes when the cluster is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnClusterDeletion {
    /// They stay; a cluster of the same name serves their data again.
    #[default]
    Retain,
    /// They are deleted with the cluster.
    Delete,
}

/// What is done about members and data that do not come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// A member that did not answer for so long, as when its machine is gone, is replaced by an empty one
    /// that the others fill, when they are all healthy and a majority; its volume is deleted. Never when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_622_400))]
    pub replace_after_seconds: Option<i64>,
    /// What is done when no volume can be served from any more: all are gone, empty, or refused and not
    /// to be recovered.
    #[serde(default)]
    pub when_data_is_lost: WhenDataIsLost,
    /// Where one backup goes when a member came back by a recovery Job, or the cluster from a backup. It
    /// is taken as soon as the cluster is complete, and nothing is restarted or scaled down before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_after_recovery: Option<BackupLocation>,
}

/// What is done when no volume of a cluster can be served from any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenDataIsLost {
    /// A person decides.
    #[default]
    Wait,
    /// What the volumes still hold is exported, they are kept, and the newest completed backup of this
    /// cluster is restored onto new ones, under the same name and a new cluster UUID.
    RestoreLatestBackup,
}

/// Options of the node program; each has a default in the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 60000))]
    pub election_timeout_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10000))]
    pub heartbeat_interval_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 100_000_000))]
    pub snapshot_after_entries: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub query_timeout_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 134_217_728))]
    pub maximum_request_bytes: Option<i64>,
    /// Everything on a volume is read and checked once in this time; 0 switches that off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_622_400))]
    pub scrub_interval_seconds: Option<i64>,
    /// Bytes that a node reads in a second at most while it scrubs; 0 switches scrubbing off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub scrub_bytes_per_second: Option<i64>,
}

/// The addresses of the Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOptions {
    /// SingleStack, PreferDualStack or RequireDualStack; as Kubernetes has it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(SingleStack|PreferDualStack|RequireDualStack)$"))]
    pub ip_family_policy: Option<String>,
    /// IPv4, IPv6, or both, the first of which is the main one; as Kubernetes has it when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(regex(pattern = "^IPv[46]$")))]
    pub ip_families: Vec<String>,
}

/// The user of the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityOptions {
    /// Whether the platform chooses the user and the group of the volumes, as OpenShift does; otherwise
    /// they are 65532.
    #[serde(default)]
    pub user_from_platform: bool,
}

/// How the nodes serve HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpOptions {
    /// Which pages of other sites may read answers in a browser.
    #[serde(default)]
    pub cors: Cors,
}

/// Which pages of other sites may read answers in a browser; none when there are no origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins as browsers write them, such as `https://example.org` or `http://localhost:8080`, or
    /// `*` alone for every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 256),
            regex(
                pattern = r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?)$"
            )
        )
    )]
    #[x_kube(validation = Rule::new("size(self) < 2 || !self.exists(origin, origin == '*')").message("* stands alone, as it means every origin"))]
    pub origins: Vec<String>,
}

/// Where the pods may run, in the words of a pod's spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Replaces the operator's own preference to spread the members over machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Whether a PodDisruptionBudget keeps a majority of the voters through evictions.
    #[serde(default = "default_true")]
    pub disruption_budget: bool,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            disruption_budget: true,
        }
    }
}

fn default_true() -> bool {
    true
}

/// Where the first data of a cluster comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    pub from_backup: BootstrapFromBackup,
}

/// A backup to start from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.backupName) != has(self.source)").message("exactly one of backupName and source is needed"),
)]
pub struct BootstrapFromBackup {
    /// A completed RdfBackup in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub backup_name: Option<String>,
    /// The folder of one backup: the one in which its manifest lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<BackupLocation>,
    /// The digest that the restored data must have, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub expected_digest: Option<String>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Where the cluster is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterPhase {
    #[default]
    Pending,
    Creating,
    Restoring,
    Running,
    Updating,
    Scaling,
    Recovering,
    Degraded,
    Unavailable,
    Stalled,
    Paused,
    Deleting,
}

/// What the operator knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RdfClusterStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: ClusterPhase,
    /// The last spec that could be carried out: what goes on while the present one cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub accepted_spec: Option<serde_json::Value>,
    /// Made once and never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uuid: Option<String>,
    /// True for ever once the cluster was initialised: it never is again.
    #[serde(default)]
    pub initialised: bool,
    /// The node ids that the cluster was, or is about to be, initialised with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial_members: Vec<InitialMember>,
    /// Pod of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// When the members' indices and digests below were looked at: they change with every write, and are
    /// written here once a minute at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_observed_at: Option<Time>,
    /// Ready members out of the wanted ones, such as `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_members: Option<String>,
    /// The version that all nodes run, or several with a comma while an update goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How far each node id was seen, coarsely: a node below its mark is a copy or was set back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub high_water: Vec<HighWaterMark>,
    /// The backup that the cluster was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// How often the cluster has begun anew on other volumes, after all data was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub volume_generation: i32,
    /// The volumes that the last backup after a recovery was taken from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backed_up_volume_generation: i32,
    /// The UUIDs that the cluster had before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_cluster_uuids: Vec<String>,
    /// A loss of all data that is being made good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<DataLoss>,
    /// The last loss of all data that was made good, and what may be missing since. It stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_after_loss: Option<RestoredAfterLoss>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A loss of all data that is being made good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataLoss {
    /// What was found.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_at: Option<Time>,
    /// The backup that is being restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<ChosenBackup>,
    /// Backups that could not be restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_backups: Vec<String>,
}

/// A backup that takes the place of what was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChosenBackup {
    /// Name of the RdfBackup.
    pub name: String,
    /// The index of the log up to which it goes.
    pub log_index: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    pub digest: String,
}

/// A loss of all data that was made good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredAfterLoss {
    /// What was found.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// What was restored: whatever was written after it may be missing.
    pub backup: ChosenBackup,
    /// The UUID of the cluster whose data was lost; its volumes carry it as a label.
    pub lost_cluster_uuid: String,
    /// Newer backups that could not be restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_backups: Vec<String>,
}

/// A node that the cluster was initialised with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitialMember {
    pub slot: i32,
    pub node_id: String,
}

/// One slot and the node in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    pub slot: i32,
    /// Name of the pod.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default)]
    pub voter: bool,
    #[serde(default)]
    pub ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_log_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_count: Option<i64>,
    /// Since when the node should answer and does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Time>,
    /// Why the member does not serve, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Recovery attempts that had been made when the member was last healthy.
    #[serde(default)]
    pub settled_recovery_attempts: i32,
    /// Those of them after which a backup was taken, where one is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backed_up_recovery_attempts: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_recovery: Option<LastRecovery>,
}

/// What the last recovery of a volume came to, at a start or in a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRecovery {
    /// Clean, Recovered, NewIdentity, Refused, Failed or Created.
    pub outcome: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_replayed: Option<i64>,
    /// When the operator first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// The volume that a node id lives on, and how far its log was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HighWaterMark {
    pub node_id: String,
    pub volume_uid: String,
    pub index: i64,
}

/// What a restored cluster began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    pub location: String,
    pub digest: String,
    pub quads: i64,
    pub source_cluster_uuid: String,
}
