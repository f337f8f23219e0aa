//! Volumes that are slow, or not the member's own.

use std::path::Path;
use std::time::{Duration, Instant};

use quadraft_tests::kubernetes::{
    ClusterOptions, SlowDisk, TestCluster, in_namespace, kill_node_process, tool_output, uses_bed,
    wait_until,
};
use serde_json::{Value, json};

use super::{MINUTE, condition, ready, words};

/// Writes so much into the log that it takes long to read.
async fn fill_log(cluster: &TestCluster, slot: u32) -> Result<(), String> {
    let text = "x".repeat(2 << 20);
    for number in 0..24 {
        let update = format!("INSERT DATA {{ <u:a> <u:b> \"{number}{text}\" }}");
        let answer = cluster
            .post(slot, "/update", "application/sparql-update", update.into())
            .await?;
        if !answer.status().is_success() {
            return Err(answer.text().await.unwrap_or_default());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_member_that_opens_its_volume_slowly_is_neither_ended_nor_replaced() {
    const BYTES_PER_SECOND: u64 = 256 << 10;
    in_namespace("slow", |kubectl| async move {
        if !uses_bed().await || !SlowDisk::is_possible() {
            println!("NOT TRIED: a slow disk, because none can be made slow here");
            return Ok(());
        }
        let options = ClusterOptions {
            snapshot_after_entries: 1_000_000,
            ..ClusterOptions::new("books", 3)
        };
        let manifest = format!(
            "{}  recovery:\n    replaceAfterSeconds: 60\n",
            options.manifest()
        );
        kubectl.apply(&manifest).await.map_err(words)?;
        let cluster = TestCluster::attach(&kubectl, "books")
            .await
            .map_err(words)?;
        cluster.wait_ready(3 * MINUTE).await?;
        let leader = cluster.leader(3).await?;
        fill_log(&cluster, leader).await?;
        cluster.agree(3, MINUTE).await?;
        let slot = (leader + 1) % 3;
        let pod = cluster.pod(slot);
        let uid = async || {
            let pod = kubectl.get("pod", &pod).await.ok()??;
            pod["metadata"]["uid"].as_str().map(str::to_owned)
        };
        let (before, volume) = (uid().await, cluster.volume_path(slot).await?);
        let node_id = cluster.member(slot).await.map(|member| member.node_id);
        kubectl
            .run(&["delete", "pod", &pod, "--wait=false"])
            .await
            .map_err(words)?;
        let new = wait_until("another pod", MINUTE, async || {
            uid().await.filter(|uid| Some(uid) != before.as_ref())
        })
        .await?;
        let disk = SlowDisk::of(&new, &volume, BYTES_PER_SECOND).await?;
        let told = |object: &Value| object["status"]["members"][slot as usize].clone();
        let starting = |member: &Value| {
            let message = member["message"].as_str().unwrap_or_default();
            message.contains("the volume is being opened")
        };
        cluster
            .wait_object("the start's own words", MINUTE, |object| {
                starting(&told(object))
            })
            .await?;
        // Longer than the probes give a start that does not answer, and than a silent member has.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(80) {
            let member = told(&cluster.object().await);
            let restarts = cluster.restarts(slot).await?.0;
            if !starting(&member) || !member["unreachableSince"].is_null() || restarts > 0 {
                let after = begun.elapsed();
                return Err(format!(
                    "after {after:?} with {restarts} restarts: {member}"
                ));
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        println!(
            "{} containers read {BYTES_PER_SECOND} bytes a second",
            disk.containers()
        );
        drop(disk);
        cluster.wait_ready(2 * MINUTE).await?;
        let restarts = cluster.restarts(slot).await?.0;
        let after = cluster.member(slot).await.map(|member| member.node_id);
        if uid().await != Some(new) || restarts > 0 || after != node_id {
            return Err(format!(
                "{restarts} restarts of {after:?}, which was {node_id:?}"
            ));
        }
        Ok(())
    })
    .await;
}

/// What a folder holds goes to `aside`, and a copy of what is in `other` takes its place.
async fn exchange(folder: &Path, aside: &Path, other: &Path) -> Result<(), String> {
    std::fs::create_dir_all(aside).map_err(words)?;
    let copy = aside.with_extension("copy");
    let [from, to] = [other, &copy].map(|path| path.display().to_string());
    tool_output("cp", &["--archive", &from, &to]).await?;
    move_all(folder, aside)?;
    move_all(&copy, folder)?;
    std::fs::remove_dir(copy).map_err(words)
}

fn move_all(from: &Path, to: &Path) -> Result<(), String> {
    for entry in std::fs::read_dir(from).map_err(words)? {
        let entry = entry.map_err(words)?;
        std::fs::rename(entry.path(), to.join(entry.file_name())).map_err(words)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_volume_that_no_recovery_could_mend_is_told_of_and_served_again_when_it_is_right() {
    in_namespace("mixed-up", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be exchanged on the bed only".to_owned());
        }
        let other = ready(&kubectl, "films", 1).await?;
        let cluster = ready(&kubectl, "books", 3).await?;
        let slot = (cluster.leader(3).await? + 1) % 3;
        let node_id = cluster.member(slot).await.map(|member| member.node_id);
        let volume = cluster.volume_path(slot).await?;
        let own = volume.with_extension("own");
        exchange(&volume, &own, &other.volume_path(0).await?).await?;
        kill_node_process(&kubectl, &cluster.pod(slot)).await?;
        let object = cluster
            .wait_object("the volume to be told of", 2 * MINUTE, |object| {
                let (status, reason, _) = condition(object, "Stalled");
                status == "True" && reason == "VolumeNotUsable"
            })
            .await?;
        // Once it restarts for the third time, whoever wanted to fence it would have done so.
        wait_until("more restarts", 3 * MINUTE, async || {
            (cluster.restarts(slot).await.ok()?.0 >= 3).then_some(())
        })
        .await?;
        let set = kubectl
            .get("statefulset", &cluster.stateful_set(slot))
            .await
            .map_err(words)?
            .unwrap_or_default();
        let jobs = kubectl
            .list("jobs", "app.kubernetes.io/component=recovery")
            .await
            .map_err(words)?;
        if set["spec"]["replicas"] != 1 || !jobs.is_empty() {
            return Err(format!(
                "{} replicas and {} Jobs",
                set["spec"]["replicas"],
                jobs.len()
            ));
        }
        let update = "INSERT DATA { <u:a> <u:b> 1 }";
        let leader = cluster.leader(3).await?;
        let answer = cluster
            .post(
                leader,
                "/update",
                "application/sparql-update",
                update.into(),
            )
            .await?;
        if answer.status() != 204 {
            return Err(format!("the others answered {}", answer.status()));
        }
        let events = kubectl
            .list("events.events.k8s.io", "")
            .await
            .map_err(words)?;
        let told = events
            .iter()
            .filter(|event| event["reason"] == "VolumeNotUsable" && event["type"] == "Warning")
            .count();
        if told != 1 {
            return Err(format!("told {told} times: {}", object["status"]));
        }
        let wrong = volume.with_extension("wrong");
        exchange(&volume, &wrong, &own).await?;
        kubectl
            .run(&["delete", "pod", &cluster.pod(slot), "--wait=false"])
            .await
            .map_err(words)?;
        cluster
            .wait_object("its own volume to be served", 3 * MINUTE, |object| {
                condition(object, "Ready").0 == "True"
            })
            .await?;
        let after = cluster.member(slot).await.map(|member| member.node_id);
        if after != node_id {
            return Err(format!("{node_id:?} came back as {after:?}"));
        }
        for folder in [own, wrong] {
            std::fs::remove_dir_all(folder).map_err(words)?;
        }
        Ok(())
    })
    .await;
}

/// Puts the volume of a slot into another claim of the same name, as whoever moves to another storage class
/// does, while the cluster is paused.
async fn move_volume(cluster: &TestCluster, slot: u32) -> Result<(), String> {
    let kubectl = &cluster.kubectl;
    let (claim, pod) = (cluster.claim(slot), cluster.pod(slot));
    let old = cluster.volume_path(slot).await?;
    let found = kubectl.get("persistentvolumeclaim", &claim).await;
    let object = found.map_err(words)?.ok_or("there is no claim")?;
    kubectl
        .run(&["delete", "statefulset", &cluster.stateful_set(slot)])
        .await
        .map_err(words)?;
    wait_until("the pod to be gone", MINUTE, async || {
        kubectl.get("pod", &pod).await.ok()?.is_none().then_some(())
    })
    .await?;
    let kept = old.with_extension("kept");
    let [from, to] = [&old, &kept].map(|path| path.display().to_string());
    tool_output("cp", &["--archive", &from, &to]).await?;
    kubectl
        .run(&["delete", "persistentvolumeclaim", &claim])
        .await
        .map_err(words)?;
    let new = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": claim, "labels": object["metadata"]["labels"] },
        "spec": {
            "accessModes": object["spec"]["accessModes"],
            "resources": object["spec"]["resources"],
        },
    });
    // The volume is made for the first pod that uses it.
    let first = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "copies" },
        "spec": {
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "pause", "image": "quadraft.dev/bed/pause:1",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }],
        },
    });
    for object in [new, first] {
        kubectl.apply(&object.to_string()).await.map_err(words)?;
    }
    let wait = [
        "wait",
        "--for=condition=Ready",
        "pod/copies",
        "--timeout=60s",
    ];
    kubectl.run(&wait).await.map_err(words)?;
    move_all(&kept, &cluster.volume_path(slot).await?)?;
    std::fs::remove_dir(kept).map_err(words)?;
    let delete = ["delete", "pod", "copies", "--grace-period=1"];
    kubectl.run(&delete).await.map_err(words)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_volume_in_another_claim_is_a_copy_until_a_person_accepts_it() {
    in_namespace("moved", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be moved on the bed only".to_owned());
        }
        let cluster = ready(&kubectl, "books", 3).await?;
        let slot = (cluster.leader(3).await? + 1) % 3;
        let node_id = cluster.member(slot).await.map(|member| member.node_id);
        let pause = async |paused: bool| {
            let patch = format!("{{\"spec\":{{\"paused\":{paused}}}}}");
            let arguments = [
                "patch",
                "rdfcluster",
                "books",
                "--type=merge",
                "--patch",
                &patch,
            ];
            kubectl.run(&arguments).await.map_err(words)
        };
        pause(true).await?;
        cluster
            .wait_object("nothing to be done any more", MINUTE, |object| {
                condition(object, "Reconciling").1 == "Paused"
            })
            .await?;
        move_volume(&cluster, slot).await?;
        pause(false).await?;
        let told = cluster
            .wait_object("the copy to be told of", 2 * MINUTE, |object| {
                condition(object, "Stalled").1 == "VolumeSetBack"
            })
            .await?;
        // The message says what to do, and that is done as it stands there.
        let message = condition(&told, "Stalled").2.to_owned();
        let command = message.split_once("kubectl ").ok_or("no command")?.1;
        let command = command.split(';').next().unwrap_or_default();
        let arguments: Vec<&str> = command.split_whitespace().collect();
        kubectl.run(&arguments).await.map_err(words)?;
        cluster.wait_ready(2 * MINUTE).await?;
        let after = cluster.member(slot).await.map(|member| member.node_id);
        if after != node_id {
            return Err(format!("{node_id:?} came back as {after:?}"));
        }
        Ok(())
    })
    .await;
}
