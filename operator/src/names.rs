//! Labels, annotations and names that several parts use.

use std::collections::BTreeMap;

use kube::core::Selector;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "quadraft-operator";
/// Keeps an RdfCluster until its volumes are dealt with.
pub const FINALIZER: &str = "quadraft.dev/cluster";
/// Keeps an RdfBackup until its data is deleted.
pub const BACKUP_FINALIZER: &str = "quadraft.dev/backup-data";

pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub const LABEL_CLUSTER: &str = "quadraft.dev/cluster";
pub const LABEL_SLOT: &str = "quadraft.dev/slot";
pub const LABEL_CLUSTER_UUID: &str = "quadraft.dev/cluster-uuid";
/// Kubernetes' own label on the endpoints of a Service.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// What a member's pod does at present: `leader` or `follower`.
pub const LABEL_ROLE: &str = "quadraft.dev/role";
pub const ROLE_LEADER: &str = "leader";
pub const ROLE_FOLLOWER: &str = "follower";
/// On a volume of a cluster whose data was lost and restored from a backup: the UUID that it had.
pub const LABEL_LOST_CLUSTER: &str = "quadraft.dev/lost-cluster-uuid";
pub const LABEL_SCHEDULE: &str = "quadraft.dev/schedule";

/// What an object was applied as.
pub const ANNOTATION_OBJECT_HASH: &str = "quadraft.dev/object-hash";
/// Since when a member is scaled away for a Job, in seconds since 1970.
pub const ANNOTATION_FENCED_AT: &str = "quadraft.dev/fenced-at";
/// The generations of the specs that a Job was made for.
pub const ANNOTATION_MADE_FOR: &str = "quadraft.dev/made-for";
/// On an RdfCluster, `SLOT/UID`: a person says that this volume may take the place of the one that the
/// slot's node was seen on before.
pub const ANNOTATION_ACCEPT_VOLUME: &str = "quadraft.dev/accept-volume";
/// On an RdfCluster, `SLOT/UID`: a person wants the member with this volume replaced.
pub const ANNOTATION_REPLACE_MEMBER: &str = "quadraft.dev/replace-member";
/// On an RdfCluster, UIDs with commas: a person does not wait for these volumes any more.
pub const ANNOTATION_GIVE_UP_VOLUMES: &str = "quadraft.dev/give-up-volumes";
/// How a Job's container ended.
pub const ANNOTATION_JOB_RESULT: &str = "quadraft.dev/job-result";
pub const ANNOTATION_TEMPLATE_HASH: &str = "quadraft.dev/template-hash";
/// What of the spec a member's pod is made from: when the template changes and this does not, another
/// version of the operator makes it otherwise.
pub const ANNOTATION_SPEC_HASH: &str = "quadraft.dev/spec-hash";
pub const ANNOTATION_RECOVERY_ATTEMPT: &str = "quadraft.dev/recovery-attempt";
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

/// The labels of what belongs to a cluster and has no owner: a claim, a backup. Without the instance's
/// name, which tools take for that of what they have deployed themselves: they would delete what is not
/// in their own list.
#[must_use]
pub fn standalone_labels(cluster: &str, component: &str) -> BTreeMap<String, String> {
    let mut labels = labels(cluster, component);
    labels.remove(LABEL_INSTANCE);
    labels
}

/// The selector of everything that belongs to a cluster.
#[must_use]
pub fn selector(cluster: &str) -> Selector {
    [
        (LABEL_CLUSTER.to_owned(), cluster.to_owned()),
        (LABEL_MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()),
    ]
    .into_iter()
    .collect()
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
