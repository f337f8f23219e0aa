//! The Kubernetes objects of a cluster. Nothing here can fail or asks anybody.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use quadraft_protocol::{HTTP_PORT, METRICS_PORT, PEER_PORT};

use super::observation::Slot;
use super::origin::Origin;
use super::validate::{BootstrapSource, ValidatedCluster};
use crate::api::{BackupLocation, RdfBackup, RdfBackupSpec};
use crate::jobs::{self, JobSpec, container_security, pod_security};
use crate::names::{
    ANNOTATION_FENCED_AT, ANNOTATION_MADE_FOR, ANNOTATION_NEW_IDENTITY,
    ANNOTATION_RECOVERY_ATTEMPT, ANNOTATION_SPEC_HASH, ANNOTATION_TEMPLATE_HASH,
    LABEL_CLUSTER_UUID, LABEL_ROLE, LABEL_SLOT, ROLE_FOLLOWER, labels, owner, short_hash,
    standalone_labels,
};

/// How long a member serves on after it was told to end: endpoints and the rules of the network take so
/// long to follow, and clients come until then.
const DRAIN_SECONDS: u32 = 5;

fn metadata(cluster: &ValidatedCluster, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": cluster.namespace,
        "labels": labels(&cluster.name, "node"),
        "ownerReferences": owner("RdfCluster", &cluster.name, &cluster.uid),
    })
}

/// A Service with the addresses that the spec asks for.
fn service(cluster: &ValidatedCluster, name: &str, mut spec: Value) -> Value {
    let options = &cluster.spec.service;
    if let Some(policy) = &options.ip_family_policy {
        spec["ipFamilyPolicy"] = json!(policy);
    }
    if !options.ip_families.is_empty() {
        spec["ipFamilies"] = json!(options.ip_families);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(cluster, name),
        "spec": spec,
    })
}

fn http_ports() -> Value {
    json!([{ "name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP" }])
}

fn pod_selector(cluster: &ValidatedCluster) -> Value {
    json!({
        "app.kubernetes.io/name": "quadraft",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": "node",
    })
}

/// The Service of the clients: ready members only.
#[must_use]
pub fn client_service(cluster: &ValidatedCluster) -> Value {
    service(
        cluster,
        &cluster.name,
        json!({
            "type": "ClusterIP",
            "selector": pod_selector(cluster),
            "ports": http_ports(),
        }),
    )
}

/// The headless Service that gives members their names, ready or not: they must find each other
/// before any of them can be ready.
#[must_use]
pub fn peers_service(cluster: &ValidatedCluster) -> Value {
    service(
        cluster,
        &cluster.peers_service_name(),
        json!({
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": pod_selector(cluster),
            "ports": [
                { "name": "peers", "port": PEER_PORT, "targetPort": "peers", "protocol": "TCP" },
                { "name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP" },
                { "name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP" },
            ],
        }),
    )
}

/// The Service of clients that take a stale answer rather than none: all members, ready or not. One
/// that knows of no leader is not ready.
#[must_use]
pub fn any_service(cluster: &ValidatedCluster) -> Value {
    service(
        cluster,
        &cluster.any_service_name(),
        json!({
            "type": "ClusterIP",
            "publishNotReadyAddresses": true,
            "selector": pod_selector(cluster),
            "ports": http_ports(),
        }),
    )
}

/// The Service of clients that only read and leave the leader alone: ready followers, as the operator
/// labels them.
#[must_use]
pub fn read_only_service(cluster: &ValidatedCluster) -> Value {
    let mut selector = pod_selector(cluster);
    selector[LABEL_ROLE] = json!(ROLE_FOLLOWER);
    service(
        cluster,
        &cluster.read_only_service_name(),
        json!({
            "type": "ClusterIP",
            "selector": selector,
            "ports": http_ports(),
        }),
    )
}

/// Keeps a majority through voluntary evictions.
#[must_use]
pub fn disruption_budget(cluster: &ValidatedCluster, minimum_available: u32) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, &cluster.shared_name()),
        "spec": {
            "minAvailable": minimum_available,
            // A pod that serves nobody must not keep a machine from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": { "matchLabels": pod_selector(cluster) },
        },
    })
}

/// The service account of the members, which has no rights and no token.
#[must_use]
pub fn service_account(cluster: &ValidatedCluster) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, &cluster.shared_name()),
        "automountServiceAccountToken": false,
    })
}

