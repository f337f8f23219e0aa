//! Labels, annotations and names that several parts use.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "quadraft-operator";
/// Keeps an RdfCluster until its volumes are dealt with.
pub const FINALIZER: &str = "quadraft.dev/cluster";

pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub const LABEL_CLUSTER: &str = "quadraft.dev/cluster";
pub const LABEL_SLOT: &str = "quadraft.dev/slot";
pub const LABEL_CLUSTER_UUID: &str = "quadraft.dev/cluster-uuid";
/// Kubernetes' own label on the endpoints of a Service.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const LABEL_SCHEDULE: &str = "quadraft.dev/schedule";

pub const ANNOTATION_TEMPLATE_HASH: &str = "quadraft.dev/template-hash";
pub const ANNOTATION_RECOVERY_ATTEMPT: &str = "quadraft.dev/recovery-attempt";
pub const ANNOTATION_REFUSED_WITH: &str = "quadraft.dev/refused-with";
pub const ANNOTATION_NEW_IDENTITY: &str = "quadraft.dev/new-identity-allowed";

/// The labels of everything that belongs to a cluster.
#[must_use]
pub fn labels(cluster: &str, component: &str) -> BTreeMap<String, String> {
    [
        (LABEL_NAME, "quadraft"),
        (LABEL_INSTANCE, cluster),
        (LABEL_MANAGED_BY, FIELD_MANAGER),
        (LABEL_COMPONENT, component),
        (LABEL_CLUSTER, cluster),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The selector of everything that belongs to a cluster.
#[must_use]
pub fn selector(cluster: &str) -> String {
    format!("{LABEL_CLUSTER}={cluster},{LABEL_MANAGED_BY}={FIELD_MANAGER}")
}

/// The first hexadecimal digits of a digest over `text`.
#[must_use]
pub fn short_hash(text: &str, digits: usize) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .chars()
        .take(digits)
        .collect()
}

/// The owner reference to a custom resource.
#[must_use]
pub fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!([{
        "apiVersion": "quadraft.dev/v1alpha1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}
