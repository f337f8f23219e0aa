//! The operator's command line.
//!
//! What `run` needs to be allowed, in each watched namespace (a ClusterRole and a binding in each,
//! or for all):
//!
//! | group | resources | verbs |
//! |---|---|---|
//! | quadraft.dev | rdfclusters | get list watch create patch update |
//! | quadraft.dev | rdfbackups | get list watch create patch update delete |
//! | quadraft.dev | rdfbackupschedules, rdfrestores | get list watch patch update |
//! | quadraft.dev | rdfclusters/status, rdfbackups/status, rdfbackupschedules/status, rdfrestores/status | get patch update |
//! | quadraft.dev | rdfclusters/finalizers, rdfbackups/finalizers | update |
//! | apps | statefulsets | get list watch create patch update delete |
//! | batch | jobs | get list watch create patch update |
//! | policy | poddisruptionbudgets | get create patch update |
//! | (core) | services, configmaps, serviceaccounts | get create patch update |
//! | (core) | persistentvolumeclaims | get list create patch update delete |
//! | (core) | pods | get list watch delete |
//! | (core) | secrets | get (metadata only is read: that a named secret exists) |
//! | events.k8s.io | events | create patch |
//!
//! and in the namespace of the lease: coordination.k8s.io leases: get create update.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use quadraft_operator::api::crds;
use quadraft_operator::run::{Options, run};

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
        /// The namespace to watch; all namespaces when absent.
        #[arg(long, env = "QUADRAFT_WATCH_NAMESPACE")]
        watch_namespace: Option<String>,
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
        /// Who this operator is in the lease; its host name, which is its pod's, when absent.
        #[arg(long, env = "QUADRAFT_IDENTITY")]
        identity: Option<String>,
        /// Where health and metrics are served.
        #[arg(long, env = "QUADRAFT_HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
        health_listen: SocketAddr,
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
        Command::Crds { directory: None } => {
            use std::io::Write;
            std::io::stdout().write_all(crds::stream()?.as_bytes())?;
        }
        Command::Crds {
            directory: Some(directory),
        } => crds::write_directory(&directory)?,
        Command::Run {
            watch_namespace,
            node_image_repository,
            lease_namespace,
            identity,
            health_listen,
        } => {
            // A restarted operator is another holder: its predecessor may still be acting.
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "quadraft-operator".to_owned());
            let identity = identity.unwrap_or_else(|| format!("{host}_{}", uuid::Uuid::new_v4()));
            let options = Options {
                watch_namespace: watch_namespace.filter(|namespace| !namespace.is_empty()),
                node_image_repository,
                lease_namespace,
                identity,
                health_listen,
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
