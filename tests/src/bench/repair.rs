//! What the repair of one entry takes, against a transfer of the whole state.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quadraft_protocol::{AdminConnection, v1};

use super::median;
use super::table::markdown_table;
use crate::damage::{flip_a_bit, payloads, segments};
use crate::local::{LocalNode, free_ports};

const MEMBERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the literal that each entry inserts.
const LITERAL_BYTES: usize = 200;
const DURATION_METRIC: &str = "quadraft_log_repair_duration_seconds_sum";
const COUNT_METRIC: &str = "quadraft_log_repair_duration_seconds_count";
const BYTES_METRIC: &str = "quadraft_log_repair_message_bytes_total";

/// What is measured.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    /// The volumes of the nodes are made in it.
    pub folder: PathBuf,
    /// Entries of the log, one statement each.
    pub entries: usize,
    /// Entries damaged, one after another, and transfers of the state.
    pub rounds: usize,
}

#[derive(Clone, Copy, Debug)]
struct Figure {
    duration: Duration,
    bytes: u64,
}

/// Starts three nodes on this machine, fills their logs, damages one entry of a follower that is
/// stopped, starts it, and reads from its metrics what the repair took; then has the leader stream
/// its state. Gives medians as a table in Markdown.
///
/// # Errors
/// When a node does not do what it should.
pub async fn measure_repair(
    plan: &RepairPlan,
    mut progress: impl FnMut(&str),
) -> Result<String, String> {
    let mut nodes = start_nodes(&plan.folder).await?;
    let leader = find_leader(&nodes).await?;
    fill(&nodes[leader], plan.entries, &mut progress).await?;
    let last = nodes[leader].wait_ready().await?.last_log_id;
    for node in &nodes {
        let caught_up = |status: &v1::StatusResponse| status.applied == last;
        node.wait_for("caught up", PATIENCE, caught_up).await?;
    }
    let follower = (leader + 1) % MEMBERS;
    let mut repairs = Vec::new();
    for round in 0..plan.rounds {
        let number = (round + 1) * plan.entries / (plan.rounds + 1);
        let repair = repair_one(&mut nodes[follower], number).await?;
        progress(&format!(
            "repair {} of {}: {:.2} ms, {} bytes",
            round + 1,
            plan.rounds,
            repair.duration.as_secs_f64() * 1e3,
            repair.bytes
        ));
        repairs.push(repair);
    }
    let leader = find_leader(&nodes).await?;
    let mut transfers = Vec::new();
    for _ in 0..plan.rounds {
        transfers.push(transfer_state(&nodes[leader]).await?);
    }
    let heading = ["", "time", "bytes"].map(str::to_owned);
    let row = |what: String, figures: &[Figure]| {
        let durations = figures.iter().map(|figure| figure.duration).collect();
        let bytes = figures.iter().map(|figure| figure.bytes).max().unwrap_or(0);
        vec![
            what,
            format!("{:.1} ms", median(durations).as_secs_f64() * 1e3),
            bytes.to_string(),
        ]
    };
    Ok(markdown_table(
        &heading,
        &[
            row(format!("repair of one entry of {}", plan.entries), &repairs),
            row("transfer of the same state".to_owned(), &transfers),
        ],
    ))
}

async fn start_nodes(folder: &Path) -> Result<Vec<LocalNode>, String> {
    let ports = free_ports(MEMBERS);
    let members: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let members = members.join(",");
    // Nothing of the log may be let go for a snapshot.
    let arguments = [
        "--members",
        &members,
        "--snapshot-after-entries",
        "1000000000",
    ];
    let mut nodes = Vec::new();
    for port in ports {
        let mut node = LocalNode::new(folder.join(format!("node-{port}")), port, &arguments);
        node.start().map_err(|error| error.to_string())?;
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_ready().await?;
    }
    Ok(nodes)
}

async fn find_leader(nodes: &[LocalNode]) -> Result<usize, String> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        for (number, node) in nodes.iter().enumerate() {
            let status = node.status().await;
            if status.is_some_and(|status| status.role() == v1::Role::Leader) {
                return Ok(number);
            }
        }
    }
    Err("no node leads".to_owned())
}

/// One statement after another: those that wait at the same time would become one entry.
async fn fill(
    node: &LocalNode,
    entries: usize,
    progress: &mut impl FnMut(&str),
) -> Result<(), String> {
    let client = reqwest::Client::new();
    let literal = "x".repeat(LITERAL_BYTES);
    for number in 0..entries {
        if number.is_multiple_of(5000) {
            progress(&format!("{number} of {entries} entries written"));
        }
        let update = format!("INSERT DATA {{ <urn:bench:{number}> <urn:bench:is> \"{literal}\" }}");
        let answer = client
            .post(node.url("/update"))
            .header("content-type", "application/sparql-update")
            .body(update)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("a write was answered with {}", answer.status()));
        }
        // The body is taken, so that the connection can be used again.
        answer.bytes().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn repair_one(node: &mut LocalNode, number: usize) -> Result<Figure, String> {
    let disk = |error: std::io::Error| error.to_string();
    node.kill().await.map_err(disk)?;
    let mut left = number;
    let mut damaged = false;
    for segment in segments(&node.data).map_err(disk)? {
        let places = payloads(&segment).map_err(disk)?;
        if let Some((offset, length)) = places.get(left) {
            flip_a_bit(&segment, offset + length / 2).map_err(disk)?;
            damaged = true;
            break;
        }
        left -= places.len();
    }
    if !damaged {
        return Err(format!("the log has no entry number {number}"));
    }
    node.start().map_err(disk)?;
    node.wait_for("repaired", PATIENCE, |status| {
        status.repaired_from_peers.len() == 1 && status.unreadable.is_empty()
    })
    .await?;
    let metrics = reqwest::get(node.url("/metrics"))
        .await
        .map_err(|error| error.to_string())?
        .text()
        .await
        .map_err(|error| error.to_string())?;
    let value = |name: &str| {
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
            .ok_or_else(|| format!("the node has no metric {name}"))
    };
    if value(COUNT_METRIC)? != 1.0 {
        return Err("more than one entry was repaired".to_owned());
    }
    let figure = Figure {
        duration: Duration::from_secs_f64(value(DURATION_METRIC)?),
        bytes: value(BYTES_METRIC)? as u64,
    };
    node.wait_ready().await?;
    Ok(figure)
}

async fn transfer_state(node: &LocalNode) -> Result<Figure, String> {
    let mut connection = AdminConnection::connect(&node.peer_address(), Duration::from_secs(5))
        .await
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut stream = connection
        .backup(v1::BackupRequest {
            minimum_log_index: 0,
        })
        .await
        .map_err(|error| error.to_string())?;
    let mut bytes = 0;
    while let Some(message) = stream.message().await.map_err(|error| error.to_string())? {
        if let Some(v1::backup_response::Part::Data(data)) = message.part {
            bytes += data.len() as u64;
        }
    }
    Ok(Figure {
        duration: started.elapsed(),
        bytes,
    })
}