fn node_environment(cluster: &ValidatedCluster) -> BTreeMap<&'static str, String> {
    let node = &cluster.spec.node;
    let mut environment: BTreeMap<_, _> = [
        ("QUADRAFT_ELECTION_TIMEOUT_MS", node.election_timeout_ms),
        ("QUADRAFT_HEARTBEAT_INTERVAL_MS", node.heartbeat_interval_ms),
        (
            "QUADRAFT_SNAPSHOT_AFTER_ENTRIES",
            node.snapshot_after_entries,
        ),
        ("QUADRAFT_QUERY_TIMEOUT_MS", node.query_timeout_ms),
        ("QUADRAFT_MAXIMUM_REQUEST_BYTES", node.maximum_request_bytes),
        (
            "QUADRAFT_SCRUB_INTERVAL_SECONDS",
            node.scrub_interval_seconds,
        ),
        (
            "QUADRAFT_SCRUB_BYTES_PER_SECOND",
            node.scrub_bytes_per_second,
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?.to_string())))
    .collect();
    // Absent rather than empty, so that clusters without origins are not restarted by this option.
    if !cluster.cors_origins.is_empty() {
        let origins: Vec<String> = cluster.cors_origins.iter().map(Origin::to_string).collect();
        environment.insert("QUADRAFT_CORS_ORIGINS", origins.join(","));
    }
    environment
}

/// The node program's options.
#[must_use]
pub fn config_map(cluster: &ValidatedCluster) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(cluster, &cluster.shared_name()),
        "data": node_environment(cluster),
    })
}

/// The objects that all members share, in the order in which they are applied.
#[must_use]
pub fn shared(cluster: &ValidatedCluster) -> Vec<Value> {
    vec![
        service_account(cluster),
        config_map(cluster),
        peers_service(cluster),
        client_service(cluster),
        any_service(cluster),
        read_only_service(cluster),
    ]
}

/// The volume of a slot. It has no owner: it outlives the cluster unless the spec says otherwise.
#[must_use]
pub fn volume(cluster: &ValidatedCluster, slot: Slot, cluster_uuid: &str) -> Value {
    let mut labels = standalone_labels(&cluster.name, "node");
    labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
    labels.insert(LABEL_CLUSTER_UUID.to_owned(), cluster_uuid.to_owned());
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": cluster.spec.storage.size } },
    });
    if let Some(class) = &cluster.spec.storage.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": cluster.volume_name(slot),
            "namespace": cluster.namespace,
            "labels": labels,
        },
        "spec": spec,
    })
}

/// Where pods may run: the person's words, or the members spread over machines.
fn scheduling(cluster: &ValidatedCluster) -> Value {
    let wanted = &cluster.spec.scheduling;
    let affinity = wanted.affinity.as_ref().map_or_else(
        || {
            json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": { "matchLabels": pod_selector(cluster) },
                },
            }] } })
        },
        |affinity| json!(affinity),
    );
    json!({
        "affinity": affinity,
        "nodeSelector": wanted.node_selector,
        "tolerations": wanted.tolerations,
        "topologySpreadConstraints": wanted.topology_spread_constraints,
    })
}

