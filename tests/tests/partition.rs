//! A leader that is cut off from its peers, while clients still reach it: nobody is told something
//! stale, and nobody waits long. `QUADRAFT_PARTITION_SECONDS` says for how long (8 unless set).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::time::{Duration, Instant};

use quadraft_protocol::v1;
use quadraft_tests::local::{HostNetwork, LocalNode, initialise};
use quadraft_tests::partition::{Endpoint, PartitionClients, check, partition_seconds};
use serde_json::Value;

const CLUSTER: &str = "0c6e3f0e-8d6e-4a3c-9a43-5d8cf6a86f55";
const MINUTE: Duration = Duration::from_secs(60);

async fn leader(nodes: &[LocalNode], other_than: Option<usize>) -> usize {
    let until = Instant::now() + MINUTE;
    loop {
        for (index, node) in nodes.iter().enumerate() {
            if Some(index) != other_than
                && node
                    .status()
                    .await
                    .is_some_and(|status| status.role() == v1::Role::Leader)
            {
                return index;
            }
        }
        assert!(Instant::now() < until, "no leader");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a member says of itself to clients: the peer port is cut off.
async fn http_status(node: &LocalNode) -> Value {
    let answer = reqwest::get(node.url("/status")).await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

async fn is_ready(node: &LocalNode) -> bool {
    let answer = reqwest::get(node.url("/readyz")).await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

/// How long it takes until the condition holds.
async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < MINUTE, "{what} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_cut_off_says_nothing_stale_and_lets_nobody_wait() {
    let Some(network) = HostNetwork::new(3).unwrap() else {
        println!("skipped: QUADRAFT_WITHOUT_NAMESPACES is set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for host in 0..3 {
        let data = folder.path().join(format!("node-{host}"));
        let mut node = LocalNode::new(data, 7878, &["--cluster-uuid", CLUSTER])
            .on_host(network.namespace(host), network.address(host));
        node.start().unwrap();
        nodes.push(node);
    }
    initialise(&nodes, CLUSTER).await.unwrap();
    for node in &nodes {
        node.wait_ready().await.unwrap();
    }
    let first = leader(&nodes, None).await;

    let endpoints: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| Endpoint {
            name: if index == first {
                "the first leader".to_owned()
            } else {
                format!("member {index}")
            },
            url: node.url(""),
        })
        .collect();
    let clients = PartitionClients::start(&endpoints);
    clients.each_gets_answers().await.unwrap();

    network.cut_off(first).unwrap();
    let cut = Instant::now();
    let second = leader(&nodes, Some(first)).await;
    println!("another leader after {:?}", cut.elapsed());
    let stepped_down = until("stepping down", async || {
        let status = http_status(&nodes[first]).await;
        status["role"] != "leader" && status["ready"] == false
    })
    .await;
    println!("the first is not ready any more after {stepped_down:?} more");
    while cut.elapsed() < Duration::from_secs(partition_seconds()) {
        assert!(!is_ready(&nodes[first]).await, "ready while cut off");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until("the others being ready", async || {
        is_ready(&nodes[second]).await
    })
    .await;
    let oldest = clients.oldest(&endpoints[first]);
    assert!(
        oldest + Duration::from_secs(2) > cut.elapsed(),
        "the age of a stale read at the first was {oldest:?} at most"
    );
    network.reconnect(first).unwrap();
    let again = until("being ready again", async || is_ready(&nodes[first]).await).await;
    println!("ready again {again:?} after the end of the cut");
    clients.each_gets_answers().await.unwrap();
    let reports = clients.finish().await.unwrap();
    for report in &reports {
        println!("{report}");
    }
    let others: Vec<_> = endpoints
        .iter()
        .filter(|endpoint| endpoint.name != endpoints[first].name)
        .collect();
    check(&reports, &others).unwrap();
}
