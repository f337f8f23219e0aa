//! The operator's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use quadraft_operator::api::crds;
use quadraft_operator::kubernetes::rights::Scope;
use quadraft_operator::run::{Options, run};
use quadraft_operator::turns::Limits;

#[derive(Debug, Parser)]
#[command(
    name = "quadraft-operator",
    version,
    about = "Runs Quadraft clusters on Kubernetes"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How logs are written.
    #[arg(
        long,
        env = "QUADRAFT_LOG_FORMAT",
        value_enum,
        default_value = "json",
        global = true
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controllers.
    Run {
        /// The namespaces to watch; all when none is given.
        #[arg(long, env = "QUADRAFT_WATCH_NAMESPACES", value_delimiter = ',')]
        watch_namespaces: Vec<String>,
        /// The image of the nodes, without its tag: the version is the tag.
        #[arg(
            long,
            env = "QUADRAFT_NODE_IMAGE_REPOSITORY",
            default_value = "quadraft-node"
        )]
        node_image_repository: String,
        /// The namespace of the lease that lets one of several operators act.
        #[arg(long, env = "QUADRAFT_LEASE_NAMESPACE", default_value = "default")]
        lease_namespace: String,
        /// The name of that lease: operators with the same are one installation.
        #[arg(long, env = "QUADRAFT_LEASE_NAME", default_value = "quadraft-operator")]
        lease_name: String,
        /// Who this operator is in the lease; its host name, which is its pod's, when absent.
        #[arg(long, env = "QUADRAFT_IDENTITY")]
        identity: Option<String>,
        /// How many clusters are restarted at once when another version of the operator makes their
        /// pods otherwise.
        #[arg(
            long,
            env = "QUADRAFT_UPGRADE_CLUSTERS_AT_ONCE",
            default_value = "1",
            value_parser = clap::value_parser!(u16).range(1..)
        )]
        upgrade_clusters_at_once: u16,
        /// How long no other cluster is restarted for that after one was.
        #[arg(long, env = "QUADRAFT_UPGRADE_PAUSE_SECONDS", default_value = "60")]
        upgrade_pause_seconds: u32,
        /// Where health and metrics are served.
        #[arg(long, env = "QUADRAFT_HEALTH_LISTEN", default_value = "[::]:8080")]
        health_listen: SocketAddr,
    },
    /// Print what the operator needs to be allowed, as the rules of a role: those of each namespace
    /// with clusters, and those of the operator's own.
    Rights {
        /// Write one file a role into this folder instead.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Print the definitions of the custom resources.
    Crds {
        /// Write one file a kind into this folder instead.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes: Vec<String> = std::iter::successors(error.source(), |cause| cause.source())
                .map(ToString::to_string)
                .collect();
            tracing::error!(%error, causes = causes.join(": "), "the operator ended");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Rights { directory } => {
            use std::io::Write;
            for (scope, name) in [(Scope::Watched, "watched"), (Scope::Own, "own")] {
                match &directory {
                    Some(directory) => {
                        std::fs::write(directory.join(format!("{name}.yaml")), scope.yaml())?;
                    }
                    None => write!(std::io::stdout(), "# {name}\n{}", scope.yaml())?,
                }
            }
        }
        Command::Crds { directory: None } => {
            use std::io::Write;
            std::io::stdout().write_all(crds::stream()?.as_bytes())?;
        }
        Command::Crds {
            directory: Some(directory),
        } => crds::write_directory(&directory)?,
        Command::Run {
            watch_namespaces,
            node_image_repository,
            lease_namespace,
            lease_name,
            identity,
            upgrade_clusters_at_once,
            upgrade_pause_seconds,
            health_listen,
        } => {
            // A restarted operator is another holder: its predecessor may still be acting.
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "quadraft-operator".to_owned());
            let identity = identity.unwrap_or_else(|| format!("{host}_{}", uuid::Uuid::new_v4()));
            let options = Options {
                watch_namespaces: watch_namespaces
                    .into_iter()
                    .filter(|namespace| !namespace.is_empty())
                    .collect(),
                node_image_repository,
                lease_namespace,
                lease_name,
                identity,
                health_listen,
                upgrade_restarts: Limits {
                    clusters: usize::from(upgrade_clusters_at_once),
                    pause: Duration::from_secs(u64::from(upgrade_pause_seconds)),
                },
            };
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?
                .block_on(run(options))?;
        }
    }
    Ok(())
}
