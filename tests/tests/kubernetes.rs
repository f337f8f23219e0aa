//! Clusters with real pods. Each test has a namespace of its own and leaves a trail when it fails:
//! objects, events, status, logs. In each the operator is killed in the middle, again and again.
//!
//! They need a Kubernetes: `make test-kubernetes` brings one up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quadraft_tests::damage::{damage_payloads, make_vote_unreadable, segments};
use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, TestCluster, install_operator, kill_node_process, load_images,
    print_trail, uninstall_operator, uses_bed, wait_operator, wait_until,
};
use quadraft_tests::local::{Acknowledged, Writer};
use serde_json::Value;
use tokio::sync::OnceCell;

static OPERATOR: OnceCell<Result<(), String>> = OnceCell::const_new();

const MINUTE: Duration = Duration::from_secs(60);

type Outcome = Result<(), String>;

/// Runs a test in its own namespace, under the `restricted` pod security standard.
async fn in_namespace<F, T>(name: &str, test: F)
where
    F: FnOnce(Kubectl) -> T,
    T: Future<Output = Outcome>,
{
    OPERATOR
        .get_or_init(|| async {
            load_images().await?;
            install_operator(&[]).await
        })
        .await
        .clone()
        .expect("the operator is installed");
    let namespace = format!("test-{name}");
    let kubectl = Kubectl::new(&namespace);
    let _ = kubectl
        .run(&[
            "delete",
            "namespace",
            &namespace,
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .await;
    kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        ))
        .await
        .unwrap();
    let outcome = test(kubectl.clone()).await;
    if let Err(error) = outcome {
        print_trail(&kubectl).await;
        panic!("{error}");
    }
    // What a test leaves is taken away as a user would; claims go with the namespace.
    kubectl
        .run(&[
            "delete",
            "rdfclusters,rdfbackups,rdfrestores",
            "--all",
            "--timeout=120s",
        ])
        .await
        .unwrap();
    kubectl
        .run(&["delete", "namespace", &namespace, "--timeout=180s"])
        .await
        .unwrap();
}

/// Kills the operator again and again until it is dropped. In between it gets the time to take the
/// Lease of the one before it, which runs out first, and some more to do a part of its work.
struct OperatorKiller {
    stop: Arc<AtomicBool>,
}

impl OperatorKiller {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        tokio::spawn(async move {
            let kubectl = Kubectl::new("quadraft-system");
            while !flag.load(Ordering::SeqCst) {
                let _ = kubectl
                    .run(&[
                        "delete",
                        "pods",
                        "--selector=app.kubernetes.io/name=quadraft-operator",
                        "--grace-period=0",
                        "--force",
                    ])
                    .await;
                tokio::time::sleep(Duration::from_secs(35)).await;
            }
        });
        Self { stop }
    }
}

impl Drop for OperatorKiller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

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
        let killer = OperatorKiller::start();
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn acknowledged_writes_survive_kill_9_of_each_member_and_of_all_at_once() {
    in_namespace("crash", |kubectl| async move {
        let cluster = ready_cluster(&kubectl, &ClusterOptions::new("crash", 3)).await?;
        let _killer = OperatorKiller::start();
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
        let _killer = OperatorKiller::start();
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
        let _killer = OperatorKiller::start();
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
        let killer = OperatorKiller::start();
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
        let killer = OperatorKiller::start();
        scale(&cluster, 5).await?;
        cluster.agree_eventually(5).await?;
        scale(&cluster, 3).await?;
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
        let killer = OperatorKiller::start();
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
        let _killer = OperatorKiller::start();
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
            ("size: 1Gi", "size: 1Mi", "never shrink"),
            ("size: 1Gi", "size: plenty", "size"),
            ("version: 0.1.0", "version: 0.1.0\n  colour: red", "colour"),
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
        kubectl
            .apply(&manifest.replace("version: 0.1.0", "version: 9.9.9"))
            .await
            .map_err(|error| error.to_string())?;
        cluster
            .wait_object("the unknown version to be named", MINUTE, |object| {
                object["status"]["conditions"]
                    .as_array()
                    .is_some_and(|conditions| {
                        conditions.iter().any(|condition| {
                            condition["type"] == "Stalled"
                                && condition["status"] == "True"
                                && condition["message"]
                                    .as_str()
                                    .unwrap_or_default()
                                    .contains("9.9.9")
                        })
                    })
            })
            .await?;
        if pod_starts(&kubectl).await? != restarts {
            return Err("a wrong manifest restarted a pod".to_owned());
        }
        kubectl
            .apply(&manifest)
            .await
            .map_err(|error| error.to_string())?;
        cluster.wait_ready(MINUTE).await
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
        install_operator(&[]).await?;
        if retry_after.is_none() {
            return Err("503 without Retry-After".to_owned());
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
