//! What becomes of backups and restores in a namespace that others use too.

use std::path::PathBuf;
use std::time::Duration;

use quadraft_tests::kubernetes::{
    Kubectl, KubectlError, TestCluster, in_namespace, tool_output, uses_bed, wait_until,
};
use serde_json::Value;

use super::{MINUTE, condition, get, ready, words};

fn claim(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: {name}\nspec:\n  accessModes: \
         [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n"
    )
}

fn backup(name: &str) -> String {
    format!(
        "apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: {name}\nspec:\n  \
         clusterName: books\n  destination:\n    claimName: backups\n---\n"
    )
}

/// A backup each minute, and one at once.
fn schedule(name: &str, claim: &str) -> String {
    format!(
        "apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackupSchedule\nmetadata:\n  name: {name}\nspec:\n  \
         clusterName: books\n  schedule: \"* * * * *\"\n  immediate: true\n  keep: 1\n  \
         deletionPolicy: Delete\n  destination:\n    claimName: {claim}\n---\n"
    )
}

/// The completed backups of a schedule: their names, and their folders below the claim's.
async fn completed(
    kubectl: &Kubectl,
    schedule: &str,
) -> Result<Vec<(String, String)>, KubectlError> {
    let selector = format!("quadraft.dev/schedule={schedule}");
    let found = kubectl.list("rdfbackups", &selector).await?;
    let places = found.iter().filter_map(|backup| {
        let name = backup["metadata"]["name"].as_str()?.to_owned();
        let location = backup["status"]["location"].as_str()?;
        let folder = location.strip_prefix("file:///backup/")?.to_owned();
        (backup["status"]["phase"] == "Completed").then_some((name, folder))
    });
    Ok(places.collect())
}