fn container(cluster: &ValidatedCluster, slot: Slot, cluster_uuid: &str) -> Value {
    let probe = |path: &str, period: i32, timeout: i32, failures: i32| {
        json!({
            "httpGet": { "path": path, "port": "http", "scheme": "HTTP" },
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": "node",
        "image": cluster.image,
        "args": [
            "serve",
            "--data", "/data",
            "--listen", format!("[::]:{HTTP_PORT}"),
            "--peer-listen", format!("[::]:{PEER_PORT}"),
            "--metrics-listen", format!("[::]:{METRICS_PORT}"),
            "--advertise", cluster.host(slot),
            "--termination-message", "/dev/termination-log",
        ],
        "env": [
            { "name": "QUADRAFT_CLUSTER_UUID", "value": cluster_uuid },
            { "name": "QUADRAFT_DRAIN_SECONDS", "value": DRAIN_SECONDS.to_string() },
        ],
        "envFrom": [{ "configMapRef": { "name": cluster.shared_name() } }],
        "ports": [
            { "name": "http", "containerPort": HTTP_PORT, "protocol": "TCP" },
            { "name": "peers", "containerPort": PEER_PORT, "protocol": "TCP" },
            { "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" },
        ],
        "resources": cluster.spec.resources,
        // A node answers from its beginning on, and says itself when its start hangs: however long that
        // takes, it is not killed while it moves on.
        "startupProbe": probe("/livez", 2, 3, 30),
        "livenessProbe": probe("/livez", 10, 5, 6),
        "readinessProbe": probe("/readyz", 2, 3, 2),
        "volumeMounts": [
            { "name": "data", "mountPath": "/data" },
            { "name": "tmp", "mountPath": "/tmp" },
        ],
        "securityContext": container_security(),
    });
    if let Some(policy) = &cluster.spec.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

/// A hash of what the person has said that a member's pod is made from.
fn spec_hash(cluster: &ValidatedCluster) -> String {
    let mut spec = json!(cluster.spec);
    if let Value::Object(spec) = &mut spec {
        for elsewhere in [
            "replicas",
            "storage",
            "jobs",
            "service",
            "recovery",
            "bootstrap",
            "paused",
        ] {
            spec.remove(elsewhere);
        }
    }
    short_hash(&spec.to_string(), 16)
}

/// The StatefulSet of one slot.
#[must_use]
pub fn stateful_set(
    cluster: &ValidatedCluster,
    slot: Slot,
    cluster_uuid: &str,
    replicas: i32,
    recovery_attempt: u32,
    fenced_at: Option<i64>,
) -> Value {
    let mut pod_labels = labels(&cluster.name, "node");
    pod_labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
    let mut pod = json!({
        "serviceAccountName": cluster.shared_name(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": pod_security(cluster.spec.security),
        "containers": [container(cluster, slot, cluster_uuid)],
        "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": cluster.volume_name(slot) } },
            { "name": "tmp", "emptyDir": {} },
        ],
    });
    if let (Value::Object(pod), Value::Object(scheduling)) = (&mut pod, scheduling(cluster)) {
        pod.extend(scheduling);
    }
    // The node reads its options from the ConfigMap once, at its start: they are part of the hash.
    let hash = short_hash(
        &json!({ "pod": pod, "options": node_environment(cluster) }).to_string(),
        16,
    );
    let spec_hash = spec_hash(cluster);
    let mut metadata = metadata(cluster, &cluster.stateful_set_name(slot));
    metadata["labels"] = json!(pod_labels);
    metadata["annotations"] = json!({
        ANNOTATION_TEMPLATE_HASH: hash,
        ANNOTATION_SPEC_HASH: spec_hash,
        ANNOTATION_RECOVERY_ATTEMPT: recovery_attempt.to_string(),
    });
    if let Some(at) = fenced_at {
        metadata["annotations"][ANNOTATION_FENCED_AT] = json!(at.to_string());
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "serviceName": cluster.peers_service_name(),
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "selector": { "matchLabels": {
                "app.kubernetes.io/name": "quadraft",
                "app.kubernetes.io/instance": cluster.name,
                "app.kubernetes.io/component": "node",
                LABEL_SLOT: slot.to_string(),
            } },
            "template": {
                "metadata": {
                    "labels": pod_labels,
                    "annotations": {
                        ANNOTATION_TEMPLATE_HASH: hash,
                        ANNOTATION_SPEC_HASH: spec_hash,
                    },
                },
                "spec": pod,
            },
        },
    })
}

/// Name of a recovery Job.
#[must_use]
pub fn recovery_job_name(cluster: &ValidatedCluster, slot: Slot, attempt: u32) -> String {
    let distinct = format!("{}/{slot}/{attempt}", cluster.uid);
    jobs::name(&format!("{}-recover-{slot}", cluster.name), &distinct)
}

/// The Job that repairs a fenced slot's volume.
#[must_use]
pub fn recovery_job(
    cluster: &ValidatedCluster,
    slot: Slot,
    cluster_uuid: &str,
    attempt: u32,
    allow_new_identity: bool,
) -> Value {
    let mut labels = labels(&cluster.name, "recovery");
    labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
    let mut arguments = vec![
        "recover".to_owned(),
        "--data".to_owned(),
        "/data".to_owned(),
    ];
    if allow_new_identity {
        arguments.push("--allow-new-identity".to_owned());
    }
    JobSpec {
        name: recovery_job_name(cluster, slot, attempt),
        namespace: cluster.namespace.clone(),
        labels,
        annotations: json!({
            ANNOTATION_RECOVERY_ATTEMPT: attempt.to_string(),
            ANNOTATION_NEW_IDENTITY: allow_new_identity.to_string(),
            ANNOTATION_MADE_FOR: cluster.generation.to_string(),
        }),
        owner: owner("RdfCluster", &cluster.name, &cluster.uid),
        image: cluster.image.clone(),
        image_pull_policy: cluster.spec.image_pull_policy.clone(),
        service_account: Some(cluster.shared_name()),
        arguments,
        environment: vec![("QUADRAFT_CLUSTER_UUID".to_owned(), cluster_uuid.to_owned())],
        data_claim: Some(cluster.volume_name(slot)),
        location: None,
        backup_is_read_only: true,
        scheduling: scheduling(cluster),
        security: cluster.spec.security,
        options: cluster.spec.jobs.clone(),
    }
    .build()
}

