//! Writes deterministic RDF data in the schema of the Berlin SPARQL Benchmark, and queries.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quadraft_tests::generator::{DataSet, QueryMix, Scale};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Writes RDF data in the schema of the Berlin SPARQL Benchmark: the same arguments give the same
/// bytes, always and everywhere.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    data: Data,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes SPARQL queries about the data that the same arguments generate, a JSON object a line
    Queries {
        #[command(flatten)]
        data_set: DataSetArguments,
        /// How many mixes of 25 queries
        #[arg(long, default_value_t = 1)]
        mixes: usize,
        /// Seed of the queries' parameters
        #[arg(long, default_value_t = 1)]
        query_seed: u64,
        /// Where to write, instead of standard output
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Data {
    #[command(flatten)]
    data_set: DataSetArguments,
    /// One graph for each producer, vendor and rating site, instead of the default graph
    #[arg(long)]
    named_graphs: bool,
    #[arg(long, value_enum, default_value_t = Format::Nquads)]
    format: Format,
    /// Where to write, instead of standard output; a summary then goes to standard output
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DataSetArguments {
    #[command(flatten)]
    scale: ScaleArguments,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScaleArguments {
    /// All data of so many products (some 350 quads each)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    products: Option<u64>,
    /// Exactly so many quads
    #[arg(long)]
    quads: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Nquads,
}

impl DataSetArguments {
    fn data_set(&self, named_graphs: bool) -> DataSet {
        DataSet {
            scale: match (self.scale.products, self.scale.quads) {
                (Some(products), _) => Scale::Products(products),
                (None, quads) => Scale::Quads(quads.unwrap_or(0)),
            },
            seed: self.seed,
            named_graphs,
        }
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    products: u64,
    quads: u64,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct QueryLine<'a> {
    kind: u8,
    name: &'a str,
    query: &'a str,
}

/// Counts and digests what passes through.
struct Measured<W> {
    inner: W,
    bytes: u64,
    digest: Sha256,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        self.digest.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn open(output: Option<&PathBuf>) -> io::Result<Box<dyn Write>> {
    Ok(match output {
        Some(path) => Box::new(BufWriter::with_capacity(1 << 20, File::create(path)?)),
        None => Box::new(BufWriter::with_capacity(1 << 20, io::stdout())),
    })
}

fn write_data(data: &Data) -> io::Result<()> {
    let Format::Nquads = data.format;
    let data_set = data.data_set.data_set(data.named_graphs);
    let mut output = Measured {
        inner: open(data.output.as_ref())?,
        bytes: 0,
        digest: Sha256::new(),
    };
    let quads = data_set.stream().write_to(&mut output)?;
    output.flush()?;
    let summary = Summary {
        products: data_set.products(),
        quads,
        bytes: output.bytes,
        sha256: output
            .digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    let line = serde_json::to_string(&summary)?;
    if data.output.is_some() {
        writeln!(io::stdout(), "{line}")
    } else {
        writeln!(io::stderr(), "{line}")
    }
}

fn write_queries(
    data_set: &DataSet,
    query_seed: u64,
    mixes: usize,
    output: Option<&PathBuf>,
) -> io::Result<()> {
    let mut output = open(output)?;
    for query in data_set.queries(query_seed).take(mixes * QueryMix::LENGTH) {
        let line = QueryLine {
            kind: query.kind,
            name: query.name,
            query: &query.text,
        };
        serde_json::to_writer(&mut output, &line)?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Queries {
            data_set,
            mixes,
            query_seed,
            output,
        }) => write_queries(
            &data_set.data_set(false),
            *query_seed,
            *mixes,
            output.as_ref(),
        ),
        None => write_data(&arguments.data),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "quadraft-generate: {error}");
            ExitCode::FAILURE
        }
    }
}
