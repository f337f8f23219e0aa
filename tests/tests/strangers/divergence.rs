//! Members that have different data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quadraft_tests::kubernetes::{
    Kubectl, TestCluster, in_namespace, tool_output, uses_bed, wait_until,
};
use quadraft_tests::local::program;

use super::{MINUTE, condition, ready, words};

/// Identity of each member's pod and node, and the size of its StatefulSet.
async fn members(cluster: &TestCluster) -> Result<BTreeMap<u32, (String, String, u64)>, String> {
    let kubectl = &cluster.kubectl;
    let mut members = BTreeMap::new();
    for slot in 0..3 {
        let pod = kubectl.get("pod", &cluster.pod(slot)).await;
        let pod = pod.map_err(words)?.unwrap_or_default();
        let set = kubectl
            .get("statefulset", &cluster.stateful_set(slot))
            .await;
        let set = set.map_err(words)?.unwrap_or_default();
        let node = cluster.member(slot).await.map(|member| member.node_id);
        members.insert(
            slot,
            (
                pod["metadata"]["uid"].to_string(),
                node.unwrap_or_default(),
                set["spec"]["replicas"].as_u64().unwrap_or_default(),
            ),
        );
    }
    Ok(members)
}

async fn write(cluster: &TestCluster, slot: u32, number: u32) -> Result<(), String> {
    let update = format!("INSERT DATA {{ <u:a> <u:b> {number} }}");
    let answer = cluster
        .post(slot, "/update", "application/sparql-update", update.into())
        .await?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(answer.text().await.unwrap_or_default())
    }
}

async fn patch(kubectl: &Kubectl, patch: &str) -> Result<(), String> {
    let arguments = [
        "patch",
        "rdfcluster",
        "books",
        "--type=merge",
        "--patch",
        patch,
    ];
    kubectl.run(&arguments).await.map_err(words).map(drop)
}

/// While nothing is done about the cluster, the member's volume comes to hold other data.
async fn diverge(cluster: &TestCluster, slot: u32) -> Result<(), String> {
    let kubectl = &cluster.kubectl;
    patch(kubectl, r#"{"spec":{"paused":true}}"#).await?;
    cluster
        .wait_object("nothing to be done any more", MINUTE, |object| {
            condition(object, "Reconciling").1 == "Paused"
        })
        .await?;
    kubectl
        .run(&["delete", "statefulset", &cluster.stateful_set(slot)])
        .await
        .map_err(words)?;
    wait_until("the pod to be gone", MINUTE, async || {
        let pod = kubectl.get("pod", &cluster.pod(slot)).await;
        pod.ok()?.is_none().then_some(())
    })
    .await?;
    let volume = cluster.volume_path(slot).await?;
    let folder = volume.display().to_string();
    let tool = program("examples/diverge").display().to_string();
    println!("{}", tool_output(&tool, &[&folder]).await?);
    let owner = format!("--reference={folder}/vote");
    let store = volume.join("store").display().to_string();
    tool_output("chown", &["--recursive", &owner, &store]).await?;
    patch(kubectl, r#"{"spec":{"paused":false}}"#).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn members_that_differ_are_told_of_and_nothing_that_destroys_is_done() {
    in_namespace("diverged", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be changed on the bed only".to_owned());
        }
        let cluster = ready(&kubectl, "books", 3).await?;
        let leader = cluster.leader(3).await?;
        write(&cluster, leader, 1).await?;
        cluster.agree(3, MINUTE).await?;
        let slot = (leader + 1) % 3;
        diverge(&cluster, slot).await?;
        let told = cluster
            .wait_object("the difference to be told of", 3 * MINUTE, |object| {
                condition(object, "Diverged").0 == "True"
                    && condition(object, "Stalled").1 == "Diverged"
            })
            .await?;
        let message = condition(&told, "Diverged").2;
        println!("{message}");
        for slot in [slot, leader] {
            let member = cluster.member(slot).await.ok_or("a member is silent")?;
            if !message.contains(&member.node_id) || !message.contains(&member.digest) {
                return Err(format!("{member:?} is not in {message:?}"));
            }
        }
        if condition(&told, "Ready").0 != "False" {
            return Err(format!("it says {}", told["status"]));
        }
        let metrics = cluster.proxy.pod_url(&cluster.pod(slot), "/metrics");
        let metrics = reqwest::get(metrics).await.map_err(words)?;
        let metrics = metrics.text().await.map_err(words)?;
        if !metrics.contains("quadraft_diverged_replicas 1") {
            return Err(format!("the metrics say:\n{metrics}"));
        }
        let events = kubectl.list("events.events.k8s.io", "").await;
        let is_told = events.map_err(words)?.iter().any(|event| {
            event["reason"] == "DigestsDiffer" && event["type"] == "Warning"
        });
        if !is_told {
            return Err("there is no event".to_owned());
        }

        // All that would take evidence away, at once: fewer members, a restart, another identity.
        let before = members(&cluster).await?;
        let volume = kubectl
            .get("persistentvolumeclaim", &cluster.claim(slot))
            .await
            .map_err(words)?
            .ok_or("there is no claim")?;
        let claim = volume["metadata"]["uid"].as_str().unwrap_or_default();
        patch(
            &kubectl,
            &format!(
                r#"{{"metadata":{{"annotations":{{"quadraft.dev/replace-member":"{slot}/{claim}"}}}},"spec":{{"replicas":1,"node":{{"snapshotAfterEntries":300}}}}}}"#
            ),
        )
        .await?;
        let generation = cluster.object().await["metadata"]["generation"].clone();
        cluster
            .wait_object("the new spec to be seen", MINUTE, |object| {
                object["status"]["observedGeneration"] == generation
            })
            .await?;
        let begun = Instant::now();
        let mut number = 1;
        while begun.elapsed() < Duration::from_secs(40) {
            let now = members(&cluster).await?;
            let object = cluster.object().await;
            if now != before || condition(&object, "Stalled").1 != "Diverged" {
                return Err(format!("{before:?} became {now:?}: {}", object["status"]));
            }
            number += 1;
            write(&cluster, leader, number).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    })
    .await;
}