async fn folder_of(kubectl: &Kubectl, claim: &str) -> Result<PathBuf, String> {
    let arguments = ["volume-path", kubectl.namespace(), claim];
    tool_output("tests/bed/bed", &arguments)
        .await
        .map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_schedule_deletes_the_data_of_old_backups_and_says_when_new_ones_are_overdue() {
    in_namespace("schedules", |kubectl| async move {
        if !uses_bed().await {
            return Err("what is in a claim is seen on the bed only".to_owned());
        }
        ready(&kubectl, "books", 1).await?;
        let manifest =
            claim("backups") + &schedule("kept", "backups") + &schedule("stuck", "later");
        kubectl.apply(&manifest).await.map_err(words)?;
        let first = wait_until("a backup at once", MINUTE, async || {
            completed(&kubectl, "kept").await.ok()?.pop()
        })
        .await?;
        // What somebody else keeps beside it.
        let claim_folder = folder_of(&kubectl, "backups").await?;
        let data = claim_folder.join(&first.1);
        let foreign = data.parent().ok_or("it has no folder")?.join("notes.txt");
        std::fs::write(&foreign, "mine").map_err(words)?;
        if !data.join("snapshot").exists() {
            return Err(format!("{} has no data", data.display()));
        }
        wait_until(
            "the first to give way to the second",
            3 * MINUTE,
            async || {
                let kept = completed(&kubectl, "kept").await.ok()?;
                let gone = kept.iter().all(|(name, _)| *name != first.0);
                (gone && !kept.is_empty() && !data.exists()).then_some(())
            },
        )
        .await?;
        if !foreign.exists() {
            return Err("what somebody else had put there is gone".to_owned());
        }
        wait_until("the other schedule to be overdue", 4 * MINUTE, async || {
            let stuck = get(&kubectl, "rdfbackupschedule", "stuck").await.ok()?;
            (condition(&stuck, "Ready").1 == "BackupOverdue").then_some(())
        })
        .await?;
        let kept = get(&kubectl, "rdfbackupschedule", "kept").await?;
        if condition(&kept, "Ready").0 != "True" {
            return Err(format!("{}", kept["status"]));
        }
        // What cannot begin is not in the way of what can.
        kubectl.apply(&claim("later")).await.map_err(words)?;
        wait_until("backups as scheduled", 3 * MINUTE, async || {
            let stuck = get(&kubectl, "rdfbackupschedule", "stuck").await.ok()?;
            (condition(&stuck, "Ready").0 == "True").then_some(())
        })
        .await?;
        // As a tool does that has an application of the cluster's name, and prunes what is labelled so.
        let prune = [
            "delete",
            "rdfbackups,persistentvolumeclaims",
            "--selector=app.kubernetes.io/instance=books",
        ];
        let pruned = kubectl.run(&prune).await.map_err(words)?;
        if pruned.contains("deleted") {
            return Err(pruned);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_restored_cluster_that_somebody_deletes_stays_deleted() {
    in_namespace("restored", |kubectl| async move {
        ready(&kubectl, "books", 1).await?;
        let manifest = claim("backups") + &backup("first");
        kubectl.apply(&manifest).await.map_err(words)?;
        let restore = "apiVersion: quadraft.dev/v1alpha1\nkind: RdfRestore\nmetadata:\n  name: again\nspec:\n  \
                       source:\n    backupName: first\n  cluster:\n    name: copy\n    spec:\n      replicas: 1\n      \
                       version: 0.1.0\n      storage:\n        size: 1Gi\n";
        wait_until("the backup", 2 * MINUTE, async || {
            let backup = get(&kubectl, "rdfbackup", "first").await.ok()?;
            (backup["status"]["phase"] == "Completed").then_some(())
        })
        .await?;
        kubectl.apply(restore).await.map_err(words)?;
        wait_until("the cluster to be made", 2 * MINUTE, async || {
            get(&kubectl, "rdfcluster", "copy").await.ok()
        })
        .await?;
        // In the middle of it.
        kubectl
            .run(&["delete", "rdfcluster", "copy", "--timeout=60s"])
            .await
            .map_err(words)?;
        wait_until("the restore to say so", MINUTE, async || {
            let restore = get(&kubectl, "rdfrestore", "again").await.ok()?;
            (condition(&restore, "Stalled").1 == "ClusterDeleted").then_some(())
        })
        .await?;
        let look = ["annotate", "rdfrestore", "again", "looked=at"];
        kubectl.run(&look).await.map_err(words)?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        match get(&kubectl, "rdfcluster", "copy").await {
            Err(_) => Ok(()),
            Ok(cluster) => Err(format!("it is there again: {cluster}")),
        }
    })
    .await;
}

/// Puts a container before those of each pod that is made in a namespace, as meshes do.
fn sidecars(namespace: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata:
  name: {namespace}
spec:
  matchConstraints:
    resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      operations: [CREATE]
      resources: [pods]
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{{op: "add", path: "/spec/containers/0", value: Object.spec.containers{{
          name: "proxy",
          image: "quadraft.dev/bed/pause:1",
          securityContext: Object.spec.containers.securityContext{{
            allowPrivilegeEscalation: false,
            runAsNonRoot: true,
            capabilities: Object.spec.containers.securityContext.capabilities{{drop: ["ALL"]}},
            seccompProfile: Object.spec.containers.securityContext.seccompProfile{{type: "RuntimeDefault"}}
          }}
        }}}}]
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {namespace}
spec:
  policyName: {namespace}
  matchResources:
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {namespace}
"#
    )
}

async fn with_sidecars(kubectl: &Kubectl) -> Result<(), String> {
    // A policy counts a moment after it was made.
    wait_until("pods with two containers", MINUTE, async || {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: probe\nspec:\n  securityContext:\n    \
                   runAsNonRoot: true\n    seccompProfile:\n      type: RuntimeDefault\n  containers:\n  - name: \
                   own\n    image: quadraft-node:0.1.0\n    securityContext:\n      allowPrivilegeEscalation: \
                   false\n      capabilities:\n        drop: [ALL]\n";
        let dry = ["create", "--dry-run=server", "--output=json", "--filename=-"];
        let made = kubectl.run_with_input(&dry, pod).await.ok()?;
        let made: Value = serde_json::from_str(&made).ok()?;
        (made["spec"]["containers"].as_array()?.len() == 2).then_some(())
    })
    .await?;
    let cluster: TestCluster = ready(kubectl, "books", 1).await?;
    let update = "INSERT DATA { <u:a> <u:b> 1, 2, 3 }";
    let answer = cluster
        .post(0, "/update", "application/sparql-update", update.into())
        .await?;
    if answer.status() != 204 {
        return Err(format!("the write was answered with {}", answer.status()));
    }
    let manifest = claim("backups") + &backup("first");
    kubectl.apply(&manifest).await.map_err(words)?;
    let backup = wait_until("the backup", 2 * MINUTE, async || {
        let backup = get(kubectl, "rdfbackup", "first").await.ok()?;
        (backup["status"]["phase"] == "Completed").then_some(backup)
    })
    .await?;
    let digest = cluster.agree(1, MINUTE).await?[0].digest.clone();
    if backup["status"]["digest"] != digest.as_str() || backup["status"]["quads"] != 3 {
        return Err(format!("{digest} is not that of {}", backup["status"]));
    }
    // What stands beside it would never end.
    wait_until("the Job's pod to end", 2 * MINUTE, async || {
        let pods = kubectl
            .list("pods", "app.kubernetes.io/component=backup")
            .await;
        let ended = |pod: &Value| pod["status"]["phase"] != "Running";
        pods.ok()?.iter().all(ended).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn containers_that_others_put_into_pods_hide_no_result_and_keep_no_job() {
    in_namespace("sidecars", |kubectl| async move {
        let kinds = kubectl.run(&["api-resources", "--output=name"]).await;
        let policy = "mutatingadmissionpolicies.admissionregistration.k8s.io";
        if !uses_bed().await || !kinds.map_err(words)?.contains(policy) {
            println!("NOT TRIED: injected containers, because this Kubernetes has no {policy} or no image that \
                 does nothing");
            return Ok(());
        }
        let policies = sidecars(kubectl.namespace());
        kubectl.apply(&policies).await.map_err(words)?;
        let outcome = with_sidecars(&kubectl).await;
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            let delete = ["delete", kind, kubectl.namespace()];
            kubectl.run(&delete).await.map_err(words)?;
        }
        outcome
    })
    .await;
}
