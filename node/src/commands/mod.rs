//! The commands of the node program: each prints one JSON report on stdout, logs on stderr, and
//! ends with a documented exit code (docs/operations/exit-codes.md).

mod arguments;
mod backup;
mod backup_store;
mod bootstrap;
mod collect;
mod database;
mod delete_backup;
mod export;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gauges;
mod inspect;
mod new_file;
mod output;
mod progress;
mod recover;
mod restore;
mod serve;
mod starting;
mod verify;

use std::time::Duration;

use quadraft_protocol::ExitCode;

pub use arguments::Arguments;
use arguments::{Command, LogFormat};
use output::Output;

/// How long work that is under way may hold up the end of the process.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// Runs a command, and ends the process with its code.
pub fn run(arguments: Arguments) -> ! {
    start_logging(arguments.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "failed to start the runtime");
            end(ExitCode::Failure);
        }
    };
    let code = match arguments.command {
        Command::Serve(options) => runtime.block_on(serve::serve(*options)),
        Command::Verify(options) => verify::verify(&options),
        Command::Inspect(options) => inspect::inspect(&options),
        Command::Collect(options) => collect::collect(&options),
        Command::Export(options) => runtime.block_on(export::export(options)),
        Command::Recover(options) => recover::recover(&options),
        Command::Backup(options) => runtime.block_on(backup::backup(options)),
        Command::DeleteBackup(options) => runtime.block_on(delete_backup::delete_backup(options)),
        Command::Restore(options) => runtime.block_on(restore::restore(options)),
    };
    // Nothing may hold the end back for long: what counts is durable.
    runtime.shutdown_timeout(SHUTDOWN_DEADLINE);
    end(code);
}

/// Ends the process as it is. RocksDB takes it down with a signal when a thread still uses it while
/// the process tidies up, and the exit code would be lost: scrubbing may read, and an evaluation over
/// a damaged store never ends.
fn end(code: ExitCode) -> ! {
    signal_hook::low_level::exit(code as i32)
}

/// While a member is gone each heartbeat to it would write a line, ten a second: the leader's status says
/// when each member answered last.
const LOG_FILTER: &str = "info,openraft=warn,openraft::core::heartbeat=error";

fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Progress on a terminal; nothing elsewhere.
fn output_progress(total_bytes: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(total_bytes);
    if let Ok(style) = indicatif::ProgressStyle::with_template(
        "{bytes}/{total_bytes} {bar:40} {bytes_per_sec} {eta}",
    ) {
        bar.set_style(style);
    }
    bar
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
