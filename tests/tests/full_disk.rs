//! Real nodes on a disk that runs full, is still full when they are started again, and gets space.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::time::{Duration, Instant};

use quadraft_protocol::v1;
use quadraft_tests::local::{
    LocalNode, SmallDisk, free_ports, initialise, run_node, run_node_with,
};
use quadraft_tests::object_store::{ObjectStore, SlowLine};
use serde_json::Value;

const CLUSTER: &str = "2f7c1d1e-5a0b-4f0e-8a55-0d8f7a9f6b11";
const DISK_BYTES: u64 = 160 * 1024 * 1024;
const ARGUMENTS: [&str; 10] = [
    "--cluster-uuid",
    CLUSTER,
    "--election-timeout-ms",
    "600",
    "--heartbeat-interval-ms",
    "100",
    "--segment-bytes",
    "1048576",
    "--disk-reserve-bytes",
    "16777216",
];
const MINUTE: Duration = Duration::from_secs(60);

async fn update(node: &LocalNode, number: u64) -> reqwest::Response {
    reqwest::Client::new()
        .post(node.url("/update"))
        .header("content-type", "application/sparql-update")
        .body(format!(
            "INSERT DATA {{ <urn:test:full> <urn:test:wrote> {number} }}"
        ))
        .send()
        .await
        .unwrap()
}

/// Writes until it is acknowledged.
async fn write(node: &LocalNode, number: u64) {
    let until = Instant::now() + MINUTE;
    loop {
        let answer = update(node, number).await;
        if answer.status() == 204 {
            return;
        }
        let text = answer.text().await.unwrap();
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The write is refused, and the answer says why and when to try again.
async fn assert_refused(node: &LocalNode) {
    let answer = update(node, 999).await;
    assert_eq!(answer.status(), 507);
    assert!(answer.headers().contains_key("retry-after"));
    let document: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(document["error"], "disk_full", "{document}");
}

async fn wait_short(nodes: &[LocalNode], short: bool) {
    for node in nodes {
        node.wait_for("as full as expected", MINUTE, |status| {
            status.ready && status.disk_is_short == short
        })
        .await
        .unwrap();
    }
}

/// Nodes on one small disk; `None` where nothing can be mounted.
async fn start(count: usize) -> Option<(Vec<LocalNode>, SmallDisk, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), DISK_BYTES).unwrap() else {
        println!("NOT TRIED: full disks, because nothing can be mounted here");
        return None;
    };
    let mut nodes = Vec::new();
    for (number, port) in free_ports(count).into_iter().enumerate() {
        let data = disk.path().join(format!("volume-{number}"));
        let mut node = LocalNode::new(data, port, &ARGUMENTS);
        node.log_to(folder.path().join(format!("node-{number}.log")));
        node.start().unwrap();
        nodes.push(node);
    }
    initialise(&nodes, CLUSTER).await.unwrap();
    wait_short(&nodes, false).await;
    Some((nodes, disk, folder))
}

