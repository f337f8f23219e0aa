//! A machine that is not there, and a kubelet that calls the pods on it running.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::nodes::Nodes;

pub(crate) const MACHINE_NAME: &str = "simulated-0";
/// What its pods are chosen by.
pub(crate) const MACHINE_LABEL: &str = "quadraft.dev/simulated";

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(words)
}

/// Makes the machine.
///
/// # Errors
/// When the API server refuses.
pub(crate) async fn make_machine(client: &Client) -> Result<(), String> {
    let machines: Api<Node> = Api::all(client.clone());
    let machine: Node = object(json!({
        "metadata": { "name": MACHINE_NAME, "labels": {
            MACHINE_LABEL: "true", "kubernetes.io/hostname": MACHINE_NAME, "kubernetes.io/os": "linux",
        } },
    }))?;
    remove_machine(client).await;
    machines
        .create(&PostParams::default(), &machine)
        .await
        .map_err(words)?;
    beat(client).await
}

/// Removes the machine, if it is there.
pub(crate) async fn remove_machine(client: &Client) {
    let machines: Api<Node> = Api::all(client.clone());
    let _ = machines
        .delete(MACHINE_NAME, &DeleteParams::default())
        .await;
}

/// Says that the machine is well, as a kubelet does now and then.
async fn beat(client: &Client) -> Result<(), String> {
    let now = Timestamp::now();
    let machines: Api<Node> = Api::all(client.clone());
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "Simulated", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let room = json!({ "cpu": "1000", "memory": "4Ti", "pods": "10000" });
    let status = json!({ "status": {
        "capacity": room, "allocatable": room,
        "conditions": [condition("Ready", "True"), condition("DiskPressure", "False")],
    } });
    machines
        .patch_status(
            MACHINE_NAME,
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await
        .map_err(words)?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease: Lease = object(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": MACHINE_NAME },
        "spec": {
            "holderIdentity": MACHINE_NAME, "leaseDurationSeconds": 40,
            "renewTime": format!("{now:.6}"),
        },
    }))?;
    let apply = PatchParams::apply("simulated").force();
    leases
        .patch(MACHINE_NAME, &apply, &Patch::Apply(&lease))
        .await
        .map(|_| ())
        .map_err(words)
}

/// Runs the pods of the machine until it is ended.
pub(crate) async fn run(client: Client, nodes: Nodes, address: String) {
    let pods: Api<Pod> = Api::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={MACHINE_NAME}"));
    let mut beats = tokio::time::interval(Duration::from_secs(10));
    let mut looks = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = beats.tick() => {
                if let Err(error) = beat(&client).await {
                    eprintln!("the machine does not say that it is well: {error}");
                }
            }
            _ = looks.tick() => {
                let Ok(found) = pods.list(&here).await else { continue };
                for pod in found {
                    if let Err(error) = look_at(&client, &nodes, &address, &pod).await {
                        eprintln!("{}: {error}", pod.name_any());
                    }
                }
            }
        }
    }
}

async fn look_at(client: &Client, nodes: &Nodes, address: &str, pod: &Pod) -> Result<(), String> {
    let namespace = pod.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let at_once = DeleteParams::default().grace_period(0);
        return pods
            .delete(&name, &at_once)
            .await
            .map(|_| ())
            .map_err(words);
    }
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if phase == Some("Running") {
        return Ok(());
    }
    let pod = serde_json::to_value(pod).map_err(words)?;
    let container = &pod["spec"]["containers"][0];
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    let uuid = variables
        .iter()
        .find(|variable| variable["name"] == "QUADRAFT_CLUSTER_UUID")
        .and_then(|variable| variable["value"].as_str());
    nodes.start(&name, uuid.unwrap_or_default());
    let now = Timestamp::now();
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .into_iter()
        .map(|type_| json!({ "type": type_, "status": "True", "lastTransitionTime": now }))
        .collect();
    let status = json!({ "status": {
        "phase": "Running", "startTime": now, "hostIP": address,
        "podIP": address, "podIPs": [{ "ip": address }],
        "conditions": conditions,
        "containerStatuses": [{
            "name": container["name"], "image": container["image"], "imageID": "",
            "ready": true, "started": true, "restartCount": 0,
            "state": { "running": { "startedAt": now } },
        }],
    } });
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map(|_| ())
        .map_err(words)
}
