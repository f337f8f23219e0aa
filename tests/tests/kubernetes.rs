//! Clusters with real pods. Each test has a namespace of its own and leaves a trail when it fails:
//! objects, events, status, logs. In each the operator is killed in the middle, again and again.
//!
//! They need a Kubernetes: `make test-kubernetes` brings one up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quadraft_tests::damage::{damage_payloads, flip_a_bit, make_vote_unreadable, segments};
use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, OperatorKiller, Outcome, PodNetwork, TestCluster, in_namespace,
    install_operator, kill_node_process, kill_operator, uninstall_operator, uses_bed,
    wait_operator, wait_until,
};
use quadraft_tests::local::{Acknowledged, Writer};
use quadraft_tests::partition::{self, Endpoint, PartitionClients, partition_seconds};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

/// An operator that is killed gets the time to do a part of its work in between.
const KILLED_EVERY: Duration = Duration::from_secs(35);

async fn ready_cluster(kubectl: &Kubectl, options: &ClusterOptions) -> Result<TestCluster, String> {
    let cluster = TestCluster::apply(kubectl, options)
        .await
        .map_err(|error| error.to_string())?;
    cluster.wait_ready(3 * MINUTE).await?;
    Ok(cluster)
}

/// Nothing acknowledged is missing, nothing that was never sent appears.
fn kept(written: &Acknowledged, found: &BTreeSet<u64>) -> Outcome {
    let missing: Vec<_> = written.acknowledged.difference(found).collect();
    if !missing.is_empty() {
        return Err(format!("acknowledged but missing: {missing:?}"));
    }
    let sent: BTreeSet<u64> = written
        .acknowledged
        .union(&written.uncertain)
        .copied()
        .collect();
    let strange: Vec<_> = found.difference(&sent).collect();
    if !strange.is_empty() {
        return Err(format!("never sent but there: {strange:?}"));
    }
    if written.acknowledged.len() < 5 {
        return Err(format!("the writer came to nothing: {written:?}"));
    }
    Ok(())
}

fn writer(cluster: &TestCluster, name: &str) -> Writer {
    Writer::start(vec![cluster.service_url("/update")], name, 2 * MINUTE)
}

