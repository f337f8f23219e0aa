//! Measures a running cluster, and the log. `make bench` sets it up and prints the figures of all
//! parts.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use quadraft_tests::bench::{
    AppendPlan, CandidateSpecification, QueryPlan, Ratio, RepairPlan, UpdatePlan, measure_appends,
    measure_queries, measure_repair, measure_updates,
};
use quadraft_tests::kubernetes::{Kubectl, TestCluster, kill_leader_while_writing};

/// Measures a cluster on the Kubernetes of KUBECONFIG, or the log on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Debug, Subcommand)]
enum Figure {
    /// How long writing is interrupted when the leader is killed: minimum, median and maximum, in
    /// seconds, on standard output
    WriteInterruption {
        #[arg(long)]
        namespace: String,
        #[arg(long)]
        cluster: String,
        #[arg(long, default_value_t = 3)]
        replicas: u32,
        /// Leaders killed, one after another
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// How long appending takes to candidates that take turns: medians in microseconds by the size
    /// of batches, as a table in Markdown
    LogAppend {
        /// Folder on the disk that is measured
        #[arg(long)]
        folder: PathBuf,
        #[arg(long, default_value_t = 256)]
        payload_bytes: usize,
        /// Entries a batch
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])]
        batches: Vec<usize>,
        #[arg(long, default_value_t = 300)]
        rounds: usize,
        /// NAME=PROGRAM ARGUMENTS; called with a folder and the length of payloads besides
        #[arg(long = "candidate", required = true)]
        candidates: Vec<CandidateSpecification>,
        /// TITLE=DIVIDEND/DIVISOR: one more column, of two candidates' medians
        #[arg(long = "ratio")]
        ratios: Vec<Ratio>,
    },
    /// What the repair of one entry of the log takes, and the transfer of the same state, with three
    /// nodes on this machine: a table in Markdown
    Repair {
        /// Folder for the nodes' volumes
        #[arg(long)]
        folder: PathBuf,
        #[arg(long, default_value_t = 30_000)]
        entries: usize,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// How many updates a second there are in the first and in the last tenth of a run, with nodes
    /// on this machine: a table in Markdown
    Updates {
        /// Folder for the nodes' volumes
        #[arg(long)]
        folder: PathBuf,
        #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
        members: Vec<usize>,
        #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
        clients: Vec<usize>,
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
        updates: u64,
        /// Runs of each; medians are printed
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
    },
    /// How long queries take to one client at a single node and at Oxigraph's server in turn: a table
    /// in Markdown
    Queries {
        /// Folder for the servers' data
        #[arg(long)]
        folder: PathBuf,
        /// Oxigraph's program
        #[arg(long)]
        oxigraph: PathBuf,
        /// As `quadraft-generate` writes it, without named graphs
        #[arg(long)]
        data: PathBuf,
        /// As `quadraft-generate queries` writes them
        #[arg(long)]
        queries: PathBuf,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().figure {
        Figure::WriteInterruption {
            namespace,
            cluster,
            replicas,
            rounds,
        } => write_interruption(&namespace, &cluster, replicas, rounds).await,
        Figure::LogAppend {
            folder,
            payload_bytes,
            batches,
            rounds,
            candidates,
            ratios,
        } => measure_appends(
            &AppendPlan {
                folder,
                payload_bytes,
                batches,
                rounds,
                candidates,
                ratios,
            },
            say,
        ),
        Figure::Repair {
            folder,
            entries,
            rounds,
        } => {
            let plan = RepairPlan {
                folder,
                entries,
                rounds,
            };
            measure_repair(&plan, say).await
        }
        Figure::Updates {
            folder,
            members,
            clients,
            updates,
            rounds,
        } => {
            let plan = UpdatePlan {
                folder,
                members,
                clients,
                updates,
                rounds: rounds.into(),
            };
            measure_updates(&plan, say).await
        }
        Figure::Queries {
            folder,
            oxigraph,
            data,
            queries,
            rounds,
        } => {
            let plan = QueryPlan {
                folder,
                oxigraph,
                data,
                queries,
                rounds: rounds.into(),
            };
            measure_queries(&plan, say).await
        }
    };
    match outcome {
        Ok(line) => {
            // Whoever closed our output has seen enough.
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "quadraft-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(step: &str) {
    let _ = writeln!(std::io::stderr(), "{step}");
}

async fn write_interruption(
    namespace: &str,
    cluster: &str,
    replicas: u32,
    rounds: u32,
) -> Result<String, String> {
    let kubectl = Kubectl::new(namespace);
    let cluster = TestCluster::attach(&kubectl, cluster)
        .await
        .map_err(|error| error.to_string())?;
    let mut gaps: Vec<Duration> = Vec::new();
    for round in 1..=rounds {
        let name = format!("interruption-{round}");
        let interruption = kill_leader_while_writing(&cluster, replicas, &name).await?;
        let _ = writeln!(
            std::io::stderr(),
            "leader {round} of {rounds}, {}: {} writes acknowledged, {:.2} s without any",
            interruption.pod,
            interruption.acknowledged,
            interruption.longest_gap.as_secs_f64()
        );
        gaps.push(interruption.longest_gap);
    }
    gaps.sort();
    let seconds = |index: usize| gaps.get(index).map_or(0.0, Duration::as_secs_f64);
    Ok(format!(
        "{:.2} {:.2} {:.2}",
        seconds(0),
        seconds(gaps.len() / 2),
        seconds(gaps.len() - 1)
    ))
}
