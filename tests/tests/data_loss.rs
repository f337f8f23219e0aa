//! Members and data that do not come back, on real pods: a machine that is gone, and volumes that nobody
//! can serve from any more.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quadraft_tests::damage::{flip_a_bit, make_vote_unreadable};
use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, TestCluster, in_namespace, kill_operator, tool_output, uses_bed,
    wait_until,
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A cluster whose spec has more under `spec.recovery`.
async fn cluster(kubectl: &Kubectl, replicas: u32, recovery: &str) -> Result<TestCluster, String> {
    let manifest = ClusterOptions::new("books", replicas).manifest();
    let manifest = manifest.replace("spec:\n", &format!("spec:\n  recovery: {{{recovery}}}\n"));
    kubectl.apply(&manifest).await.map_err(words)?;
    let cluster = TestCluster::attach(kubectl, "books").await.map_err(words)?;
    cluster.wait_ready(3 * MINUTE).await?;
    Ok(cluster)
}

async fn write(
    cluster: &TestCluster,
    name: &str,
    numbers: std::ops::Range<u64>,
) -> Result<(), String> {
    for number in numbers {
        let update = format!("INSERT DATA {{ <urn:test:{name}> <urn:test:wrote> {number} }}");
        let answer = cluster
            .post(
                0,
                "/update",
                "application/sparql-update",
                update.into_bytes(),
            )
            .await?;
        if answer.status() != 204 {
            return Err(format!("a write was answered with {}", answer.status()));
        }
    }
    Ok(())
}

/// Takes a backup, and gives the folder that it is in below the claim's.
async fn back_up(kubectl: &Kubectl, name: &str) -> Result<String, String> {
    kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
             [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n\
             apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: {name}\nspec:\n  \
             clusterName: books\n  destination:\n    claimName: backups\n"
        ))
        .await
        .map_err(words)?;
    let location = wait_until("the backup", 3 * MINUTE, || async {
        let backup = kubectl.get("rdfbackup", name).await.ok()??;
        let location = backup["status"]["location"].as_str()?.to_owned();
        (backup["status"]["phase"] == "Completed").then_some(location)
    })
    .await?;
    let folder = location.strip_prefix("file:///backup/");
    Ok(folder.ok_or("the backup is elsewhere")?.to_owned())
}

fn is_restored(object: &Value) -> bool {
    !object["status"]["restoredAfterLoss"].is_null()
}

/// A condition's status and reason.
fn condition<'a>(object: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_)
        .map_or(("", ""), |condition| {
            let text = |key: &str| condition[key].as_str().unwrap_or_default();
            (text("status"), text("reason"))
        })
}

/// What the operator has done about a loss so far.
async fn traces(cluster: &TestCluster) -> Result<Value, String> {
    let status = cluster.object().await["status"].clone();
    let mut traces = vec![status["dataLoss"].clone(), status["clusterUuid"].clone()];
    for kind in ["statefulsets", "jobs", "pvc"] {
        let objects = cluster
            .kubectl
            .list(kind, "quadraft.dev/cluster=books")
            .await
            .map_err(words)?;
        traces.extend(objects.iter().map(|object| {
            let metadata = &object["metadata"];
            json!([metadata["uid"], metadata["labels"]])
        }));
    }
    Ok(Value::Array(traces))
}

/// How often the operator is killed at most: each time another one has to wait for the Lease.
fn most_kills() -> u32 {
    std::env::var("QUADRAFT_OPERATOR_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5)
}

/// Kills the operator after each thing that it does, until the data is back. Gives how often.
async fn kill_the_operator_at_each_step(cluster: &TestCluster) -> Result<u32, String> {
    let until = Instant::now() + 10 * MINUTE;
    let (mut before, mut kills) = (Value::Null, 0);
    while !is_restored(&cluster.object().await) {
        if Instant::now() > until {
            return Err(format!("no data is back after {kills} kills"));
        }
        let now = traces(cluster).await?;
        if now == before || kills >= most_kills() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            kill_operator().await.map_err(words)?;
            (before, kills) = (now, kills + 1);
        }
    }
    println!("the operator was killed {kills} times");
    Ok(kills)
}

async fn delete_volumes(cluster: &TestCluster, slots: std::ops::Range<u32>) -> Result<(), String> {
    for slot in slots.clone() {
        let claim = cluster.claim(slot);
        let arguments = ["delete", "pvc", &claim, "--wait=false"];
        cluster.kubectl.run(&arguments).await.map_err(words)?;
    }
    for slot in slots {
        let pod = cluster.pod(slot);
        let arguments = [
            "delete",
            "pod",
            &pod,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ];
        cluster.kubectl.run(&arguments).await.map_err(words)?;
    }
    Ok(())
}