/// The backup that is taken after a recovery. It outlives the cluster.
#[must_use]
pub fn backup_after_recovery(
    cluster: &ValidatedCluster,
    name: &str,
    destination: &BackupLocation,
) -> RdfBackup {
    let mut backup = RdfBackup::new(
        name,
        RdfBackupSpec {
            cluster_name: cluster.name.clone(),
            destination: destination.clone(),
            job: cluster.spec.jobs.clone(),
            ..RdfBackupSpec::default()
        },
    );
    backup.metadata.namespace = Some(cluster.namespace.clone());
    backup.metadata.labels = Some(standalone_labels(&cluster.name, "backup"));
    backup
}

/// Name of the Job that exports what a volume of a lost cluster still holds.
#[must_use]
pub fn export_job_name(cluster: &ValidatedCluster, volume_uid: &str) -> String {
    let distinct = format!("{}/{volume_uid}", cluster.uid);
    jobs::name(&format!("{}-export", cluster.name), &distinct)
}

/// The Job that exports what a volume of a lost cluster still holds, beside its backups.
#[must_use]
pub fn export_job(
    cluster: &ValidatedCluster,
    slot: Slot,
    volume_uid: &str,
    cluster_uuid: &str,
    destination: &BackupLocation,
) -> Value {
    let mut labels = labels(&cluster.name, "export");
    labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
    let folder = format!("{cluster_uuid}/export-{slot}-{volume_uid}");
    JobSpec {
        name: export_job_name(cluster, volume_uid),
        namespace: cluster.namespace.clone(),
        labels,
        annotations: json!({ ANNOTATION_MADE_FOR: cluster.generation.to_string() }),
        owner: owner("RdfCluster", &cluster.name, &cluster.uid),
        image: cluster.image.clone(),
        image_pull_policy: cluster.spec.image_pull_policy.clone(),
        service_account: Some(cluster.shared_name()),
        arguments: vec![
            "export".to_owned(),
            "--data=/data".to_owned(),
            format!("--to={}", jobs::location_url(destination, Some(&folder))),
            "--scratch=/tmp".to_owned(),
        ],
        environment: Vec::new(),
        data_claim: Some(cluster.volume_name(slot)),
        location: Some(destination.clone()),
        backup_is_read_only: false,
        scheduling: scheduling(cluster),
        security: cluster.spec.security,
        options: cluster.spec.jobs.clone(),
    }
    .build()
}

/// Name of the restore Job. Each backup that takes the place of lost data has one of its own.
#[must_use]
pub fn restore_job_name(cluster: &ValidatedCluster) -> String {
    let mut distinct = cluster.uid.clone();
    if let (1.., Some(bootstrap)) = (cluster.volume_generation, &cluster.bootstrap)
        && let BootstrapSource::Backup(backup) = &bootstrap.source
    {
        distinct = format!("{distinct}/{}/{backup}", cluster.volume_generation);
    }
    jobs::name(&format!("{}-restore", cluster.name), &distinct)
}

