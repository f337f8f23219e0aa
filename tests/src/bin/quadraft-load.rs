//! Loads N-Quads, from a file or made on the way, into a running cluster.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use quadraft_tests::generator::{DataSet, Scale};
use quadraft_tests::load::{Batches, Display, LoadOptions, Summary, Total, load};
use uuid::Uuid;

/// Loads N-Quads into a Quadraft cluster in batches, each written once even when the leader dies
/// under it. Progress goes to standard error, a summary in JSON to standard output.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address of a cluster or of any of its nodes, such as http://127.0.0.1:7878
    #[arg(long)]
    endpoint: reqwest::Url,
    #[command(flatten)]
    source: Source,
    /// Seed of the generated data
    #[arg(long, default_value_t = 1, requires = "generate_quads")]
    seed: u64,
    /// Put generated data into one graph for each producer, vendor and rating site
    #[arg(long, requires = "generate_quads")]
    named_graphs: bool,
    /// Quads in a request
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    batch_quads: u64,
    /// Requests under way at once
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// How long one batch is tried, in seconds
    #[arg(long, default_value_t = 120)]
    deadline_seconds: u64,
    /// Name of the load, to go on with one that broke off: give the run of its summary or error
    #[arg(long)]
    run: Option<Uuid>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// File of N-Quads without blank nodes
    #[arg(long)]
    file: Option<PathBuf>,
    /// Generate so many quads of benchmark data
    #[arg(long)]
    generate_quads: Option<u64>,
}

type Failure = Box<dyn std::error::Error>;

fn open(arguments: &Arguments) -> Result<(Batches, Total), Failure> {
    match (&arguments.source.file, arguments.source.generate_quads) {
        (Some(path), _) => {
            let (file, length) = open_file(path)?;
            let reader = Box::new(BufReader::with_capacity(1 << 20, file));
            let batches = Batches::read(reader, arguments.batch_quads);
            Ok((batches, length.map_or(Total::Unknown, Total::Bytes)))
        }
        (None, quads) => {
            let quads = quads.unwrap_or(0);
            let data_set = DataSet {
                scale: Scale::Quads(quads),
                seed: arguments.seed,
                named_graphs: arguments.named_graphs,
            };
            let batches = Batches::generated(data_set.stream(), arguments.batch_quads);
            Ok((batches, Total::Quads(quads)))
        }
    }
}

/// The file and its length, where it has one: a pipe has none.
fn open_file(path: &Path) -> Result<(File, Option<u64>), Failure> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let metadata = file.metadata()?;
    let length = metadata.is_file().then_some(metadata.len());
    Ok((file, length))
}

async fn run(arguments: &Arguments, run: Uuid) -> Result<Summary, Failure> {
    let (batches, total) = open(arguments)?;
    let display = Display::new(total);
    let options = LoadOptions {
        endpoint: arguments.endpoint.clone(),
        parallel: arguments.parallel,
        deadline: Duration::from_secs(arguments.deadline_seconds),
        run,
    };
    let outcome = load(batches, &options, &|progress| display.show(progress)).await;
    display.finish();
    Ok(outcome?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let name = arguments.run.unwrap_or_else(Uuid::new_v4);
    let outcome = match run(&arguments, name).await {
        Ok(summary) => serde_json::to_string_pretty(&summary).map_err(Failure::from),
        Err(error) => Err(error),
    };
    let written = match &outcome {
        Ok(text) => writeln!(std::io::stdout(), "{text}"),
        Err(error) => writeln!(
            std::io::stderr(),
            "quadraft-load: {error}\nto go on with this load: --run {name}"
        ),
    };
    if outcome.is_ok() && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
