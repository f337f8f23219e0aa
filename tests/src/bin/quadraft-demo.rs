//! The story of one cluster, told step by step: made, loaded, crashed, damaged, backed up, lost
//! and restored. Every step checks what it claims; the first that does not hold ends the story.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use quadraft_tests::damage::{damage_payloads, make_vote_unreadable, segments};
use quadraft_tests::generator::{DataSet, Scale};
use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, TestCluster, kill_leader_while_writing, kill_node_process,
    print_trail, uses_bed, wait_until,
};
use quadraft_tests::load::{Batches, Display, LoadOptions, Total, load};
use uuid::Uuid;

const NAMESPACE: &str = "quadraft-demo";
const QUADS: u64 = 120_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Prints steps and how long each took.
struct Story {
    times: Vec<(String, Duration)>,
}

impl Story {
    async fn step<T>(
        &mut self,
        name: &str,
        doing: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        say(&format!("\n--- {name}"));
        let started = Instant::now();
        let result = doing.await.map_err(|error| format!("{name}: {error}"))?;
        self.times.push((name.to_owned(), started.elapsed()));
        Ok(result)
    }
}

fn say(text: &str) {
    // Whoever closed our output has seen enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[tokio::main]
async fn main() -> ExitCode {
    let kubectl = Kubectl::new(NAMESPACE);
    let mut story = Story { times: Vec::new() };
    let outcome = tell(&mut story, &kubectl).await;
    say("");
    for (name, took) in &story.times {
        say(&format!("{:>8.1} s  {name}", took.as_secs_f64()));
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_trail(&kubectl).await;
            say(&format!("\nThe demonstration failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn tell(story: &mut Story, kubectl: &Kubectl) -> Result<(), String> {
    story.step("make room", make_room(kubectl)).await?;
    let cluster = story
        .step(
            "apply a cluster of three members and wait until it is Ready",
            create(kubectl),
        )
        .await?;
    story
        .step(
            &format!("load {QUADS} quads through the Service"),
            load_data(&cluster),
        )
        .await?;
    story
        .step(
            "ask every member: equal answers, equal digests",
            compare(&cluster, QUADS),
        )
        .await?;
    story
        .step(
            "kill the leader with SIGKILL while a client writes",
            crash(&cluster),
        )
        .await?;
    if uses_bed().await {
        story
            .step(
                "damage entries in a member's log: they are repaired from the others",
                repair(&cluster, kubectl),
            )
            .await?;
        story
            .step(
                "damage a member's volume so that it must refuse",
                damage(&cluster, kubectl),
            )
            .await?;
    } else {
        say("\n--- damaging a volume is shown on the bed only: elsewhere volumes are out of reach");
    }
    let digest = story.step("back up", back_up(&cluster, kubectl)).await?;
    story
        .step("delete the cluster with its volumes", delete(kubectl))
        .await?;
    story
        .step(
            "restore it under a new identity and compare the digest",
            restore(kubectl, &digest),
        )
        .await
}

async fn make_room(kubectl: &Kubectl) -> Result<(), String> {
    let namespace = Kubectl::new("default");
    namespace
        .run(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--timeout=180s",
        ])
        .await
        .map_err(text)?;
    kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"
        ))
        .await
        .map_err(text)
}

async fn create(kubectl: &Kubectl) -> Result<TestCluster, String> {
    let options = ClusterOptions::new("demo", 3);
    say(&options.manifest());
    let cluster = TestCluster::apply(kubectl, &options).await.map_err(text)?;
    cluster.wait_ready(3 * MINUTE).await?;
    say(&kubectl
        .run(&["get", "rdfcluster,pods"])
        .await
        .map_err(text)?);
    let not_ready = cluster.pods_not_ready().await?;
    if not_ready.is_empty() {
        return Ok(cluster);
    }
    Err(format!(
        "the cluster is Ready and these pods are not: {}",
        not_ready.join(", ")
    ))
}

fn data_set() -> DataSet {
    DataSet {
        scale: Scale::Quads(QUADS),
        seed: 1,
        named_graphs: false,
    }
}

async fn load_data(cluster: &TestCluster) -> Result<(), String> {
    let display = Display::new(Total::Quads(QUADS));
    let options = LoadOptions {
        endpoint: cluster.service_url("/").parse().map_err(text)?,
        parallel: 4,
        deadline: 2 * MINUTE,
        run: Uuid::new_v4(),
    };
    let batches = Batches::generated(data_set().stream(), 5_000);
    let summary = load(batches, &options, &|progress| display.show(progress)).await;
    display.finish();
    let summary = summary.map_err(text)?;
    say(&format!(
        "{} quads in {:.1} s: {:.0} quads a second; {} requests sent again",
        summary.quads, summary.seconds, summary.quads_per_second, summary.retries
    ));
    Ok(())
}

async fn compare(cluster: &TestCluster, at_least: u64) -> Result<(), String> {
    for query in data_set().queries(1).take(5) {
        let mut answers = BTreeSet::new();
        for slot in 0..3 {
            // What is not a SELECT has no such answer; the digest covers it all.
            if let Ok(answer) = cluster.query(Some(slot), &query.text).await {
                let mut rows: Vec<String> = answer["results"]["bindings"]
                    .as_array()
                    .map(|rows| rows.iter().map(ToString::to_string).collect())
                    .unwrap_or_default();
                rows.sort();
                answers.insert(rows);
            }
        }
        if answers.len() > 1 {
            return Err(format!("the members' answers to {} differ", query.name));
        }
        let rows = answers.first().map_or(0, Vec::len);
        say(&format!(
            "query {:>2} ({}): {rows} rows on every member",
            query.kind, query.name
        ));
    }
    for member in cluster.agree(3, MINUTE).await? {
        if member.quads < at_least {
            return Err(format!("{} has only {} quads", member.pod, member.quads));
        }
        say(&format!(
            "{}  {:9}  index {}  {} quads  digest {}",
            member.pod, member.role, member.applied_index, member.quads, member.digest
        ));
    }
    Ok(())
}

async fn crash(cluster: &TestCluster) -> Result<(), String> {
    let interruption = kill_leader_while_writing(cluster, 3, "crash").await?;
    say(&format!("SIGKILL to the leader, {}", interruption.pod));
    say(&format!(
        "{} writes were acknowledged, and every one is on every member; writing was interrupted for {:.1} s",
        interruption.acknowledged,
        interruption.longest_gap.as_secs_f64()
    ));
    cluster.agree(3, MINUTE).await.map(|_| ())
}

/// Damages entries in the log of a member: they come back from the others while it runs.
async fn repair(cluster: &TestCluster, kubectl: &Kubectl) -> Result<(), String> {
    let slot = (cluster.leader(3).await? + 1) % 3;
    let volume = cluster.volume_path(slot).await?;
    let segment = segments(&volume)
        .map_err(text)?
        .pop()
        .ok_or("there is no log segment")?;
    let pod = cluster.pod(slot);
    let damaged = damage_payloads(&segment, 0, 2).map_err(text)?;
    kill_node_process(kubectl, &pod).await?;
    say(&format!(
        "every second entry in a segment of {pod} is damaged: {damaged} in all"
    ));
    let member = wait_until("the repair", 2 * MINUTE, || async {
        cluster.member(slot).await.filter(|member| {
            member.ready && member.unreadable == 0 && member.repaired_from_peers > 0
        })
    })
    .await?;
    say(&format!(
        "{} entries were fetched from the others and written anew",
        member.repaired_from_peers
    ));
    cluster.wait_ready(MINUTE).await?;
    compare(cluster, QUADS).await
}

async fn damage(cluster: &TestCluster, kubectl: &Kubectl) -> Result<(), String> {
    let slot = (cluster.leader(3).await? + 1) % 3;
    let old = cluster
        .member(slot)
        .await
        .ok_or("the member does not answer")?;
    let volume = cluster.volume_path(slot).await?;
    make_vote_unreadable(&volume).map_err(text)?;
    say(&format!(
        "both copies of the vote of {} are damaged; its process is killed",
        old.pod
    ));
    kill_node_process(kubectl, &old.pod).await?;
    let object = cluster
        .wait_object(
            "the member's return under a new identity",
            5 * MINUTE,
            |object| {
                object["status"]["members"]
                    .as_array()
                    .is_some_and(|members| {
                        members.iter().any(|member| {
                            member["slot"] == slot
                                && member["nodeId"] != old.node_id.as_str()
                                && member["voter"] == true
                                && member["ready"] == true
                        })
                    })
            },
        )
        .await?;
    say(&kubectl
        .run(&[
            "get",
            "jobs",
            "--selector=app.kubernetes.io/component=recovery",
        ])
        .await
        .map_err(text)?);
    for member in object["status"]["members"].as_array().into_iter().flatten() {
        if member["slot"] == slot {
            say(&format!("{}", member["lastRecovery"]));
        }
    }
    cluster.wait_ready(2 * MINUTE).await?;
    compare(cluster, QUADS).await
}

async fn back_up(cluster: &TestCluster, kubectl: &Kubectl) -> Result<String, String> {
    let digest = cluster.agree(3, MINUTE).await?[0].digest.clone();
    kubectl
        .apply(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
             [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n\
             apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: evening\nspec:\n  \
             clusterName: demo\n  destination:\n    claimName: backups\n",
        )
        .await
        .map_err(text)?;
    let backup = wait_until("the backup", 3 * MINUTE, || async {
        let backup = kubectl.get("rdfbackup", "evening").await.ok().flatten()?;
        (backup["status"]["phase"] == "Completed").then_some(backup)
    })
    .await?;
    if backup["status"]["digest"] != digest {
        return Err(format!(
            "the backup's digest is {}, the cluster's {digest}",
            backup["status"]["digest"]
        ));
    }
    say(&kubectl
        .run(&["get", "rdfbackup", "-o", "wide"])
        .await
        .map_err(text)?);
    Ok(digest)
}

async fn delete(kubectl: &Kubectl) -> Result<(), String> {
    for arguments in [
        ["delete", "rdfcluster", "demo", "--timeout=180s"],
        [
            "delete",
            "pvc",
            "--selector=quadraft.dev/cluster=demo",
            "--timeout=180s",
        ],
    ] {
        say(kubectl.run(&arguments).await.map_err(text)?.trim());
    }
    Ok(())
}

async fn restore(kubectl: &Kubectl, digest: &str) -> Result<(), String> {
    kubectl
        .apply(
            "apiVersion: quadraft.dev/v1alpha1\nkind: RdfRestore\nmetadata:\n  name: morning\nspec:\n  source:\n    \
             backupName: evening\n  cluster:\n    name: again\n    spec:\n      replicas: 3\n      version: 0.1.0\n      \
             storage:\n        size: 1Gi\n",
        )
        .await
        .map_err(text)?;
    wait_until("the restore", 5 * MINUTE, || async {
        let restore = kubectl.get("rdfrestore", "morning").await.ok().flatten()?;
        (restore["status"]["phase"] == "Completed").then_some(())
    })
    .await?;
    let again = TestCluster::attach(kubectl, "again").await.map_err(text)?;
    again.wait_ready(3 * MINUTE).await?;
    for member in again.agree(3, MINUTE).await? {
        say(&format!(
            "{}  {} quads  digest {}",
            member.pod, member.quads, member.digest
        ));
        if member.digest != digest {
            return Err(format!("expected the digest {digest}"));
        }
    }
    Ok(())
}