/// The Job that restores a backup onto the empty volume of slot 0.
#[must_use]
pub fn restore_job(
    cluster: &ValidatedCluster,
    cluster_uuid: &str,
    location: &BackupLocation,
    from: &str,
    expected_digest: Option<&str>,
) -> Value {
    let mut arguments: Vec<String> = [
        "restore",
        "--data",
        "/data",
        "--from",
        from,
        "--cluster-uuid",
        cluster_uuid,
        "--advertise",
        &cluster.host(0),
    ]
    .into_iter()
    .map(ToOwned::to_owned)
    .collect();
    if let Some(digest) = expected_digest {
        arguments.extend(["--expected-digest".to_owned(), digest.to_owned()]);
    }
    JobSpec {
        name: restore_job_name(cluster),
        namespace: cluster.namespace.clone(),
        labels: labels(&cluster.name, "restore"),
        annotations: json!({ ANNOTATION_MADE_FOR: cluster.generation.to_string() }),
        owner: owner("RdfCluster", &cluster.name, &cluster.uid),
        image: cluster.image.clone(),
        image_pull_policy: cluster.spec.image_pull_policy.clone(),
        service_account: Some(cluster.shared_name()),
        arguments,
        environment: Vec::new(),
        data_claim: Some(cluster.volume_name(0)),
        location: Some(location.clone()),
        backup_is_read_only: true,
        scheduling: scheduling(cluster),
        security: cluster.spec.security,
        options: cluster.spec.jobs.clone(),
    }
    .build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::validate::validate;
    use super::*;

    fn cluster(spec: &Value) -> ValidatedCluster {
        let mut object = json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster",
            "metadata": { "name": "films", "namespace": "prod", "uid": "u" },
            "spec": { "storage": { "size": "1Gi" } },
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut object["spec"], spec) {
            all.extend(more.clone());
        }
        validate(&serde_json::from_value(object).unwrap(), "quadraft-node").unwrap()
    }

    fn template_hash(cluster: &ValidatedCluster) -> Value {
        let set = stateful_set(cluster, 0, "uuid", 1, 0, None);
        set["metadata"]["annotations"][ANNOTATION_TEMPLATE_HASH].clone()
    }

    /// What the pods of a cluster are made from. Pods are restarted when it changes.
    fn template(cluster: &ValidatedCluster) -> String {
        let mut set = stateful_set(cluster, 0, "uuid", 1, 0, None);
        let template = json!({
            "pod": set["spec"]["template"].take(),
            "options": config_map(cluster)["data"],
        });
        serde_json::to_string_pretty(&template).unwrap() + "\n"
    }

    #[test]
    fn an_upgrade_of_the_operator_restarts_nothing_unawares() {
        let full: Value =
            serde_yaml_ng::from_str(include_str!("../../../examples/full.yaml")).unwrap();
        for (name, spec) in [("minimal", json!({})), ("full", full["spec"].clone())] {
            let file = format!(
                "{}/src/cluster/fixtures/pod-{name}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let made = template(&cluster(&spec));
            if std::env::var_os("QUADRAFT_WRITE_FIXTURES").is_some() {
                std::fs::write(&file, &made).unwrap();
            }
            let pinned = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                made == pinned,
                "{file} differs: an upgrade to this operator restarts the pods of every cluster. If that is \
                 wanted, say so in CHANGELOG.md, and write the files with QUADRAFT_WRITE_FIXTURES=1"
            );
        }
    }

    #[test]
    fn what_pods_are_not_made_from_is_not_a_word_about_them() {
        let before = spec_hash(&cluster(&json!({})));
        for elsewhere in [
            json!({ "replicas": 5 }),
            json!({ "storage": { "size": "2Gi" } }),
            json!({ "paused": true }),
            json!({ "jobs": { "keepSeconds": 60 } }),
        ] {
            assert_eq!(spec_hash(&cluster(&elsewhere)), before, "{elsewhere}");
        }
        for word in [
            json!({ "image": "mine:1" }),
            json!({ "node": { "queryTimeoutMs": 5 } }),
            json!({ "scheduling": { "nodeSelector": { "a": "b" } } }),
        ] {
            assert_ne!(spec_hash(&cluster(&word)), before, "{word}");
        }
    }

    #[test]
    fn origins_reach_the_nodes_in_one_variable_and_restart_them() {
        let none = cluster(&json!({}));
        let some = cluster(&json!({ "http": { "cors": {
            "origins": ["https://example.org", "http://localhost:8080"],
        } } }));
        assert_eq!(config_map(&none)["data"], json!({}));
        assert_eq!(
            config_map(&some)["data"],
            json!({ "QUADRAFT_CORS_ORIGINS": "https://example.org,http://localhost:8080" })
        );
        assert_ne!(template_hash(&none), template_hash(&some));
    }

    #[test]
    fn no_origins_are_as_if_nothing_had_been_said_of_them() {
        let silent = cluster(&json!({}));
        let empty = cluster(&json!({ "http": { "cors": { "origins": [] } } }));
        assert_eq!(config_map(&silent), config_map(&empty));
        assert_eq!(template_hash(&silent), template_hash(&empty));
    }

    #[test]
    fn the_service_of_any_member_leads_clients_to_members_that_are_not_ready() {
        let cluster = cluster(&json!({}));
        let services: BTreeMap<String, Value> = shared(&cluster)
            .into_iter()
            .filter(|object| object["kind"] == "Service")
            .map(|object| {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                (name, object["spec"].clone())
            })
            .collect();
        let names: Vec<&str> = services.keys().map(String::as_str).collect();
        let peers = cluster.peers_service_name();
        assert_eq!(names, ["films", "films-any", peers.as_str(), "films-ro"]);
        let (ready, any) = (&services["films"], &services["films-any"]);
        assert_eq!(any["publishNotReadyAddresses"], true);
        assert_eq!(ready["publishNotReadyAddresses"], Value::Null);
        // Otherwise they are alike.
        for field in ["type", "selector", "ports"] {
            assert_eq!(any[field], ready[field], "{field}");
        }
        assert_eq!(any["type"], "ClusterIP");
    }
}