/// Folder of this machine that holds a claim's data.
async fn volume_path(kubectl: &Kubectl, claim: &str) -> Result<PathBuf, String> {
    let arguments = ["volume-path", kubectl.namespace(), claim];
    tool_output("tests/bed/bed", &arguments)
        .await
        .map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn three_lost_volumes_are_made_good_by_the_newest_backup_that_is_whole() {
    in_namespace("lost", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let books = cluster(&kubectl, 3, "whenDataIsLost: RestoreLatestBackup").await?;
        write(&books, "kept", 0..20).await?;
        back_up(&kubectl, "older").await?;
        write(&books, "damaged", 0..20).await?;
        let newer = back_up(&kubectl, "newer").await?;
        write(&books, "lost", 0..20).await?;
        let uuid = books.object().await["status"]["clusterUuid"].clone();
        let backups = volume_path(&kubectl, "backups").await?;
        flip_a_bit(&backups.join(newer).join("snapshot"), 100).map_err(words)?;

        // The claim of one cannot go, as when the machine that has it does not answer.
        let hold = "{\"metadata\":{\"finalizers\":[\"quadraft.dev/test\"]}}";
        let release = "{\"metadata\":{\"finalizers\":null}}";
        let third = books.claim(2);
        let patch = |patch: &'static str| {
            let (kubectl, third) = (kubectl.clone(), third.clone());
            async move {
                kubectl
                    .run(&["patch", "pvc", &third, "--type=merge", "--patch", patch])
                    .await
                    .map_err(words)
            }
        };
        patch(hold).await?;
        let held = kubectl
            .get("pvc", &third)
            .await
            .map_err(words)?
            .ok_or("no claim")?;
        let held = held["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        delete_volumes(&books, 0..3).await?;
        books
            .wait_object("the volume that is waited for", 3 * MINUTE, |object| {
                let ready = object["status"]["conditions"].to_string();
                condition(object, "Ready") == ("False", "DataLost") && ready.contains(&held)
            })
            .await?;
        if is_restored(&books.object().await) {
            return Err("it was not waited for".to_owned());
        }
        let annotation = format!("quadraft.dev/give-up-volumes={held}");
        kubectl
            .run(&["annotate", "rdfcluster", "books", &annotation])
            .await
            .map_err(words)?;
        let kills = kill_the_operator_at_each_step(&books).await?;
        if kills < 5 {
            return Err(format!("the operator was killed {kills} times only"));
        }
        books.wait_ready(4 * MINUTE).await?;
        patch(release).await?;

        let kept = books.numbers(None, "kept").await?;
        let others =
            books.numbers(None, "damaged").await?.len() + books.numbers(None, "lost").await?.len();
        if kept.len() != 20 || others != 0 {
            return Err(format!(
                "{} of the older backup, {others} others",
                kept.len()
            ));
        }
        let status = books.object().await["status"].clone();
        let marker = &status["restoredAfterLoss"];
        if marker["backup"]["name"] != "older"
            || marker["damagedBackups"] != json!(["newer"])
            || marker["lostClusterUuid"] != uuid
            || status["clusterUuid"] == uuid
            || !status["dataLoss"].is_null()
        {
            return Err(format!("{status}"));
        }
        let label = format!(
            "quadraft.dev/lost-cluster-uuid={}",
            uuid.as_str().unwrap_or_default()
        );
        let claims = kubectl.list("pvc", &label).await.map_err(words)?;
        // Those of the two that came up empty; that of the third is gone since it was let go.
        if claims.len() < 2 {
            return Err(format!("{} claims were kept", claims.len()));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn the_only_volume_that_is_refused_is_exported_before_the_backup_takes_its_place() {
    in_namespace("refused", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let books = cluster(&kubectl, 1, "whenDataIsLost: RestoreLatestBackup").await?;
        write(&books, "kept", 0..10).await?;
        back_up(&kubectl, "first").await?;
        write(&books, "exported", 0..10).await?;
        let object = books.object().await;
        let uuid = object["status"]["clusterUuid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        make_vote_unreadable(&books.volume_path(0).await?).map_err(words)?;
        let arguments = ["delete", "pod", "books-0-0", "--grace-period=0", "--force"];
        kubectl.run(&arguments).await.map_err(words)?;
        books
            .wait_object("the restored data", 6 * MINUTE, is_restored)
            .await?;
        books.wait_ready(3 * MINUTE).await?;
        let counts = (
            books.numbers(None, "kept").await?.len(),
            books.numbers(None, "exported").await?.len(),
        );
        if counts != (10, 0) {
            return Err(format!("{counts:?}"));
        }
        // What was written after the backup is in the export.
        let backups = volume_path(&kubectl, "backups").await?;
        let exports = std::fs::read_dir(backups.join(&uuid))
            .map_err(words)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("export-0-"))
            .map(|entry| std::fs::read_to_string(entry.path().join("manifest.json")))
            .collect::<Result<Vec<String>, _>>()
            .map_err(words)?;
        let quads = exports
            .first()
            .and_then(|manifest| serde_json::from_str::<Value>(manifest).ok())
            .and_then(|manifest| manifest["quads"].as_u64());
        if quads != Some(20) {
            return Err(format!("the export has {quads:?} quads: {exports:?}"));
        }
        // A second loss: the first life's backup is still this cluster's.
        make_vote_unreadable(&volume_path(&kubectl, "data-books-0-0-r1").await?).map_err(words)?;
        kubectl.run(&arguments).await.map_err(words)?;
        books
            .wait_object("a second restore", 6 * MINUTE, |object| {
                object["status"]["volumeGeneration"] == 2
                    && object["status"]["dataLoss"].is_null()
                    && object["status"]["initialised"] == true
            })
            .await?;
        books.wait_ready(3 * MINUTE).await?;
        let kept = books.numbers(None, "kept").await?.len();
        (kept == 10)
            .then_some(())
            .ok_or_else(|| format!("{kept} numbers after the second restore"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn without_a_backup_a_person_decides() {
    in_namespace("nobackup", |kubectl| async move {
        let books = cluster(&kubectl, 1, "whenDataIsLost: RestoreLatestBackup").await?;
        delete_volumes(&books, 0..1).await?;
        books
            .wait_object("Stalled", 3 * MINUTE, |object| {
                condition(object, "Stalled") == ("True", "AllVolumesEmpty")
            })
            .await
            .map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_member_that_cannot_run_anywhere_is_told_of_and_replaced() {
    in_namespace("gone", |kubectl| async move {
        let recovery = "replaceAfterSeconds: 90, backupAfterRecovery: {claimName: backups}";
        let books = cluster(&kubectl, 3, recovery).await?;
        write(&books, "kept", 0..10).await?;
        let slot = (books.leader(3).await? + 1) % 3;
        let old = books.member(slot).await.ok_or("no member")?.node_id;
        // No room for its pod, as on machines that are gone.
        let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata:\n  name: few\nspec:\n  hard:\n    pods: \"2\"\n";
        kubectl.apply(quota).await.map_err(words)?;
        let pod = books.pod(slot);
        let arguments = ["delete", "pod", &pod, "--grace-period=0", "--force"];
        kubectl.run(&arguments).await.map_err(words)?;
        books
            .wait_object("MemberUnreachable", 2 * MINUTE, |object| {
                condition(object, "Degraded") == ("True", "MemberUnreachable")
            })
            .await?;
        books
            .wait_object("the member to leave", 2 * MINUTE, |object| {
                condition(object, "Ready").1 == "ReplacingMember"
            })
            .await?;
        wait_until("its volume to go", 2 * MINUTE, || async {
            let claim = kubectl.get("pvc", &books.claim(slot)).await.ok()?;
            let uid = claim.as_ref().map(|claim| claim["metadata"]["uid"].clone());
            let object = books.object().await;
            let members = object["status"]["members"].as_array().cloned().unwrap_or_default();
            let before = members.iter().find(|member| member["slot"] == slot)?;
            (uid.as_ref() != before.get("volumeUid")).then_some(())
        })
        .await?;
        kubectl.run(&["delete", "resourcequota", "few"]).await.map_err(words)?;
        books.wait_ready(4 * MINUTE).await?;
        let new = books.member(slot).await.ok_or("no member")?.node_id;
        if new == old {
            return Err("it came back under its old identity".to_owned());
        }
        let kept = books.numbers(Some(slot), "kept").await?.len();
        (kept == 10)
            .then_some(())
            .ok_or_else(|| format!("{kept} numbers on the new volume"))
    })
    .await;
}
