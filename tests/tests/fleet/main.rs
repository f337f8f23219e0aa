//! Many clusters, and what they cost the operator and the API server. Machines and nodes are simulated;
//! everything else is as it is: the objects, the scheduler, endpoints, names and the operator's pod.
//! `QUADRAFT_FLEET_CLUSTERS` says how many (200 unless set).

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod kubelet;
mod nodes;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kube::Client;
use quadraft_tests::kubernetes::{Kubectl, in_namespace, tool_output, uses_bed, wait_until};

use kubelet::MACHINE_LABEL;
use nodes::Nodes;

const MINUTE: Duration = Duration::from_secs(60);
/// The machine that runs this, as pods on the bed reach it.
const ADDRESS: [u8; 4] = [10, 244, 255, 1];
/// What is measured goes on for so long.
const MEASURED: Duration = Duration::from_secs(120);
/// Requests of the operator in a minute and cluster.
const MOST_IDLE: f64 = 20.0;
const MOST_BUSY: f64 = 60.0;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn count() -> usize {
    std::env::var("QUADRAFT_FLEET_CLUSTERS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200)
}

fn volumes(count: usize) -> String {
    let mut manifest =
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: simulated\n\
                        provisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: Immediate\n"
            .to_owned();
    for number in 0..count {
        let _ = write!(
            manifest,
            "---\napiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: simulated-{number}\nspec:\n  capacity:\n    \
             storage: 1Gi\n  accessModes: [ReadWriteOnce]\n  storageClassName: simulated\n  hostPath:\n    path: \
             /nowhere/{number}\n"
        );
    }
    manifest
}

fn clusters(numbers: std::ops::Range<usize>) -> String {
    let mut manifest = String::new();
    for number in numbers {
        let _ = write!(
            manifest,
            "---\napiVersion: quadraft.dev/v1alpha1\nkind: RdfCluster\nmetadata:\n  name: fleet-{number}\nspec:\n  replicas: \
             1\n  version: 0.1.0\n  storage:\n    size: 1Gi\n    storageClassName: simulated\n  scheduling:\n    \
             nodeSelector:\n      {MACHINE_LABEL}: \"true\"\n"
        );
    }
    manifest
}

/// The operator's process.
struct Operator {
    process: String,
    metrics: String,
}

/// What the operator has used since it began.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Instant,
    processor_seconds: f64,
    requests: f64,
}

impl Operator {
    async fn find() -> Result<Self, String> {
        let kubectl = Kubectl::new("quadraft-system");
        let pods = kubectl
            .list("pods", "app.kubernetes.io/name=quadraft-operator")
            .await
            .map_err(words)?;
        let pod = pods.first().ok_or("no operator runs")?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let arguments = ["process", "quadraft-system", name, "operator"];
        Ok(Self {
            process: tool_output("tests/bed/bed", &arguments).await?,
            metrics: format!(
                "http://{}:8080/metrics",
                pod["status"]["podIP"].as_str().unwrap_or_default()
            ),
        })
    }

    async fn used(&self) -> Result<Used, String> {
        let path = format!("/proc/{}/stat", self.process);
        let stat = std::fs::read_to_string(path).map_err(words)?;
        // Behind the name in brackets: fields 14 and 15 are the times, in hundredths of a second.
        let fields = stat.rsplit_once(") ").ok_or("no fields")?.1;
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let metrics = reqwest::get(&self.metrics).await.map_err(words)?;
        let metrics = metrics.text().await.map_err(words)?;
        let requests = metrics
            .lines()
            .filter(|line| line.starts_with("quadraft_operator_api_requests_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        Ok(Used {
            at: Instant::now(),
            processor_seconds: ticks / 100.0,
            requests,
        })
    }

