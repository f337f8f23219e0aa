//! What several kinds share: where a backup lies, and conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as MetaCondition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A condition in the form that `kubectl wait` and kstatus read.
pub type Condition = MetaCondition;

/// Whether the condition of that type says `True`.
#[must_use]
pub fn condition_is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Where backups lie: a folder on a PersistentVolumeClaim, or an object store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.claimName) != has(self.url)").message("exactly one of claimName and url is needed"),
    validation = Rule::new("!has(self.path) || has(self.claimName)").message("path goes with claimName only"),
    validation = Rule::new("!has(self.credentialsSecretName) || has(self.url)").message("credentialsSecretName goes with url only"),
)]
pub struct BackupLocation {
    /// Name of a PersistentVolumeClaim in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// Folder inside the claim; its root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")
    )]
    pub path: Option<String>,
    /// URL of a folder in an object store, such as `s3://bucket/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^[a-z][a-z0-9+.-]*://.+")
    )]
    pub url: Option<String>,
    /// Secret in the same namespace whose keys become environment variables of the Job
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT` and so on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret_name: Option<String>,
}
