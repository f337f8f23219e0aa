//! `RdfRestore`: a new cluster from a backup, followed until its data is proven equal.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::RdfClusterSpec;
use super::common::{BackupLocation, Condition};

/// Makes an RdfCluster from a backup and follows it until it serves the same data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "quadraft.dev",
    version = "v1alpha1",
    kind = "RdfRestore",
    plural = "rdfrestores",
    shortname = "rdfr",
    category = "quadraft",
    namespaced,
    status = "RdfRestoreStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Digest","type":"string","jsonPath":".status.digest","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct RdfRestoreSpec {
    /// The backup.
    #[x_kube(validation = Rule::new("self == oldSelf").message("an RdfRestore is done once: its source cannot change"))]
    pub source: RestoreSource,
    /// The cluster to make.
    pub cluster: RestoredCluster,
}

/// The backup to restore: an RdfBackup by name, or a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.backupName), has(self.claimName), has(self.url)].filter(given, given).size() == 1").message("exactly one of backupName, claimName and url is needed"),
    validation = Rule::new("!has(self.path) || has(self.claimName)").message("path goes with claimName only"),
    validation = Rule::new("!has(self.credentialsSecretName) || has(self.url)").message("credentialsSecretName goes with url only"),
)]
pub struct RestoreSource {
    /// A completed RdfBackup in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub backup_name: Option<String>,
    /// A PersistentVolumeClaim that holds the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// The backup's folder inside the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")
    )]
    pub path: Option<String>,
    /// URL of the backup's folder in an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^(s3a?|gs|az|azure|adl|abfss?|https?)://.+")
    )]
    pub url: Option<String>,
    /// Secret with the credentials of the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret_name: Option<String>,
    /// The digest that the restored data must have; the RdfBackup's own when that is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub expected_digest: Option<String>,
}

impl RestoreSource {
    /// The place, when the source is not an RdfBackup.
    #[must_use]
    pub fn location(&self) -> Option<BackupLocation> {
        (self.claim_name.is_some() || self.url.is_some()).then(|| BackupLocation {
            claim_name: self.claim_name.clone(),
            path: self.path.clone(),
            url: self.url.clone(),
            credentials_secret_name: self.credentials_secret_name.clone(),
        })
    }
}

/// The cluster to make.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredCluster {
    /// Its name; no RdfCluster of this name may exist.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the cluster's name cannot change"))]
    pub name: String,
    /// Its spec; bootstrap is filled in by the restore.
    #[x_kube(validation = Rule::new("!has(self.bootstrap)").message("bootstrap is filled in by the restore: leave it out"))]
    pub spec: RdfClusterSpec,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    #[default]
    Pending,
    Restoring,
    Completed,
    Failed,
}

/// What is known of the restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RdfRestoreStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: RestorePhase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// True for ever once the cluster was made, or was about to be: it never is again.
    #[serde(default)]
    pub cluster_made: bool,
    /// The digest of the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
