//! What several kinds share: where a backup lies, how Jobs run, quantities, conditions.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as MetaCondition;
use kube::KubeSchema;
use schemars::JsonSchema;
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

/// What becomes of the data of a backup when its RdfBackup is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// A Job deletes it.
    Delete,
}

/// How the Jobs of a resource run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobOptions {
    /// Requests and limits of the container; those that are left out have defaults, so that a Job also
    /// starts where every pod must name them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resources_schema")]
    pub resources: Option<Resources>,
    /// How long a Job may wait for its container to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 604_800))]
    pub start_deadline_seconds: Option<i64>,
    /// How long a Job may take from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub run_deadline_seconds: Option<i64>,
    /// How long a Job that has ended stays to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub keep_seconds: Option<i64>,
}

/// A quantity as Kubernetes takes it: `500m`, `10Gi`, or a whole number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(i64),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Whole(number) => number.to_string(),
        }))
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

/// The schema of a quantity, as Kubernetes' own has it.
pub fn quantity_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": r"^[0-9]+(\.[0-9]*)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$",
        "maxLength": 32,
    })
}

/// Requests and limits without the claims of dynamic resources.
pub fn resources_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let quantities = || {
        serde_json::json!({
            "type": "object",
            "maxProperties": 32,
            "additionalProperties": quantity_schema(&mut schemars::SchemaGenerator::default()),
        })
    };
    schemars::json_schema!({
        "type": "object",
        "description": "Requests and limits of the container.",
        "properties": { "limits": quantities(), "requests": quantities() },
    })
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
    /// URL of a folder in an object store, such as `s3://bucket/prefix`; `gs`, `az`, `abfs`, `abfss`,
    /// `adl` and `https` (WebDAV) are the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^(s3a?|gs|az|azure|adl|abfss?|https?)://.+")
    )]
    pub url: Option<String>,
    /// Secret in the same namespace whose keys become environment variables of the Job
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT` and so on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret_name: Option<String>,
}
