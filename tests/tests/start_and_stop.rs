//! What nodes say and do before they serve, and from when they are told to stop until they have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quadraft_tests::damage::flip_a_bit;
use quadraft_tests::local::{LocalNode, free_ports};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

/// A client that makes a connection for each request.
fn visitor() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

async fn get(node: &LocalNode, path: &str) -> Option<(u16, Value)> {
    let answer = visitor().get(node.url(path)).send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().await.ok()?;
    Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

async fn update(node: &LocalNode, text: String) -> Result<(), String> {
    let answer = visitor()
        .post(node.url("/update"))
        .header("content-type", "application/sparql-update")
        .body(text)
        .send()
        .await
        .map_err(|error| format!("{error:?}"))?;
    if answer.status() == 204 {
        return Ok(());
    }
    Err(format!(
        "{}: {}",
        answer.status(),
        answer.text().await.unwrap_or_default()
    ))
}

async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let until = Instant::now() + MINUTE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_waits_for_its_cluster_says_so_on_its_ports() {
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(2);
    let members = format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]);
    let arguments = ["--members", &members];
    let mut second = LocalNode::new(folder.path().join("second"), ports[1], &arguments);
    second.start().unwrap();
    let status = until("the phase", async || {
        let (code, status) = get(&second, "/status").await?;
        (code == 200 && status["starting"]["phase"] == "waiting_for_cluster").then_some(status)
    })
    .await;
    assert_eq!(status["ready"], false);
    assert_eq!(get(&second, "/livez").await.unwrap().0, 200);
    for path in ["/readyz", "/query?query=ASK%7B%7D"] {
        let (code, document) = get(&second, path).await.unwrap();
        assert_eq!(
            (code, &document["error"]),
            (503, &Value::from("starting")),
            "{path}"
        );
    }
    assert_eq!(get(&second, "/metrics").await.unwrap().0, 200);
    let mut first = LocalNode::new(folder.path().join("first"), ports[0], &arguments);
    first.start().unwrap();
    for node in [&first, &second] {
        node.wait_ready().await.unwrap();
        assert_eq!(
            get(node, "/status").await.unwrap().1["starting"],
            Value::Null
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_opens_its_volume_says_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1)[0];
    let arguments = ["--snapshot-after-entries", "1000000"];
    let mut node = LocalNode::new(folder.path().join("data"), port, &arguments);
    node.start().unwrap();
    node.wait_ready().await.unwrap();
    let text = "x".repeat(4 << 20);
    for number in 0..30 {
        update(
            &node,
            format!("INSERT DATA {{ <u:a> <u:b> \"{number}{text}\" }}"),
        )
        .await
        .unwrap();
    }
    node.kill().await.unwrap();
    node.start().unwrap();
    let (read, total) = until("a start that has begun and not ended", async || {
        let (_, status) = get(&node, "/status").await?;
        assert_ne!(
            status["ready"], true,
            "it was not seen while it opened its volume"
        );
        let bytes = |name: &str| status["starting"][name].as_u64();
        let (read, total) = (bytes("read_bytes")?, bytes("total_bytes")?);
        (0 < read && read < total).then_some((read, total))
    })
    .await;
    assert!(total > 100 << 20, "{read} of {total}");
    node.wait_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_is_not_ready_and_serves_on_for_as_long_as_it_is_to() {
    const DRAIN: Duration = Duration::from_secs(3);
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(3);
    let members: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let members = members.join(",");
    let arguments = ["--members", &members, "--drain-seconds", "3"];
    let mut nodes = Vec::new();
    for port in ports {
        let mut node = LocalNode::new(folder.path().join(port.to_string()), port, &arguments);
        node.start().unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_ready().await.unwrap();
    }
    let leads = until("a leader", async || {
        for (index, node) in nodes.iter().enumerate() {
            let (_, status) = get(node, "/status").await?;
            if status["role"] == "leader" {
                return Some(index);
            }
        }
        None
    })
    .await;
    let mut leader = nodes.remove(leads);
    let stopped = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let url = leader.url(if number == 0 { "/update" } else { "/query" });
            tokio::spawn(ask_on(url, number == 0, stopped.clone()))
        })
        .collect();
    // What it heard as a follower, before it led, is old by now.
    let begun = Instant::now();
    until("a leader that has led for some time", async || {
        let (_, status) = get(&leader, "/status").await?;
        (begun.elapsed() > Duration::from_secs(6) && status["quads"].as_u64()? > 20).then_some(())
    })
    .await;
    let told = Instant::now();
    leader.terminate().await.unwrap();
    until("not being ready", async || {
        let (code, _) = get(&leader, "/readyz").await?;
        (code == 503).then_some(())
    })
    .await;
    assert!(told.elapsed() < DRAIN, "{:?}", told.elapsed());
    let code = leader.ended(MINUTE).await.unwrap();
    let took = told.elapsed();
    stopped.store(true, Ordering::SeqCst);
    assert_eq!(code, Some(0));
    assert!(took >= DRAIN, "{took:?}");
    // Whoever came while it was still there was served; leadership had gone on meanwhile.
    let (mut served, mut refused) = (0, Vec::new());
    for client in clients {
        for (time, answer) in client.await.unwrap() {
            match answer {
                Ok(200..300) => served += usize::from(time > told),
                other if time < told + DRAIN => refused.push((time.duration_since(told), other)),
                _ => {}
            }
        }
    }
    assert!(refused.is_empty(), "{refused:?}");
    assert!(
        served > 20,
        "{served} requests were served after it was told to stop"
    );
}

