//! Clusters on a Kubernetes that others use too: their objects, quotas, drains and mistakes.
//!
//! They need a Kubernetes: `make test-kubernetes` brings one up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod backups;
mod divergence;
mod volumes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, TestCluster, in_namespace, install_release, uninstall_release,
    uses_bed, wait_until,
};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn ready(kubectl: &Kubectl, name: &str, replicas: u32) -> Result<TestCluster, String> {
    let options = ClusterOptions::new(name, replicas);
    let cluster = TestCluster::apply(kubectl, &options).await.map_err(words)?;
    cluster.wait_ready(3 * MINUTE).await?;
    Ok(cluster)
}

/// The status and reason of a condition of an object.
fn condition<'a>(object: &'a Value, type_: &str) -> (&'a str, &'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_);
    let text = |key: &str| {
        found
            .and_then(|found| found[key].as_str())
            .unwrap_or_default()
    };
    (text("status"), text("reason"), text("message"))
}

async fn get(kubectl: &Kubectl, kind: &str, name: &str) -> Result<Value, String> {
    let found = kubectl.get(kind, name).await.map_err(words)?;
    found.ok_or_else(|| format!("there is no {kind} {name}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn what_somebody_else_has_made_is_never_applied_over() {
    in_namespace("taken", |kubectl| async move {
        // The namespace's own ServiceAccount, and the Service of somebody's application.
        kubectl
            .apply(
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: shop\nspec:\n  selector:\n    app: shop\n  \
                 ports:\n  - port: 80\n",
            )
            .await
            .map_err(words)?;
        let account = get(&kubectl, "serviceaccount", "default").await?;
        let service = get(&kubectl, "service", "shop").await?;
        let shop = TestCluster::apply(&kubectl, &ClusterOptions::new("shop", 1))
            .await
            .map_err(words)?;
        let told = shop
            .wait_object("Stalled with NameTaken", MINUTE, |object| {
                let (status, reason, message) = condition(object, "Stalled");
                status == "True" && reason == "NameTaken" && message.contains("Service shop")
            })
            .await?;
        // Whoever waits for this generation has to be told of it.
        if condition(&told, "Ready").0 != "False"
            || told["status"]["observedGeneration"] != told["metadata"]["generation"]
        {
            return Err(format!("it says {}", told["status"]));
        }
        let default = ready(&kubectl, "default", 1).await?;
        kubectl
            .run(&["delete", "rdfcluster", "shop", "default", "--timeout=60s"])
            .await
            .map_err(words)?;
        drop(default);
        for (kind, name, before) in [
            ("serviceaccount", "default", account),
            ("service", "shop", service),
        ] {
            let after = get(&kubectl, kind, name).await?;
            let versions = (
                &before["metadata"]["resourceVersion"],
                &after["metadata"]["resourceVersion"],
            );
            if versions.0 != versions.1 {
                return Err(format!("{kind} {name} was changed to {after}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn clusters_whose_names_look_like_those_of_anothers_services_live_side_by_side() {
    in_namespace("peers", |kubectl| async move {
        let films = ready(&kubectl, "films", 1).await?;
        let peers = ready(&kubectl, "films-peers", 1).await?;
        for cluster in [&films, &peers] {
            cluster.query(None, "ASK {}").await?;
        }
        for (name, why) in [
            ("films-ro", "-any or -ro"),
            ("7films", "begins with a letter"),
        ] {
            let refused = kubectl
                .apply(&ClusterOptions::new(name, 1).manifest())
                .await;
            match refused {
                Err(error) if error.to_string().contains(why) => {}
                other => return Err(format!("{name}: {other:?}")),
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_cluster_that_is_deleted_and_made_again_at_once_comes_up_each_time() {
    in_namespace("again", |kubectl| async move {
        for round in 0..10 {
            let mut manifest = ClusterOptions::new("again", 1).manifest();
            if round % 2 == 0 {
                manifest = manifest.replace(
                    "    size: 1Gi\n",
                    "    size: 1Gi\n    onClusterDeletion: Delete\n",
                );
            }
            kubectl.apply(&manifest).await.map_err(words)?;
            let cluster = TestCluster::attach(&kubectl, "again")
                .await
                .map_err(words)?;
            cluster
                .wait_ready(2 * MINUTE)
                .await
                .map_err(|error| format!("round {round}: {error}"))?;
            kubectl
                .run(&["delete", "rdfcluster", "again", "--wait=false"])
                .await
                .map_err(words)?;
            wait_until("the object to go", MINUTE, || async {
                kubectl
                    .get("rdfcluster", "again")
                    .await
                    .ok()?
                    .is_none()
                    .then_some(())
            })
            .await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_job_that_a_quota_keeps_from_starting_says_so_and_runs_when_there_is_room() {
    in_namespace("quota", |kubectl| async move {
        // No pod comes in without limits, and the bed's network lets pass what a policy forbids.
        kubectl
            .apply(
                "apiVersion: v1\nkind: LimitRange\nmetadata:\n  name: small\nspec:\n  limits:\n  - type: \
                 Container\n    default:\n      cpu: \"1\"\n      memory: 512Mi\n    defaultRequest:\n      cpu: \
                 10m\n      memory: 64Mi\n    max:\n      cpu: \"2\"\n      memory: 2Gi\n---\n\
                 apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: deny\nspec:\n  \
                 podSelector: {}\n  policyTypes: [Ingress, Egress]\n",
            )
            .await
            .map_err(words)?;
        let quota = |pods: u32| {
            format!(
                "apiVersion: v1\nkind: ResourceQuota\nmetadata:\n  name: few\nspec:\n  hard:\n    \
                 pods: \"{pods}\"\n    limits.memory: 4Gi\n    requests.cpu: \"1\"\n"
            )
        };
        kubectl.apply(&quota(5)).await.map_err(words)?;
        let cluster = ready(&kubectl, "books", 1).await?;
        kubectl.apply(&quota(1)).await.map_err(words)?;
        kubectl
            .apply(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
                 [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n---\n\
                 apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: first\nspec:\n  \
                 clusterName: books\n  destination:\n    claimName: backups\n",
            )
            .await
            .map_err(words)?;
        let asked = Instant::now();
        wait_until("the quota to be told of", MINUTE, || async {
            let backup = get(&kubectl, "rdfbackup", "first").await.ok()?;
            let (_, reason, message) = condition(&backup, "Ready");
            (reason == "JobCannotStart" && message.contains("exceeded quota")).then_some(())
        })
        .await?;
        if asked.elapsed() > MINUTE {
            return Err(format!("it took {:?}", asked.elapsed()));
        }
        kubectl.apply(&quota(5)).await.map_err(words)?;
        let backup = wait_until("the backup", 4 * MINUTE, || async {
            let backup = get(&kubectl, "rdfbackup", "first").await.ok()?;
            (backup["status"]["phase"] == "Completed").then_some(backup)
        })
        .await?;
        // The folder says whose it is.
        let location = backup["status"]["location"].as_str().unwrap_or_default().to_owned();
        let uid = backup["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let uuid = cluster.object().await["status"]["clusterUuid"].clone();
        let uuid = uuid.as_str().unwrap_or_default().to_owned();
        if uuid.is_empty() || !location.contains(&uuid) || !location.ends_with(&uid) {
            return Err(format!("{location} names neither {uuid} nor {uid}"));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_backup_of_a_cluster_that_was_made_anew_under_its_name_fails() {
    in_namespace("anew", |kubectl| async move {
        ready(&kubectl, "books", 1).await?;
        kubectl
            .apply(
                "apiVersion: quadraft.dev/v1alpha1\nkind: RdfBackup\nmetadata:\n  name: waits\nspec:\n  \
                 clusterName: books\n  destination:\n    claimName: backups\n",
            )
            .await
            .map_err(words)?;
        wait_until("the backup to know its cluster", MINUTE, || async {
            let backup = get(&kubectl, "rdfbackup", "waits").await.ok()?;
            (condition(&backup, "Ready").1 == "ClaimNotFound").then_some(())
        })
        .await?;
        for arguments in [
            &["delete", "rdfcluster", "books", "--timeout=60s"][..],
            &["delete", "persistentvolumeclaim", "data-books-0-0", "--timeout=60s"],
        ] {
            kubectl.run(arguments).await.map_err(words)?;
        }
        ready(&kubectl, "books", 1).await?;
        kubectl
            .apply(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: backups\nspec:\n  accessModes: \
                 [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n",
            )
            .await
            .map_err(words)?;
        wait_until("the backup to fail", 2 * MINUTE, || async {
            let backup = get(&kubectl, "rdfbackup", "waits").await.ok()?;
            (condition(&backup, "Stalled").1 == "ClusterReplaced").then_some(())
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn evictions_leave_a_majority_and_followers_have_a_service_of_their_own() {
    in_namespace("drain", |kubectl| async move {
        let cluster = ready(&kubectl, "books", 3).await?;
        let budget = || async {
            let budget = get(&kubectl, "poddisruptionbudget", "books-quadraft")
                .await
                .ok()?;
            let allowed = budget["status"]["disruptionsAllowed"].as_u64()?;
            Some((budget["spec"]["minAvailable"].clone(), allowed))
        };
        wait_until("one of three to be allowed to go", MINUTE, || async {
            (budget().await? == (Value::from(2), 1)).then_some(())
        })
        .await?;
        kubectl.evict(&cluster.pod(2)).await.map_err(words)?;
        let second = kubectl.evict(&cluster.pod(1)).await;
        if second.is_ok() {
            return Err("two of three pods could be evicted at once".to_owned());
        }
        cluster.wait_ready(2 * MINUTE).await?;
        let leader = cluster.leader(3).await?;
        let endpoints = wait_until("the followers behind books-ro", MINUTE, || async {
            let slices = kubectl
                .list("endpointslices", "kubernetes.io/service-name=books-ro")
                .await
                .ok()?;
            let names: Vec<String> = slices
                .iter()
                .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .filter_map(|endpoint| Some(endpoint["targetRef"]["name"].as_str()?.to_owned()))
                .collect();
            (names.len() == 2).then_some(names)
        })
        .await?;
        if endpoints.contains(&cluster.pod(leader)) {
            return Err(format!("the leader {leader} is among {endpoints:?}"));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_mistake_in_the_spec_keeps_no_member_from_being_recovered() {
    in_namespace("mistake", |kubectl| async move {
        if !uses_bed().await {
            return Err("volumes can be damaged on the bed only".to_owned());
        }
        let cluster = ready(&kubectl, "books", 3).await?;
        let mistake = "{\"spec\":{\"version\":\"9.9.9\"}}";
        kubectl
            .run(&[
                "patch",
                "rdfcluster",
                "books",
                "--type=merge",
                "--patch",
                mistake,
            ])
            .await
            .map_err(words)?;
        cluster
            .wait_object("Stalled with UnknownVersion", MINUTE, |object| {
                let stalled = condition(object, "Stalled");
                (stalled.0, stalled.1) == ("True", "UnknownVersion")
                    && condition(object, "Available").0 == "True"
            })
            .await?;
        let slot = (cluster.leader(3).await? + 1) % 3;
        for arguments in [
            &["delete", "pvc", &cluster.claim(slot), "--wait=false"][..],
            &[
                "delete",
                "pod",
                &cluster.pod(slot),
                "--grace-period=0",
                "--force",
                "--wait=false",
            ],
        ] {
            kubectl.run(arguments).await.map_err(words)?;
        }
        // All voters healthy again, though the spec is still wrong.
        cluster
            .wait_object("the member's return", 4 * MINUTE, |object| {
                let members = object["status"]["members"].as_array();
                let serve = members
                    .into_iter()
                    .flatten()
                    .filter(|member| member["ready"] == true && member["voter"] == true);
                serve.count() == 3 && condition(object, "Degraded").0 == "False"
            })
            .await?;
        let right = "{\"spec\":{\"version\":\"0.1.0\"}}";
        kubectl
            .run(&[
                "patch",
                "rdfcluster",
                "books",
                "--type=merge",
                "--patch",
                right,
            ])
            .await
            .map_err(words)?;
        cluster.wait_ready(2 * MINUTE).await
    })
    .await;
}

/// Clients that make a connection for each request, and what they were answered.
struct Visitors {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(u64, Vec<String>)>>,
}

impl Visitors {
    fn start(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..4)
            .map(|number| tokio::spawn(visit(address.to_owned(), number, stop.clone())))
            .collect();
        Self { stop, tasks }
    }

    /// How many requests were answered, and what went wrong with others.
    async fn finish(self) -> Result<(u64, Vec<String>), String> {
        self.stop.store(true, Ordering::SeqCst);
        let (mut answered, mut failed) = (0, Vec::new());
        for task in self.tasks {
            let (count, errors) = task.await.map_err(words)?;
            answered += count;
            failed.extend(errors);
        }
        Ok((answered, failed))
    }
}

async fn visit(address: String, number: u32, stop: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    let started = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let request = if number == 0 {
            client
                .post(format!("http://{address}/update"))
                .header("content-type", "application/sparql-update")
                .body(format!("INSERT DATA {{ <u:visit> <u:number> {answered} }}"))
        } else {
            client
                .post(format!("http://{address}/query"))
                .header("content-type", "application/sparql-query")
                .body("ASK { ?s ?p ?o }")
        };
        match request.send().await {
            Ok(answer) if answer.status().is_success() => answered += 1,
            Ok(answer) => failed.push(format!(
                "{:.1} s: {} {}",
                started.elapsed().as_secs_f64(),
                answer.status(),
                answer.text().await.unwrap_or_default()
            )),
            Err(error) => failed.push(format!(
                "{:.1} s: {error:?}",
                started.elapsed().as_secs_f64()
            )),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn restarts_and_evictions_show_no_error_to_clients() {
    in_namespace("visitors", |kubectl| async move {
        if !uses_bed().await {
            return Err("the Service is reached from here on the bed only".to_owned());
        }
        let cluster = ready(&kubectl, "books", 3).await?;
        let visitors = Visitors::start(&cluster.service_address().await?);
        let leader = cluster.pod(cluster.leader(3).await?);
        kubectl.evict(&leader).await.map_err(words)?;
        // Until it is noticed that one went, the cluster may still be called Ready.
        cluster
            .wait_object("the member's absence", MINUTE, |object| {
                condition(object, "Ready").0 == "False"
            })
            .await?;
        cluster.wait_ready(2 * MINUTE).await?;
        let option = "{\"spec\":{\"node\":{\"queryTimeoutMs\":12345}}}";
        let arguments = [
            "patch",
            "rdfcluster",
            "books",
            "--type=merge",
            "--patch",
            option,
        ];
        kubectl.run(&arguments).await.map_err(words)?;
        cluster
            .wait_object("the restarts", 3 * MINUTE, |object| {
                condition(object, "Ready").0 == "True"
                    && object["status"]["observedGeneration"] == object["metadata"]["generation"]
            })
            .await?;
        let (answered, failed) = visitors.finish().await?;
        if answered < 1000 || !failed.is_empty() {
            return Err(format!(
                "{answered} answered, {} failed: {failed:?}",
                failed.len()
            ));
        }
        Ok(())
    })
    .await;
}

/// The operators that have said of an object that another one acts.
async fn who_stands_back(kubectl: &Kubectl, name: &str) -> Vec<String> {
    let events = kubectl.list("events.events.k8s.io", "").await;
    events
        .unwrap_or_default()
        .iter()
        .filter(|event| event["reason"] == "ManagedByAnother" && event["regarding"]["name"] == name)
        .filter_map(|event| Some(event["note"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn of_two_operators_that_watch_a_namespace_one_acts_and_the_other_says_so() {
    const RELEASE: &str = "second";
    in_namespace("second", |kubectl| async move {
        let namespace = kubectl.namespace().to_owned();
        let watches = format!("watchNamespaces={{{namespace}}}");
        let values = [
            watches.as_str(),
            "crds.create=false",
            "fullnameOverride=second",
        ];
        install_release(RELEASE, &namespace, &values).await?;
        let outcome = async {
            let cluster = ready(&kubectl, "books", 3).await?;
            let notes = wait_until("one to stand back", 2 * MINUTE, || async {
                let notes = who_stands_back(&kubectl, "books").await;
                (!notes.is_empty()).then_some(notes)
            })
            .await?;
            let lease = get(&kubectl, "lease", "quadraft-operator-territory").await?;
            let holder = lease["spec"]["holderIdentity"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            // Whoever stands back names the one that acts.
            if !notes
                .iter()
                .all(|note| note.contains(&format!("the operator {holder} acts")))
            {
                return Err(format!("{holder} acts: {notes:?}"));
            }
            // Two that fought would write the same objects in turn, and restart pods.
            let sets = || async {
                let sets = kubectl
                    .list("statefulsets", "quadraft.dev/cluster=books")
                    .await
                    .map_err(words)?;
                let versions: Vec<Value> = sets
                    .iter()
                    .map(|set| set["metadata"]["generation"].clone())
                    .collect();
                Ok::<_, String>(versions)
            };
            let pods = || async {
                let pods = kubectl
                    .list("pods", "quadraft.dev/cluster=books")
                    .await
                    .map_err(words)?;
                let uids: Vec<Value> = pods
                    .iter()
                    .map(|pod| pod["metadata"]["uid"].clone())
                    .collect();
                Ok::<_, String>(uids)
            };
            let before = (sets().await?, pods().await?);
            let patch = "{\"metadata\":{\"annotations\":{\"looked\":\"at\"}}}";
            for _ in 0..10 {
                kubectl
                    .run(&[
                        "patch",
                        "rdfcluster",
                        "books",
                        "--type=merge",
                        "--patch",
                        patch,
                    ])
                    .await
                    .map_err(words)?;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            let after = (sets().await?, pods().await?);
            if before != after {
                return Err(format!("{before:?} became {after:?}"));
            }
            cluster.wait_ready(MINUTE).await
        }
        .await;
        uninstall_release(RELEASE, &namespace).await?;
        outcome
    })
    .await;
}
