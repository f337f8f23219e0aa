//! Queries as clients feel them, beside Oxigraph's own server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{markdown_table, median};
use crate::local::{LocalNode, free_ports};

/// Triples of one upload.
const UPLOAD_TRIPLES: usize = 25_000;
/// How long a server may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Queries asked by one client at both servers in turn.
#[derive(Clone, Debug)]
pub struct QueryPlan {
    /// Where the servers keep their data.
    pub folder: PathBuf,
    /// Oxigraph's program.
    pub oxigraph: PathBuf,
    /// N-Triples to load, as `quadraft-generate` writes them.
    pub data: PathBuf,
    /// As `quadraft-generate queries` writes them.
    pub queries: PathBuf,
    /// How often all are asked.
    pub rounds: usize,
}

#[derive(Deserialize)]
struct AskedQuery {
    kind: u8,
    name: String,
    query: String,
}

/// One of the servers.
struct Server {
    name: &'static str,
    url: String,
    // Killed when they are dropped.
    _node: Option<LocalNode>,
    _peer: Option<Child>,
}

/// Measures the time of each kind of query at a single node and at Oxigraph's server, as a table in
/// Markdown: medians, and the queries a second of all together; before them, the triples a second
/// of the load.
///
/// # Errors
/// When a server does not answer, or the two answer with different numbers of rows.
pub async fn measure_queries(plan: &QueryPlan, say: fn(&str)) -> Result<String, String> {
    let text = std::fs::read_to_string(&plan.queries).map_err(|error| error.to_string())?;
    let queries: Vec<AskedQuery> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", plan.queries.display()))?;
    let servers = start(&plan.folder, &plan.oxigraph).await?;
    let client = reqwest::Client::new();
    let mut loads = Vec::new();
    for server in &servers {
        say(&format!("loading into {}", server.name));
        loads.push(load(&client, server, &plan.data).await?);
    }
    let mut times: BTreeMap<(u8, &str), Vec<Vec<Duration>>> = BTreeMap::new();
    let mut totals = vec![Duration::ZERO; servers.len()];
    for round in 0..=plan.rounds {
        say(&format!("queries: round {round} of {}", plan.rounds));
        for query in &queries {
            let mut rows = Vec::new();
            for (place, server) in servers.iter().enumerate() {
                let started = Instant::now();
                rows.push(ask(&client, server, &query.query).await?);
                let took = started.elapsed();
                // The first round fills caches.
                if round > 0 {
                    totals[place] += took;
                    times
                        .entry((query.kind, &query.name))
                        .or_insert_with(|| vec![Vec::new(); servers.len()])[place]
                        .push(took);
                }
            }
            if rows.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err(format!("{rows:?} rows are answered to {}", query.query));
            }
        }
    }
    let mut heading = vec!["query".to_owned()];
    heading.extend(servers.iter().map(|server| server.name.to_owned()));
    heading.push("ratio of speed".to_owned());
    let mut table = vec![row(
        "load, triples a second",
        &loads,
        0,
        loads[0] / loads[1],
    )];
    for ((kind, name), times) in times {
        let medians: Vec<f64> = times
            .into_iter()
            .map(|times| median(times).as_secs_f64() * 1000.0)
            .collect();
        let ratio = medians[1] / medians[0];
        table.push(row(&format!("{kind}: {name}, ms"), &medians, 2, ratio));
    }
    let asked = (queries.len() * plan.rounds) as f64;
    let rates: Vec<f64> = totals
        .iter()
        .map(|total| asked / total.as_secs_f64())
        .collect();
    table.push(row("all, queries a second", &rates, 0, rates[0] / rates[1]));
    Ok(markdown_table(&heading, &table))
}

fn row(name: &str, figures: &[f64], decimals: usize, ratio: f64) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(figures.iter().map(|figure| format!("{figure:.decimals$}")));
    row.push(format!("{ratio:.2}"));
    row
}

/// A single node, and Oxigraph's server.
async fn start(folder: &Path, oxigraph: &Path) -> Result<Vec<Server>, String> {
    let ports = free_ports(2);
    let mut node = LocalNode::new(folder.join("quadraft"), ports[0], &[]);
    node.start().map_err(|error| error.to_string())?;
    node.wait_ready().await?;
    let address = format!("127.0.0.1:{}", ports[1]);
    let peer = Command::new(oxigraph)
        .arg("serve")
        .arg("--location")
        .arg(folder.join("oxigraph"))
        .args(["--bind", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", oxigraph.display()))?;
    let servers = vec![
        Server {
            name: "Quadraft",
            url: node.url(""),
            _node: Some(node),
            _peer: None,
        },
        Server {
            name: "Oxigraph",
            url: format!("http://{address}"),
            _node: None,
            _peer: Some(peer),
        },
    ];
    let until = Instant::now() + START_DEADLINE;
    let client = reqwest::Client::new();
    for server in &servers {
        while let Err(error) = ask(&client, server, "ASK {}").await {
            if Instant::now() > until {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(servers)
}

/// Loads the default graph in uploads one after another, and gives the triples a second.
async fn load(client: &reqwest::Client, server: &Server, data: &Path) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", data.display());
    let file = tokio::fs::File::open(data).await.map_err(failed)?;
    let mut lines = BufReader::new(file).lines();
    let started = Instant::now();
    let mut triples = 0;
    loop {
        let mut body = String::new();
        let mut count = 0;
        while count < UPLOAD_TRIPLES
            && let Some(line) = lines.next_line().await.map_err(failed)?
        {
            body.push_str(&line);
            body.push('\n');
            count += 1;
        }
        if count == 0 {
            return Ok(f64::from(u32::try_from(triples).unwrap_or(u32::MAX))
                / started.elapsed().as_secs_f64());
        }
        triples += count;
        let answer = client
            .post(format!("{}/store?default", server.url))
            .header("content-type", "application/n-triples")
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        if !status.is_success() {
            let text = answer.text().await.unwrap_or_default();
            return Err(format!(
                "{} answers {status} to an upload: {text}",
                server.name
            ));
        }
    }
}

/// The number of rows of an answer. Rows and triples are a line each in both formats.
async fn ask(client: &reqwest::Client, server: &Server, query: &str) -> Result<usize, String> {
    let answer = client
        .post(format!("{}/query", server.url))
        .header("content-type", "application/sparql-query")
        .header("accept", "text/csv, application/n-triples;q=0.9")
        .body(query.to_owned())
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!(
            "{} answers {status} to {query}: {text}",
            server.name
        ));
    }
    Ok(text.lines().count())
}