    fn memory_mib(&self, field: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.process);
        let status = std::fs::read_to_string(path).map_err(words)?;
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| format!("no {field}"))? / 1024)
    }

    /// Measures for a while, prints a row, and gives the requests in a minute and cluster.
    async fn measure(&self, what: &str, clusters: usize) -> Result<f64, String> {
        let before = self.used().await?;
        tokio::time::sleep(MEASURED).await;
        let after = self.used().await?;
        let minutes = after.at.duration_since(before.at).as_secs_f64() / 60.0;
        #[allow(clippy::cast_precision_loss)]
        let each = (after.requests - before.requests) / minutes / clusters as f64;
        println!(
            "| {what} | {:.1} % | {:.0} | {each:.2} | {} MiB | {} MiB |",
            (after.processor_seconds - before.processor_seconds) / minutes / 60.0 * 100.0,
            (after.requests - before.requests) / minutes,
            self.memory_mib("VmRSS")?,
            self.memory_mib("VmHWM")?,
        );
        Ok(each)
    }
}

async fn ready_clusters(kubectl: &Kubectl) -> Option<usize> {
    let path = format!(
        "/apis/quadraft.dev/v1alpha1/namespaces/{}/rdfclusters",
        kubectl.namespace()
    );
    let text = kubectl.run(&["get", "--raw", &path]).await.ok()?;
    let list: serde_json::Value = serde_json::from_str(&text).ok()?;
    let is_ready = |cluster: &&serde_json::Value| {
        let conditions = cluster["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    Some(list["items"].as_array()?.iter().filter(is_ready).count())
}

async fn measure(kubectl: &Kubectl, nodes: &Nodes) -> Result<(), String> {
    let count = count();
    kubectl.apply(&volumes(count)).await.map_err(words)?;
    let started = Instant::now();
    for first in (0..count).step_by(50) {
        let batch = clusters(first..count.min(first + 50));
        kubectl.apply(&batch).await.map_err(words)?;
    }
    wait_until("all clusters to be Ready", 15 * MINUTE, || async {
        let ready = ready_clusters(kubectl).await?;
        eprintln!(
            "{ready} of {count} clusters are Ready after {:.0} s",
            started.elapsed().as_secs_f64()
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        (ready == count).then_some(())
    })
    .await?;
    println!(
        "{count} clusters are Ready after {:.0} s\n",
        started.elapsed().as_secs_f64()
    );
    println!("| | processor | requests a minute | of each cluster | memory | at most |");
    println!("|---|---:|---:|---:|---:|---:|");
    let operator = Operator::find().await?;
    let idle = operator.measure("idle", count).await?;
    nodes.be_busy(true);
    let busy = operator
        .measure("20 writes a second in each", count)
        .await?;
    nodes.be_busy(false);
    if idle > MOST_IDLE || busy > MOST_BUSY {
        return Err(format!(
            "{idle:.1} requests idle and {busy:.1} busy are too many"
        ));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make bench-operator"]
async fn many_clusters_cost_the_operator_little() {
    in_namespace("fleet", |kubectl| async move {
        if !uses_bed().await {
            return Err("machines are simulated on the bed only".to_owned());
        }
        let client = Client::try_default().await.map_err(words)?;
        let nodes = Nodes::serve(ADDRESS.into()).await?;
        kubelet::make_machine(&client).await?;
        let address = std::net::Ipv4Addr::from(ADDRESS).to_string();
        let running = tokio::spawn(kubelet::run(client.clone(), nodes.clone(), address));
        let outcome = measure(&kubectl, &nodes).await;
        // The pods have to end before the machine does.
        let deleted = kubectl
            .run(&["delete", "rdfclusters", "--all", "--timeout=300s"])
            .await;
        let gone = wait_until("the pods to go", 5 * MINUTE, || async {
            let pods = kubectl.list("pods", "").await.ok()?;
            pods.is_empty().then_some(())
        })
        .await;
        running.abort();
        kubelet::remove_machine(&client).await;
        for arguments in [
            &["delete", "pvc", "--all", "--timeout=300s"][..],
            &["delete", "pv", "--all", "--timeout=300s"],
            &["delete", "storageclass", "simulated"],
        ] {
            kubectl.run(arguments).await.map_err(words)?;
        }
        outcome?;
        deleted.map_err(words)?;
        gone
    })
    .await;
}
