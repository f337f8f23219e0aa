//! Updates as clients feel them: whole requests over HTTP, in a closed loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::markdown_table;
use crate::local::{LocalNode, free_ports};

/// Bytes of the literal that each update inserts.
const VALUE_BYTES: usize = 256;

/// Updates of one triple each, sent by clients that wait for each answer.
#[derive(Clone, Debug)]
pub struct UpdatePlan {
    pub folder: PathBuf,
    /// How many members the cluster has.
    pub members: Vec<usize>,
    /// How many clients write at a time, all at the leader.
    pub clients: Vec<usize>,
    /// In each run.
    pub updates: u64,
    /// Runs of each cluster with each number of clients, in turn.
    pub rounds: usize,
}

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Updates a second in the first and the last tenth.
    first: f64,
    last: f64,
    p50: Duration,
    p99: Duration,
}

/// Measures how many updates a second there are in each tenth of a run, as a table in Markdown: for
/// each figure the median of all rounds, for the ratio the lowest and the highest too.
///
/// # Errors
/// When a cluster does not come up, or an update is not acknowledged.
pub async fn measure_updates(plan: &UpdatePlan, say: fn(&str)) -> Result<String, String> {
    let mut runs: BTreeMap<(usize, usize), Vec<Run>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for &members in &plan.members {
            for &clients in &plan.clients {
                let run = run_updates(plan, members, clients).await?;
                say(&format!(
                    "round {round} of {}, {members} members, {clients} clients: {:.0}/s, {:.0}/s in \
                     the end: {:.2}",
                    plan.rounds,
                    run.first,
                    run.last,
                    run.last / run.first
                ));
                runs.entry((members, clients)).or_default().push(run);
            }
        }
    }
    Ok(table(&runs))
}

fn table(runs: &BTreeMap<(usize, usize), Vec<Run>>) -> String {
    let heading = [
        "members",
        "clients",
        "first tenth, /s",
        "last tenth, /s",
        "last / first",
        "of all rounds",
        "p50, ms",
        "p99, ms",
    ];
    let rows: Vec<_> = runs
        .iter()
        .map(|((members, clients), runs)| {
            let all = |figure: fn(&Run) -> f64| {
                let mut figures: Vec<_> = runs.iter().map(figure).collect();
                figures.sort_by(f64::total_cmp);
                figures
            };
            let median = |figure| {
                let figures = all(figure);
                figures[figures.len() / 2]
            };
            let ratio = |run: &Run| run.last / run.first;
            let ratios = all(ratio);
            vec![
                members.to_string(),
                clients.to_string(),
                format!("{:.0}", median(|run| run.first)),
                format!("{:.0}", median(|run| run.last)),
                format!("{:.2}", median(ratio)),
                format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
                format!("{:.2}", median(|run| run.p50.as_secs_f64() * 1e3)),
                format!("{:.2}", median(|run| run.p99.as_secs_f64() * 1e3)),
            ]
        })
        .collect();
    markdown_table(&heading.map(str::to_owned), &rows)
}

/// Updates a second in each tenth of the updates.
fn rates_of_tenths(times: &[(Instant, Duration)]) -> Vec<f64> {
    let mut from = times
        .first()
        .map_or_else(Instant::now, |(done, took)| *done - *took);
    times
        .chunks(times.len().div_ceil(10))
        .map(|part| {
            let to = part.last().map_or(from, |(done, _)| *done);
            let rate = part.len() as f64 / (to - from).as_secs_f64();
            from = to;
            rate
        })
        .collect()
}

/// A new cluster is started for each run.
async fn run_updates(plan: &UpdatePlan, members: usize, clients: usize) -> Result<Run, String> {
    let folder = plan.folder.join(format!("updates-{members}-{clients}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let nodes = start(&folder, members).await?;
    let url = leader_url(&nodes).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (url, next, updates) = (url.clone(), next.clone(), plan.updates);
        running.spawn(async move {
            let client = reqwest::Client::new();
            let filling = "x".repeat(VALUE_BYTES);
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= updates {
                    return Ok(times);
                }
                let text = format!("INSERT DATA {{ <u:{number}> <u:value> \"{filling}\" }}");
                let started = Instant::now();
                let request = client
                    .post(&url)
                    .header("content-type", "application/sparql-update")
                    .body(text);
                let answer = request.send().await.map_err(|error| error.to_string())?;
                if !answer.status().is_success() {
                    return Err(answer.text().await.unwrap_or_default());
                }
                times.push((Instant::now(), started.elapsed()));
            }
        });
    }
    // When each update was acknowledged, and how long it took.
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        let times: Result<Vec<_>, String> = times.map_err(|error| error.to_string())?;
        all.extend(times?);
    }
    all.sort();
    drop(nodes);
    let _ = std::fs::remove_dir_all(&folder);
    let rates = rates_of_tenths(&all);
    let mut took: Vec<_> = all.into_iter().map(|(_, took)| took).collect();
    took.sort();
    Ok(Run {
        first: rates[0],
        last: rates[rates.len() - 1],
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
    })
}

async fn start(folder: &std::path::Path, members: usize) -> Result<Vec<LocalNode>, String> {
    let ports = free_ports(members);
    let all = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect::<Vec<_>>()
        .join(",");
    let mut nodes = Vec::new();
    for port in ports {
        let data = folder.join(port.to_string());
        let mut node = LocalNode::new(data, port, &["--members", &all]);
        node.start().map_err(|error| error.to_string())?;
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_ready().await?;
    }
    Ok(nodes)
}

async fn leader_url(nodes: &[LocalNode]) -> Result<String, String> {
    for node in nodes {
        let status = node.status().await.ok_or("a node does not answer")?;
        if status.role() == quadraft_protocol::v1::Role::Leader {
            return Ok(node.url("/update"));
        }
    }
    Err("no leader".to_owned())
}