/// Everything that a full disk must not do to `count` nodes.
async fn survive(count: usize) {
    let Some((mut nodes, disk, _folder)) = start(count).await else {
        return;
    };
    for number in 0..20 {
        write(&nodes[0], number).await;
    }
    let data = nodes[0].data.clone();
    let until = Instant::now() + MINUTE;
    while !data.join("reserve").exists() {
        assert!(Instant::now() < until, "no space is kept for a start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for round in 0..2 {
        println!("filled with {} bytes", disk.fill().unwrap());
        wait_short(&nodes, true).await;
        for node in &nodes {
            assert_refused(node).await;
            assert_eq!(node.numbers("full").await.unwrap().len(), 20 + round);
        }
        // Killed and started on the full disk, more than once.
        for boot in 0..2 {
            for node in &mut nodes {
                node.kill().await.unwrap();
                node.start().unwrap();
            }
            wait_short(&nodes, true).await;
            for node in &nodes {
                assert_refused(node).await;
                assert_eq!(node.numbers("full").await.unwrap().len(), 20 + round);
                let status = node.status().await.unwrap();
                let starts = 1 + 2 * round as u64 + boot + 1;
                assert_eq!(status.boot_count, starts, "started once");
            }
        }
        disk.free().unwrap();
        wait_short(&nodes, false).await;
        write(&nodes[0], 20 + round as u64).await;
        for node in &mut nodes {
            assert_eq!(node.has_ended().unwrap(), None);
        }
    }
    let leader = nodes[0].status().await.unwrap().leader_node_id;
    assert_ne!(leader, 0);
    let applied = |status: &v1::StatusResponse| status.applied.map(|id| id.index);
    let wanted = applied(&nodes[0].status().await.unwrap());
    let mut digests = Vec::new();
    for node in &nodes {
        let caught_up = node
            .wait_for("caught up", MINUTE, |status| applied(status) >= wanted)
            .await
            .unwrap();
        digests.push(caught_up.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    for node in &mut nodes {
        node.kill().await.unwrap();
        let data = node.data.to_str().unwrap().to_owned();
        let verified = run_node(&["verify", "--data", &data]).await.unwrap();
        assert_eq!(verified.exit_code, Some(0), "{}", verified.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_on_a_full_disk_serves_reads_and_goes_on_with_space() {
    survive(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_on_full_disks_refuse_writes_wherever_they_enter() {
    survive(3).await;
}

/// Writes half a megabyte that nothing compresses.
async fn write_large(node: &LocalNode, number: u32) {
    let text: String = (0..32 * 1024)
        .map(|_| format!("{:016x}", rand::random::<u64>()))
        .collect();
    let update = format!("INSERT DATA {{ <u:a> <u:large> \"{number}{text}\" }}");
    let answer = reqwest::Client::new()
        .post(node.url("/update"))
        .header("content-type", "application/sparql-update")
        .body(update)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_no_room_on_the_volume() {
    let Some((nodes, disk, folder)) = start(1).await else {
        return;
    };
    let node = &nodes[0];
    // Four megabytes: more than will be left.
    for number in 0..8 {
        write_large(node, number).await;
    }
    disk.fill().unwrap();
    wait_short(&nodes, true).await;
    let url = format!("file://{}/backup", folder.path().display());
    let peer = node.peer_address();
    let backup = run_node(&["backup", "--from", &peer, "--to", &url])
        .await
        .unwrap();
    assert_eq!(backup.exit_code, Some(0), "{}", backup.log);
    assert!(
        backup.report["bytes"].as_u64().unwrap() > 4 << 20,
        "{}",
        backup.report
    );
    assert_eq!(backup.report["digest"], node.status().await.unwrap().digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_to_a_slow_store_takes_no_room_of_a_volume_that_is_mostly_full() {
    const BYTES_PER_SECOND: u32 = 2 << 20;
    let Some((nodes, disk, folder)) = start(1).await else {
        return;
    };
    let node = &nodes[0];
    let mut large = 0;
    while disk.used_bytes().unwrap() < DISK_BYTES / 10 * 7 {
        write_large(node, large).await;
        large += 1;
    }
    let bucket = folder.path().join("objects");
    std::fs::create_dir(&bucket).unwrap();
    let store = ObjectStore::start(&bucket, [127, 0, 0, 1].into(), "key", "secret")
        .await
        .unwrap();
    store.make_bucket("backups").unwrap();
    let line = SlowLine::to(store.address(), BYTES_PER_SECOND)
        .await
        .unwrap();
    let endpoint = format!("http://{}", line.address());
    let environment = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let peer = node.peer_address();
    let url = "s3://backups/slow";
    let before = disk.used_bytes().unwrap();
    let begun = Instant::now();
    let arguments = ["backup", "--from", &peer, "--to", url];
    let backup = run_node_with(&arguments, &environment);
    tokio::pin!(backup);
    // Clients go on meanwhile.
    let (mut number, mut most) = (0, before);
    let backup = loop {
        tokio::select! {
            ended = &mut backup => break ended.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        assert_eq!(update(node, number).await.status(), 204);
        number += 1;
        most = most.max(disk.used_bytes().unwrap());
    };
    let took = begun.elapsed();
    assert_eq!(backup.exit_code, Some(0), "{}", backup.log);
    let bytes = backup.report["bytes"].as_u64().unwrap();
    let grown = most - before;
    println!(
        "{bytes} bytes from a disk of which {before} of {DISK_BYTES} were taken in {took:?}; it grew by \
         {grown} bytes at most; {number} writes meanwhile"
    );
    assert!(bytes > 16 << 20, "{bytes}");
    assert!(
        took.as_secs() >= bytes / u64::from(BYTES_PER_SECOND),
        "{took:?}"
    );
    assert!(grown < bytes / 4, "{grown} of {bytes}");
    // What was written since is not in it, and it is whole.
    let data = folder.path().join("restored");
    let digest = backup.report["digest"].as_str().unwrap();
    let arguments = [
        "restore",
        "--data",
        data.to_str().unwrap(),
        "--from",
        url,
        "--cluster-uuid",
        "0d9f7a4e-7a0a-4c5e-9d4f-0d2f5f0e6a11",
        "--expected-digest",
        digest,
    ];
    let restored = run_node_with(&arguments, &environment).await.unwrap();
    assert_eq!(restored.exit_code, Some(0), "{}", restored.log);
    let quads = restored.report["quads"].as_u64().unwrap();
    let whole = u64::from(large);
    assert!((whole..whole + number).contains(&quads), "{quads}");
}