type Answers = Vec<(Instant, Result<u16, String>)>;

/// Sends one request after another; when they ended, and with which status.
async fn ask_on(url: String, writes: bool, stopped: Arc<AtomicBool>) -> Answers {
    let mut answers = Vec::new();
    for number in 0.. {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let request = visitor().post(&url);
        let request = if writes {
            request
                .header("content-type", "application/sparql-update")
                .body(format!("INSERT DATA {{ <u:a> <u:b> {number} }}"))
        } else {
            request
                .header("content-type", "application/sparql-query")
                .body("ASK { ?s ?p ?o }")
        };
        let answer = request
            .send()
            .await
            .map(|answer| answer.status().as_u16())
            .map_err(|error| format!("{error:?}"));
        answers.push((Instant::now(), answer));
    }
    answers
}

fn tables(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(tables(&path));
        } else if path.extension().is_some_and(|extension| extension == "sst") {
            found.push(path);
        }
    }
    found
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("--recursive")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

/// A start applies what the log has beyond the store, which a loss of power may take back: it may be the
/// first that reads a damaged part of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_a_start_finds_damaged_is_rebuilt_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1)[0];
    let arguments = ["--snapshot-after-entries", "1000000"];
    let mut node = LocalNode::new(folder.path().join("data"), port, &arguments);
    let (store, before) = (node.data.join("store"), folder.path().join("before"));
    node.start().unwrap();
    node.wait_ready().await.unwrap();
    // What is written is deleted again, and so read by whoever applies it.
    let write = async |node: &LocalNode, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let text = format!(
                "DELETE {{ <u:last> <u:is> ?n }} INSERT {{ <u:last> <u:is> {number} }} WHERE {{ OPTIONAL {{ \
                 <u:last> <u:is> ?n }} }} ; INSERT DATA {{ <u:all> <u:has> {number} }}"
            );
            update(node, text).await.unwrap();
        }
    };
    let many: String = (0..4000)
        .map(|number| {
            format!(
                "<u:s{number}> <u:p{number}> \"{number} {:32x}\" . ",
                rand::random::<u128>()
            )
        })
        .collect();
    update(&node, format!("INSERT DATA {{ {many} }}"))
        .await
        .unwrap();
    write(&node, 0..30).await;
    node.terminate().await.unwrap();
    assert_eq!(node.ended(MINUTE).await.unwrap(), Some(0));
    copy(&store, &before);
    node.start().unwrap();
    node.wait_ready().await.unwrap();
    write(&node, 30..60).await;
    node.kill().await.unwrap();
    let damaged = quadraft_protocol::ExitCode::StoreDamaged as i32;
    // Some blocks are read when the store is opened, some by nobody: until one is hit that a start applies to.
    for attempt in 0..150 {
        std::fs::remove_dir_all(&store).unwrap();
        copy(&before, &store);
        for table in tables(&store) {
            for offset in (0..std::fs::metadata(&table).unwrap().len()).step_by(2048) {
                if rand::random_range(0..30) == 0 {
                    flip_a_bit(&table, offset).unwrap();
                }
            }
        }
        node.start().unwrap();
        let code = until("a start that comes to an end", async || {
            if get(&node, "/readyz")
                .await
                .is_some_and(|(code, _)| code == 200)
            {
                return Some(None);
            }
            node.logged()
                .contains("is rebuilt at the next start")
                .then_some(Some(()))
        })
        .await;
        if code.is_none() {
            node.kill().await.unwrap();
            continue;
        }
        println!("found in attempt {attempt}");
        let code = node.ended(MINUTE).await.unwrap();
        assert_eq!(code, Some(damaged), "{}", node.logged());
        node.start().unwrap();
        node.wait_ready().await.unwrap();
        let answer = visitor()
            .post(node.url("/query"))
            .header("content-type", "application/sparql-query")
            .header("accept", "text/csv")
            .body("SELECT (COUNT(*) AS ?n) { <u:all> <u:has> ?n }")
            .send()
            .await
            .unwrap();
        let text = answer.text().await.unwrap();
        assert_eq!(text.lines().nth(1).map(str::trim), Some("60"));
        return;
    }
    panic!("no start of 150 read what was damaged");
}