async fn check_all(
    cluster: &TestCluster,
    replicas: u32,
    written: &Acknowledged,
    name: &str,
) -> Outcome {
    for slot in 0..replicas {
        kept(written, &cluster.numbers(Some(slot), name).await?)?;
    }
    cluster.agree(replicas, MINUTE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_cluster_becomes_ready_shows_its_columns_and_then_its_status_rests() {
    in_namespace("creation", |kubectl| async move {
        let killer = OperatorKiller::start(KILLED_EVERY);
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("made", 3)).await?;
        drop(killer);
        wait_operator(MINUTE).await?;
        cluster.wait_ready(MINUTE).await?;
        let table = kubectl
            .run(&["get", "rdfc"])
            .await
            .map_err(|error| error.to_string())?;
        for column in [
            "READY", "MEMBERS", "LEADER", "VERSION", "PHASE", "AGE", "3/3", "0.1.0",
        ] {
            if !table.contains(column) {
                return Err(format!("{column} is missing in\n{table}"));
            }
        }
        cluster.agree(3, MINUTE).await?;
        // Nothing changes, so nothing is written: the object keeps its version for a minute.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let before = cluster.object().await["metadata"]["resourceVersion"].clone();
        tokio::time::sleep(MINUTE).await;
        let object = cluster.object().await;
        if object["metadata"]["resourceVersion"] != before {
            return Err(format!(
                "the status was written although nothing changed: {}",
                object["status"]
            ));
        }
        Ok(())
    })
    .await;
}

/// How often the only member is taken away in the test below: fifty times take five minutes.
fn ready_rounds() -> u32 {
    std::env::var("QUADRAFT_READY_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10)
}

/// Asks the Service over connections of their own, as a program that was just started does, and
/// does not ask again.
async fn ask_once(address: &str) -> Outcome {
    let client = || {
        reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(5))
            .build()
    };
    let answered = |answer: reqwest::Response| answer.error_for_status().map(|_| ());
    let ask = async {
        let readyz = format!("http://{address}/readyz");
        answered(client()?.get(readyz).send().await?)?;
        let query = client()?
            .post(format!("http://{address}/query"))
            .header("content-type", "application/sparql-query")
            .body("ASK { ?s ?p ?o }");
        answered(query.send().await?)
    };
    ask.await
        .map_err(|error: reqwest::Error| format!("{error}: {:?}", error.source()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_request_to_the_service_right_after_ready_never_fails() {
    in_namespace("ready", |kubectl| async move {
        if !uses_bed().await {
            return Err("the addresses of Services are reached on the bed only".to_owned());
        }
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("ready", 1)).await?;
        let address = cluster.service_address().await?;
        let rounds = ready_rounds();
        let started = Instant::now();
        for round in 1..=rounds {
            cluster.wait_ready(MINUTE).await?;
            if let Err(error) = ask_once(&address).await {
                let (_, said) = cluster.is_ready().await;
                return Err(format!(
                    "round {round} of {rounds}: {error}; Ready is {said}"
                ));
            }
            let members = cluster.object().await["status"]["readyMembers"].clone();
            let not_ready = cluster.pods_not_ready().await?;
            if members != "1/1" || !not_ready.is_empty() {
                return Err(format!("{members} members, and not ready: {not_ready:?}"));
            }
            let pod = cluster.pod(0);
            kubectl
                .run(&["delete", "pod", &pod, "--wait=false"])
                .await
                .map_err(|error| error.to_string())?;
            wait_until("Ready to be taken back", MINUTE, || async {
                (!cluster.is_ready().await.0).then_some(())
            })
            .await?;
        }
        // A test's output is shown when it fails, or when it is asked for.
        #[allow(clippy::print_stderr)]
        {
            let took = started.elapsed().as_secs_f64();
            eprintln!("{rounds} rounds without an error in {took:.0} s");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn acknowledged_writes_survive_kill_9_of_each_member_and_of_all_at_once() {
    in_namespace("crash", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("crash", 3)).await?;
        let _killer = OperatorKiller::start(KILLED_EVERY);
        let writer = writer(&cluster, "crash");
        for slot in 0..3 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let before = cluster.member(slot).await.map(|member| member.term);
            kill_node_process(&kubectl, &cluster.pod(slot)).await?;
            wait_until("the killed member to be back", 2 * MINUTE, || async {
                cluster
                    .member(slot)
                    .await
                    .filter(|member| member.ready && Some(member.term) >= before)
            })
            .await?;
        }
        for slot in 0..3 {
            kill_node_process(&kubectl, &cluster.pod(slot)).await?;
        }
        for slot in 0..3 {
            wait_until("all members to be back", 3 * MINUTE, || async {
                cluster.member(slot).await.filter(|member| member.ready)
            })
            .await?;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = writer.finish().await?;
        check_all(&cluster, 3, &written, "crash").await
    })
    .await;
}

/// Waits until slot `slot` is a ready voter under another node id than `old`.
async fn wait_replaced(cluster: &TestCluster, slot: u32, old: &str) -> Outcome {
    cluster
        .wait_object("the member's return under a new id", 5 * MINUTE, |object| {
            object["status"]["members"]
                .as_array()
                .is_some_and(|members| {
                    members.iter().any(|member| {
                        member["slot"] == slot
                            && member["nodeId"] != old
                            && member["voter"] == true
                            && member["ready"] == true
                    })
                })
        })
        .await?;
    cluster.wait_ready(3 * MINUTE).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_member_whose_volume_is_lost_returns_as_a_new_node() {
    in_namespace("lost", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("lost", 3)).await?;
        let writer = writer(&cluster, "lost");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let leader = cluster.leader(3).await?;
        let slot = (leader + 1) % 3;
        let old = cluster
            .member(slot)
            .await
            .ok_or("the member does not answer")?
            .node_id;
        let _killer = OperatorKiller::start(KILLED_EVERY);
        let claim = cluster.claim(slot);
        let pod = cluster.pod(slot);
        kubectl
            .run(&["delete", "pvc", &claim, "--wait=false"])
            .await
            .map_err(|error| error.to_string())?;
        kubectl
            .run(&[
                "delete",
                "pod",
                &pod,
                "--grace-period=0",
                "--force",
                "--wait=false",
            ])
            .await
            .map_err(|error| error.to_string())?;
        wait_replaced(&cluster, slot, &old).await?;
        let written = writer.finish().await?;
        check_all(&cluster, 3, &written, "lost").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_refused_volume_is_fenced_recovered_by_a_job_and_the_member_returns() {
    in_namespace("refused", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("refused", 3)).await?;
        let writer = writer(&cluster, "refused");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let leader = cluster.leader(3).await?;
        let slot = (leader + 1) % 3;
        let old = cluster
            .member(slot)
            .await
            .ok_or("the member does not answer")?
            .node_id;
        make_vote_unreadable(&cluster.volume_path(slot).await?)
            .map_err(|error| error.to_string())?;
        kill_node_process(&kubectl, &cluster.pod(slot)).await?;
        let _killer = OperatorKiller::start(KILLED_EVERY);
        wait_replaced(&cluster, slot, &old).await?;
        let object = cluster.object().await;
        let recovered = object["status"]["members"]
            .as_array()
            .is_some_and(|members| {
                members.iter().any(|member| {
                    member["slot"] == slot && member["lastRecovery"]["outcome"] == "NewIdentity"
                })
            });
        if !recovered {
            return Err(format!(
                "the recovery is not in the status: {}",
                object["status"]
            ));
        }
        let jobs = kubectl
            .list("jobs", "app.kubernetes.io/component=recovery")
            .await
            .map_err(|error| error.to_string())?;
        if jobs.len() != 1 {
            return Err(format!("{} recovery Jobs instead of one", jobs.len()));
        }
        let written = writer.finish().await?;
        check_all(&cluster, 3, &written, "refused").await
    })
    .await;
}

/// Restores a backup, given as the source of an RdfRestore, as the cluster `target`, and sees that it
/// serves the data of that digest.
async fn restored(
    kubectl: &Kubectl,
    source: &str,
    replicas: u32,
    digest: &str,
) -> Result<TestCluster, String> {
    kubectl
        .apply(&format!(
            "apiVersion: quadraft.dev/v1alpha1\nkind: RdfRestore\nmetadata:\n  name: again\nspec:\n  source: \
             {source}\n  cluster:\n    name: target\n    spec:\n      replicas: {replicas}\n      version: 0.1.0\n      \
             storage:\n        size: 1Gi\n",
        ))
        .await
        .map_err(|error| error.to_string())?;
    wait_until("the restore", 5 * MINUTE, || async {
        let restore = kubectl.get("rdfrestore", "again").await.ok().flatten()?;
        (restore["status"]["phase"] == "Completed").then_some(())
    })
    .await?;
    let target = TestCluster::attach(kubectl, "target")
        .await
        .map_err(|error| error.to_string())?;
    target.wait_ready(3 * MINUTE).await?;
    let members = target.agree(replicas, MINUTE).await?;
    if members[0].digest != digest {
        return Err(format!("restored {}, expected {digest}", members[0].digest));
    }
    Ok(target)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn the_volume_of_an_only_member_that_is_refused_is_exported_and_restored() {
    in_namespace("export", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let source = ready_cluster(&kubectl, &ClusterOptions::new("books", 1)).await?;
        let writer = writer(&source, "export");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = writer.finish().await?;
        let digest = source.agree(1, MINUTE).await?[0].digest.clone();
        let pod = kubectl.get("pod", &source.pod(0)).await;
        let pod = pod.map_err(|error| error.to_string())?.unwrap_or_default();
        let image = pod["spec"]["containers"][0]["image"]
            .as_str()
            .ok_or("the pod has no image")?;
        make_vote_unreadable(&source.volume_path(0).await?).map_err(|error| error.to_string())?;
        kill_node_process(&kubectl, &source.pod(0)).await?;
        let killer = OperatorKiller::start(KILLED_EVERY);
        source
            .wait_object("the member to be given up", 3 * MINUTE, |object| {
                object["status"]["conditions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["reason"] == "RecoveryFailed"))
            })
            .await?;

        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: books-backups\nspec:\n  \
                     accessModes: [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n";
        let job = include_str!("../../examples/export.yaml")
            .replace("example.org/quadraft-node:0.1.0", image);
        let manifest = format!("{claim}{job}");
        kubectl.apply(&manifest).await.map_err(|error| error.to_string())?;
        let done = ["wait", "--for=condition=Complete", "job/books-export", "--timeout=120s"];
        kubectl.run(&done).await.map_err(|error| error.to_string())?;
        let log = kubectl.run(&["logs", "job/books-export"]).await;
        let log = log.map_err(|error| error.to_string())?;
        let report = log
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok())
            .ok_or_else(|| format!("no report in {log}"))?;
        if report["digest"] != digest || report["complete"] != true {
            return Err(format!("exported {report}, expected {digest}"));
        }
        let source = "{ claimName: books-backups, path: export }";
        let target = restored(&kubectl, source, 1, &digest).await?;
        drop(killer);
        kept(&written, &target.numbers(Some(0), "export").await?)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn damaged_entries_are_repaired_in_place_while_the_cluster_serves() {
    in_namespace("repaired", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("repaired", 3)).await?;
        let writer = writer(&cluster, "repaired");
        tokio::time::sleep(Duration::from_secs(5)).await;
        // Every member loses entries, and no entry is lost by more than one.
        let mut damaged = Vec::new();
        for slot in 0..3 {
            let before = cluster
                .member(slot)
                .await
                .ok_or("a member does not answer")?;
            let segment = segments(&cluster.volume_path(slot).await?)
                .map_err(|error| error.to_string())?
                .pop()
                .ok_or("no log segment")?;
            let count =
                damage_payloads(&segment, slot as usize, 3).map_err(|error| error.to_string())?;
            kill_node_process(&kubectl, &cluster.pod(slot)).await?;
            if count < 3 {
                return Err(format!("only {count} entries were damaged"));
            }
            damaged.push((before.node_id, count));
            wait_until("the repair", 2 * MINUTE, || async {
                cluster.member(slot).await.filter(|member| {
                    member.ready && member.unreadable == 0 && member.repaired_from_peers > 0
                })
            })
            .await?;
        }
        cluster.wait_ready(MINUTE).await?;
        let written = writer.finish().await?;
        for (slot, (node_id, _)) in (0..3).zip(&damaged) {
            let member = cluster
                .member(slot)
                .await
                .ok_or("a member does not answer")?;
            if member.node_id != *node_id {
                return Err(format!("{} came back as another node", member.pod));
            }
        }
        let jobs = kubectl
            .list("jobs", "app.kubernetes.io/component=recovery")
            .await
            .map_err(|error| error.to_string())?;
        if !jobs.is_empty() {
            return Err("a recovery Job ran although nothing was refused".to_owned());
        }
        check_all(&cluster, 3, &written, "repaired").await
    })
    .await;
}

async fn scale(cluster: &TestCluster, replicas: u32) -> Outcome {
    let patch = format!("{{\"spec\":{{\"replicas\":{replicas}}}}}");
    cluster
        .kubectl
        .run(&[
            "patch",
            "rdfcluster",
            &cluster.name,
            "--type=merge",
            "-p",
            &patch,
        ])
        .await
        .map_err(|error| error.to_string())?;
    cluster
        .wait_object("the wanted number of members", 6 * MINUTE, |object| {
            let members = object["status"]["members"].as_array().map_or(0, Vec::len);
            object["status"]["readyMembers"] == format!("{replicas}/{replicas}")
                && members == replicas as usize
                && object["status"]["observedGeneration"] == object["metadata"]["generation"]
        })
        .await?;
    cluster.wait_ready(MINUTE).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_cluster_scales_from_three_to_five_and_back_under_load() {
    in_namespace("scale", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("scale", 3)).await?;
        let writer = writer(&cluster, "scale");
        let killer = OperatorKiller::start(KILLED_EVERY);
        scale(&cluster, 5).await?;
        cluster.agree_eventually(5).await?;
        budget(&cluster, 3).await?;
        // On a machine that takes no more pods, as while it is drained: five can lose two, and no more.
        let machine = machine(&kubectl, &cluster.pod(0)).await?;
        let cordon = async |command: &str| {
            let done = kubectl.run(&[command, &machine]).await;
            done.map(|_| ()).map_err(|error| error.to_string())
        };
        cordon("cordon").await?;
        let mut gone = 0;
        for slot in 0..5 {
            gone += u32::from(kubectl.evict(&cluster.pod(slot)).await.is_ok());
        }
        cordon("uncordon").await?;
        if gone != 2 {
            return Err(format!("{gone} of five pods could be evicted"));
        }
        scale(&cluster, 3).await?;
        budget(&cluster, 2).await?;
        drop(killer);
        let written = writer.finish().await?;
        check_all(&cluster, 3, &written, "scale").await?;
        let pods = kubectl
            .list("pods", "quadraft.dev/cluster=scale")
            .await
            .map_err(|error| error.to_string())?;
        if pods.len() != 3 {
            return Err(format!("{} pods remain", pods.len()));
        }
        Ok(())
    })
    .await;
}

/// Waits until so many pods must stay through evictions.
async fn budget(cluster: &TestCluster, minimum: u32) -> Outcome {
    let name = format!("{}-quadraft", cluster.name);
    let what = format!("a budget that keeps {minimum} pods");
    wait_until(&what, MINUTE, || async {
        let budget = cluster.kubectl.get("poddisruptionbudget", &name).await;
        let budget = budget.ok()??;
        (budget["spec"]["minAvailable"] == minimum
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
            && budget["status"]["currentHealthy"].as_u64()? > u64::from(minimum))
        .then_some(())
    })
    .await
}

async fn machine(kubectl: &Kubectl, pod: &str) -> Result<String, String> {
    let pod = kubectl
        .get("pod", pod)
        .await
        .map_err(|error| error.to_string())?;
    let machine = pod.and_then(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned()));
    machine.ok_or_else(|| "the pod runs on no machine".to_owned())
}

/// Under load the members are never seen at the same index at once; being ready is enough then.
trait AgreeEventually {
    async fn agree_eventually(&self, replicas: u32) -> Outcome;
}

impl AgreeEventually for TestCluster {
    async fn agree_eventually(&self, replicas: u32) -> Outcome {
        for slot in 0..replicas {
            wait_until("every member to serve", MINUTE, || async {
                self.member(slot).await.filter(|member| member.ready)
            })
            .await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_backup_is_restored_as_a_new_cluster_with_the_equal_digest() {
    in_namespace("backup", |kubectl| async move {
        let source = ready_cluster(&kubectl, &ClusterOptions::new("source", 3)).await?;
        let writer = writer(&source, "backup");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let written = writer.finish().await?;
        let digest = source.agree(3, MINUTE).await?[0].digest.clone();
        let killer = OperatorKiller::start(KILLED_EVERY);
        kubectl
            .apply(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
                 [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n\
                 apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: first\nspec:\n  \
                 clusterName: source\n  destination:\n    claimName: backups\n",
            )
            .await
            .map_err(|error| error.to_string())?;
        let backup = wait_until("the backup", 3 * MINUTE, || async {
            let backup = kubectl.get("rdfbackup", "first").await.ok().flatten()?;
            (backup["status"]["phase"] == "Completed").then_some(backup)
        })
        .await?;
        if backup["status"]["digest"] != digest {
            return Err(format!("the backup has {}, the cluster {digest}", backup["status"]["digest"]));
        }
        kubectl
            .run(&["delete", "rdfcluster", "source", "--timeout=120s"])
            .await
            .map_err(|error| error.to_string())?;
        kubectl
            .run(&["delete", "pvc", "--selector=quadraft.dev/cluster=source", "--timeout=120s"])
            .await
            .map_err(|error| error.to_string())?;
        let target = restored(&kubectl, "{ backupName: first }", 3, &digest).await?;
        drop(killer);
        kept(&written, &target.numbers(None, "backup").await?)
    })
    .await;
}

/// The operator's role, as the API server has it.
async fn role(kubectl: &Kubectl) -> Result<Value, String> {
    let found = kubectl
        .get("clusterrole", "quadraft-system-quadraft-operator")
        .await;
    let mut role = found
        .map_err(|error| error.to_string())?
        .ok_or("the operator has no role")?;
    // It is written again as it was, whoever wrote it last.
    role["metadata"]["resourceVersion"] = Value::Null;
    Ok(role)
}

async fn replace(kubectl: &Kubectl, object: &Value) -> Result<(), String> {
    let written = kubectl
        .run_with_input(&["replace", "-f", "-"], &object.to_string())
        .await;
    written.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_right_that_is_missing_is_told_in_the_api_servers_words() {
    in_namespace("rights", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("books", 1)).await?;
        let whole = role(&kubectl).await?;
        let mut less = whole.clone();
        for rule in less["rules"].as_array_mut().into_iter().flatten() {
            if rule["resources"][0] == "statefulsets" {
                rule["verbs"] = Value::from(vec!["get", "list", "watch"]);
            }
        }
        if less == whole {
            return Err(format!("there is no rule on StatefulSets in {whole}"));
        }
        replace(&kubectl, &less).await?;
        let told = async {
            let patch = "{\"spec\":{\"node\":{\"queryTimeoutMs\":12345}}}";
            let change = [
                "patch",
                "rdfcluster",
                "books",
                "--type=merge",
                "--patch",
                patch,
            ];
            kubectl
                .run(&change)
                .await
                .map_err(|error| error.to_string())?;
            let told = cluster
                .wait_object("the missing right to be told of", MINUTE, |object| {
                    let conditions = object["status"]["conditions"].as_array();
                    conditions.into_iter().flatten().any(|one| {
                        let message = one["message"].as_str().unwrap_or_default();
                        one["type"] == "Ready"
                            && one["status"] != "True"
                            && message.contains("cannot patch resource \"statefulsets\"")
                    })
                })
                .await?;
            Ok::<Value, String>(told)
        }
        .await;
        replace(&kubectl, &whole).await?;
        told?;
        cluster.wait_ready(2 * MINUTE).await
    })
    .await;
}

/// Takes a backup whose Job ends, and whose pod goes, while no operator is there to look. Whether there was
/// none is seen by the phase of the backup then.
async fn back_up_unseen(kubectl: &Kubectl, name: &str) -> Result<bool, String> {
    kubectl
        .apply(&format!(
            "apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: {name}\nspec:\n  \
             clusterName: books\n  destination:\n    claimName: backups\n"
        ))
        .await
        .map_err(|error| error.to_string())?;
    let job_of = async || {
        let jobs = kubectl
            .list("jobs", "app.kubernetes.io/component=backup")
            .await;
        let jobs = jobs.ok()?;
        let mine = jobs
            .iter()
            .find(|job| job["metadata"]["ownerReferences"][0]["name"] == name)?;
        mine["metadata"]["name"].as_str().map(str::to_owned)
    };
    let job = wait_until("the Job", MINUTE, job_of).await?;
    // Another operator takes over when the Lease of this one has run out.
    kill_operator().await.map_err(|error| error.to_string())?;
    let selector = format!("batch.kubernetes.io/job-name={job}");
    let pod = wait_until("the Job's pod to end", MINUTE, async || {
        let pods = kubectl.list("pods", &selector).await.ok()?;
        let pod = pods
            .iter()
            .find(|pod| pod["status"]["phase"] == "Succeeded")?;
        pod["metadata"]["name"].as_str().map(str::to_owned)
    })
    .await?;
    wait_until("the Job to be complete", MINUTE, async || {
        let job = kubectl.get("job", &job).await.ok()??;
        (job["status"]["succeeded"] == 1).then_some(())
    })
    .await?;
    let delete = ["delete", "pod", &pod, "--grace-period=0", "--force"];
    kubectl
        .run(&delete)
        .await
        .map_err(|error| error.to_string())?;
    let backup = kubectl.get("rdfbackup", name).await;
    let backup = backup
        .map_err(|error| error.to_string())?
        .unwrap_or_default();
    Ok(backup["status"]["phase"] != "Completed")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn the_result_of_a_backup_is_not_lost_with_its_pod() {
    in_namespace("unseen", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("books", 1)).await?;
        kubectl
            .apply(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
                 [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n",
            )
            .await
            .map_err(|error| error.to_string())?;
        let digest = cluster.agree(1, MINUTE).await?[0].digest.clone();
        let mut unseen = None;
        for name in ["first", "second", "third"] {
            wait_operator(MINUTE).await?;
            if back_up_unseen(&kubectl, name).await? {
                unseen = Some(name);
                break;
            }
        }
        let name = unseen.ok_or("the operator was faster each time")?;
        let backup = wait_until("the backup", 3 * MINUTE, || async {
            let backup = kubectl.get("rdfbackup", name).await.ok().flatten()?;
            let ended = ["Completed", "Failed"].map(Value::from).contains(&backup["status"]["phase"]);
            ended.then_some(backup)
        })
        .await?;
        if backup["status"]["phase"] != "Completed" || backup["status"]["digest"] != digest {
            return Err(format!("the cluster has {digest}: {}", backup["status"]));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn deleting_a_cluster_keeps_its_volumes_and_a_new_one_serves_them_again() {
    in_namespace("delete", |kubectl| async move {
        let options = ClusterOptions::new("gone", 3);
        let cluster = ready_cluster(&kubectl, &options).await?;
        let writer = writer(&cluster, "gone");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = writer.finish().await?;
        let uuid = cluster.object().await["status"]["clusterUuid"].clone();
        let _killer = OperatorKiller::start(KILLED_EVERY);
        kubectl
            .run(&["delete", "rdfcluster", "gone", "--timeout=180s"])
            .await
            .map_err(|error| error.to_string())?;
        wait_until("all pods to be gone", 2 * MINUTE, || async {
            let pods = kubectl
                .list("pods", "quadraft.dev/cluster=gone")
                .await
                .ok()?;
            pods.is_empty().then_some(())
        })
        .await?;
        let claims = kubectl
            .list("pvc", "quadraft.dev/cluster=gone")
            .await
            .map_err(|error| error.to_string())?;
        if claims.len() != 3 {
            return Err(format!(
                "{} volumes are left instead of three",
                claims.len()
            ));
        }
        let again = ready_cluster(&kubectl, &options).await?;
        if again.object().await["status"]["clusterUuid"] != uuid {
            return Err("the cluster was begun afresh over data that exists".to_owned());
        }
        check_all(&again, 3, &written, "gone").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn wrong_manifests_are_refused_or_explained_and_restart_nothing() {
    in_namespace("wrong", |kubectl| async move {
        let options = ClusterOptions::new("right", 1);
        let cluster = ready_cluster(&kubectl, &options).await?;
        let manifest = options.manifest();
        let refused = [
            (
                "replicas: 1",
                "replicas: 2",
                "replicas must be 1, 3, 5 or 7",
            ),
            ("size: 1Gi", "size: 1Ki", "at least 1Mi"),
            ("size: 1Gi", "size: plenty", "size"),
            ("version: 0.1.0", "version: 0.1.0\n  colour: red", "colour"),
            ("name: right", "name: right-any", "must not end in"),
            (
                "version: 0.1.0",
                "version: 0.1.0\n  http: {cors: {origins: ['https://example.org/']}}",
                "spec.http.cors.origins[0]",
            ),
            (
                "version: 0.1.0",
                "version: 0.1.0\n  http: {cors: {origins: ['*', 'https://example.org']}}",
                "* stands alone",
            ),
        ];
        for (right, wrong, reason) in refused {
            match kubectl.apply(&manifest.replace(right, wrong)).await {
                Ok(()) => return Err(format!("{wrong:?} was accepted")),
                Err(error) if error.to_string().contains(reason) => {}
                Err(error) => {
                    return Err(format!("{wrong:?} is refused without {reason:?}: {error}"));
                }
            }
        }
        let restarts = pod_starts(&kubectl).await?;
        // What the API server cannot know is explained, and can be taken back.
        for (right, wrong, reason, word) in [
            (
                "version: 0.1.0",
                "version: 9.9.9",
                "UnknownVersion",
                "9.9.9",
            ),
            (
                "size: 1Gi",
                "size: 512Mi",
                "StorageCannotShrink",
                "1073741824",
            ),
        ] {
            kubectl
                .apply(&manifest.replace(right, wrong))
                .await
                .map_err(|error| error.to_string())?;
            let is_told = |condition: &Value| {
                condition["type"] == "Stalled"
                    && condition["status"] == "True"
                    && condition["reason"] == reason
                    && condition["message"]
                        .as_str()
                        .is_some_and(|message| message.contains(word))
            };
            cluster
                .wait_object(reason, MINUTE, |object| {
                    let conditions = object["status"]["conditions"].as_array();
                    conditions.is_some_and(|conditions| conditions.iter().any(is_told))
                })
                .await?;
            kubectl
                .apply(&manifest)
                .await
                .map_err(|error| error.to_string())?;
            cluster.wait_ready(MINUTE).await?;
        }
        if pod_starts(&kubectl).await? != restarts {
            return Err("a wrong manifest restarted a pod".to_owned());
        }
        Ok(())
    })
    .await;
}

async fn pod_starts(kubectl: &Kubectl) -> Result<Vec<(Value, Value)>, String> {
    Ok(kubectl
        .list("pods", "quadraft.dev/cluster")
        .await
        .map_err(|error| error.to_string())?
        .iter()
        .map(|pod| {
            (
                pod["metadata"]["uid"].clone(),
                pod["status"]["containerStatuses"][0]["restartCount"].clone(),
            )
        })
        .collect())
}

/// An answer that refuses a request: its status, its `Retry-After`, its document.
async fn refusal(
    answer: reqwest::Response,
    status: u16,
) -> Result<(Option<String>, Value), String> {
    let found = answer.status().as_u16();
    let retry_after = answer
        .headers()
        .get("retry-after")
        .and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if found != status {
        return Err(format!("{found} instead of {status}: {text}"));
    }
    let document =
        serde_json::from_str(&text).map_err(|error| format!("{status}: {error}: {text}"))?;
    Ok((retry_after, document))
}

/// A stale read through a Service of the cluster.
async fn stale_read(cluster: &TestCluster, service: &str) -> Result<Value, String> {
    let answer = reqwest::Client::new()
        .post(cluster.proxy.service_url(service, "/query"))
        .header("content-type", "application/sparql-query")
        .header("accept", "application/sparql-results+json")
        .header("quadraft-consistency", "stale")
        .body("ASK { ?s ?p ?o }")
        .timeout(Duration::from_secs(20))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

async fn stateful_set_replicas(kubectl: &Kubectl, name: &str, replicas: u32) -> Outcome {
    let replicas = format!("--replicas={replicas}");
    kubectl
        .run(&["scale", "statefulset", name, &replicas])
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn wrong_requests_are_refused_and_without_a_leader_clients_are_told_to_come_back() {
    in_namespace("edge", |kubectl| async move {
        // Small, so that a body beyond it fits into the buffers on its way and is not cut off there
        // before the answer comes back.
        let options = ClusterOptions {
            maximum_request_bytes: 16_384,
            ..ClusterOptions::new("edge", 3)
        };
        let cluster = ready_cluster(&kubectl, &options).await?;
        let writer = writer(&cluster, "edge");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = writer.finish().await?;
        let restarts = pod_starts(&kubectl).await?;

        let malformed = b"SELECT *\nWHERE { ?s ?p }".to_vec();
        let answer = cluster
            .post(1, "/query", "application/sparql-query", malformed)
            .await?;
        let (_, document) = refusal(answer, 400).await?;
        if document["line"] != 2 || !document["column"].is_u64() {
            return Err(format!("no position: {document}"));
        }
        let oversized = vec![b' '; 16_385];
        let answer = cluster
            .post(1, "/update", "application/sparql-update", oversized)
            .await?;
        refusal(answer, 413).await?;
        if pod_starts(&kubectl).await? != restarts {
            return Err("a wrong request restarted a pod".to_owned());
        }

        // Without the operator nobody starts the two members again that are stopped here.
        uninstall_operator().await?;
        for slot in [1, 2] {
            stateful_set_replicas(&kubectl, &cluster.stateful_set(slot), 0).await?;
        }
        let retry_after = wait_until("the refusal of a write", MINUTE, || async {
            let update = b"INSERT DATA { <urn:a> <urn:b> 1 }".to_vec();
            let answer = cluster
                .post(0, "/update", "application/sparql-update", update)
                .await
                .ok()?;
            let (retry_after, document) = refusal(answer, 503).await.ok()?;
            (document["error"] == "no_leader").then_some(retry_after)
        })
        .await?;
        // A leader that lost the others still takes itself for one; started anew it knows of none. The
        // Service leads to nobody then, and the other one to whoever runs.
        kill_node_process(&kubectl, &cluster.pod(0)).await?;
        let nowhere = wait_until("the Service to lead nowhere", MINUTE, || async {
            let member = cluster.member(0).await?;
            (!member.ready).then_some(())?;
            stale_read(&cluster, "edge").await.err()
        })
        .await;
        let any = wait_until("a stale read", MINUTE, || async {
            stale_read(&cluster, "edge-any").await.ok()
        })
        .await;
        install_operator(&[]).await?;
        if retry_after.is_none() {
            return Err("503 without Retry-After".to_owned());
        }
        nowhere?;
        let answer = any?;
        if answer["boolean"] != true {
            return Err(format!(
                "a stale read without a leader finds nothing: {answer}"
            ));
        }
        // The status is from before until the operator looks.
        cluster.agree_eventually(3).await?;
        cluster.wait_ready(3 * MINUTE).await?;
        check_all(&cluster, 3, &written, "edge").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn upgrading_and_uninstalling_the_operator_keeps_clusters_and_data() {
    in_namespace("helm", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("kept", 3)).await?;
        let writer = writer(&cluster, "kept");
        let restarts = pod_starts(&kubectl).await?;
        install_operator(&["replicas=2"]).await?;
        cluster.wait_ready(MINUTE).await?;
        uninstall_operator().await?;
        // The cluster serves without an operator, and its definition and volumes are there.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let claims = kubectl
            .list("pvc", "quadraft.dev/cluster=kept")
            .await
            .map_err(|error| error.to_string())?;
        let object = kubectl
            .get("rdfcluster", "kept")
            .await
            .map_err(|error| error.to_string())?;
        install_operator(&[]).await?;
        if claims.len() != 3 || object.is_none() {
            return Err(format!(
                "after uninstalling there are {} volumes and the cluster is {object:?}",
                claims.len()
            ));
        }
        cluster.wait_ready(MINUTE).await?;
        let written = writer.finish().await?;
        if pod_starts(&kubectl).await? != restarts {
            return Err("the operator's coming and going restarted a pod".to_owned());
        }
        check_all(&cluster, 3, &written, "kept").await
    })
    .await;
}

/// How often a store is damaged in the tests below: ten times, a single member's kubelet waits for
/// half an hour in between.
fn damage_rounds() -> u32 {
    std::env::var("QUADRAFT_STORE_DAMAGE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2)
}

/// What is asked all the time, and what the answer is: the one shows rows as they are found, the
/// other collects them first.
const ASKED: [(&str, &str); 2] = [
    (
        "SELECT (COUNT(*) AS ?n) { ?s <u:label> ?l FILTER(CONTAINS(?l, \"thing\")) }",
        "500",
    ),
    (
        "SELECT ?n { ?s <u:number> ?n ; <u:label> ?l } ORDER BY DESC(?l) DESC(?n) LIMIT 1",
        "99",
    ),
];

/// Asks the Service until told to stop; gives how many answers were right, and the wrong ones.
fn reader(
    cluster: &Arc<TestCluster>,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(u64, Vec<String>)> {
    let (cluster, stop) = (cluster.clone(), stop.clone());
    tokio::spawn(async move {
        let (mut right, mut wrong) = (0, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            for (query, expected) in ASKED {
                // No answer is no wrong answer: a member may be away.
                if let Ok(answer) = cluster.query(None, query).await {
                    let found = &answer["results"]["bindings"][0]["n"]["value"];
                    if found == expected {
                        right += 1;
                    } else {
                        wrong.push(format!("{query}: {answer}"));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (right, wrong)
    })
}

/// Flips a bit somewhere in a table of the store; gives which.
fn damage_a_table(volume: &std::path::Path) -> Result<std::path::PathBuf, String> {
    let text = |error: std::io::Error| error.to_string();
    let folders = |path: &std::path::Path| -> std::io::Result<Vec<std::path::PathBuf>> {
        std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    let mut generations = folders(&volume.join("store")).map_err(text)?;
    generations.retain(|path| path.join("CURRENT").is_file());
    generations.sort();
    let mut tables = folders(generations.last().ok_or("no store")?).map_err(text)?;
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    if tables.is_empty() {
        return Err("the store has no tables".to_owned());
    }
    let table = tables.swap_remove(rand::random_range(0..tables.len()));
    let length = std::fs::metadata(&table).map_err(text)?.len();
    flip_a_bit(&table, rand::random_range(0..length)).map_err(text)?;
    Ok(table)
}

async fn damaged_tables_heal(kubectl: &Kubectl, replicas: u32) -> Outcome {
    if !uses_bed().await {
        return Err("volumes can be damaged on the bed only".to_owned());
    }
    let options = ClusterOptions {
        snapshot_after_entries: 200,
        scrub_interval_seconds: 3,
        memory_limit: Some("512Mi".to_owned()),
        ..ClusterOptions::new("bits", replicas)
    };
    let cluster = Arc::new(ready_cluster(kubectl, &options).await?);
    let filling = "x".repeat(150);
    let things: String = (0..500)
        .map(|number| {
            format!(
                "<u:{number}> <u:label> \"thing {filling}\" ; <u:number> {} . ",
                number % 100
            )
        })
        .collect();
    let loaded = cluster
        .post(
            0,
            "/update",
            "application/sparql-update",
            format!("INSERT DATA {{ {things} }}").into_bytes(),
        )
        .await?;
    if !loaded.status().is_success() {
        return Err(loaded.text().await.unwrap_or_default());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let reading = reader(&cluster, &stop);
    let writing = Writer::start_at_pace(
        vec![cluster.service_url("/update")],
        "bits",
        10 * MINUTE,
        Duration::from_millis(20),
    );
    // Until there are tables of several flushes.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut done = 0;
    while done < damage_rounds() {
        cluster.wait_ready(8 * MINUTE).await?;
        let slot = done % replicas;
        let (before, ended_before) = cluster.restarts(slot).await?;
        let table = damage_a_table(&cluster.volume_path(slot).await?)?;
        // It may be replaced before anybody reads it; it is also gone when the store is rebuilt, of
        // which Kubernetes tells a little later.
        let until = Instant::now() + 2 * MINUTE;
        let mut gone: Option<Instant> = None;
        // Looked at before the container runs again: the kubelet may put that off for minutes, and
        // Kubernetes may have forgotten by then how it ended.
        let ended = loop {
            let (_, last) = cluster.restarts(slot).await?;
            if !last.is_null() && last != ended_before {
                break Some(last);
            }
            if !table.is_file() {
                gone.get_or_insert_with(Instant::now);
            }
            if gone.is_some_and(|gone| gone.elapsed() > Duration::from_secs(20)) {
                break None;
            }
            if Instant::now() > until {
                return Err(format!("nobody found the damage in {}", table.display()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let Some(ended) = ended else { continue };
        if ended["exitCode"] != 27 {
            return Err(format!("the node ended otherwise: {ended}"));
        }
        wait_until("the member to run again", 8 * MINUTE, || async {
            let (restarts, _) = cluster.restarts(slot).await.ok()?;
            (restarts > before).then_some(())
        })
        .await?;
        wait_until("the member to be ready", 2 * MINUTE, || async {
            let waiting = cluster.pods_not_ready().await.ok()?;
            waiting.is_empty().then_some(())
        })
        .await?;
        cluster.wait_ready(MINUTE).await?;
        let (after, _) = cluster.restarts(slot).await?;
        if after != before + 1 {
            return Err(format!("{} restarts for one bit: {ended}", after - before));
        }
        done += 1;
        println!(
            "bit {done} of a cluster of {replicas}: {}",
            ended["message"]
        );
    }
    stop.store(true, Ordering::SeqCst);
    let (right, wrong) = reading.await.map_err(|error| error.to_string())?;
    let written = writing.finish().await?;
    println!(
        "{right} right answers, {} writes acknowledged",
        written.acknowledged.len()
    );
    if let Some(wrong) = wrong.first() {
        return Err(format!("a wrong answer: {wrong}"));
    }
    if right < 10 {
        return Err(format!("the reader came to nothing: {right} answers"));
    }
    check_all(&cluster, replicas, &written, "bits").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_damaged_store_heals_by_itself_in_a_cluster_of_three() {
    in_namespace("bits", |kubectl| async move {
        damaged_tables_heal(&kubectl, 3).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_damaged_store_heals_by_itself_in_a_cluster_of_one() {
    in_namespace("bit", |kubectl| async move {
        damaged_tables_heal(&kubectl, 1).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_leader_that_is_cut_off_is_noticed_through_the_service() {
    in_namespace("cut", |kubectl| async move {
        if !uses_bed().await {
            return Err("pods can be cut off on the bed only".to_owned());
        }
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("cut", 3)).await?;
        let first = cluster.leader(3).await?;
        let mut endpoints = vec![Endpoint {
            name: "the Service".to_owned(),
            url: format!("http://{}", cluster.service_address().await?),
        }];
        for slot in 0..3 {
            let name = if slot == first {
                "the first leader".to_owned()
            } else {
                cluster.pod(slot)
            };
            let url = format!("http://{}", cluster.pod_address(slot).await?);
            endpoints.push(Endpoint { name, url });
        }
        let clients = PartitionClients::start(&endpoints);
        clients.each_gets_answers().await?;
        let network = PodNetwork::of(&kubectl, &cluster.pod(first)).await?;
        network.cut_off().await?;
        tokio::time::sleep(Duration::from_secs(partition_seconds())).await;
        let waiting = cluster.pods_not_ready().await?;
        if waiting != [cluster.pod(first)] {
            return Err(format!("not ready while one is cut off: {waiting:?}"));
        }
        network.reconnect().await?;
        cluster.wait_ready(MINUTE).await?;
        clients.each_gets_answers().await?;
        let reports = clients.finish().await?;
        for report in &reports {
            println!("{report}");
        }
        let served: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| endpoint.name != "the first leader")
            .collect();
        partition::check(&reports, &served)
    })
    .await;
}
