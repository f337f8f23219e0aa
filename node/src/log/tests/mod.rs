//! The log on simulated disks: damaged, crashed, both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod crashes;
mod damage;
mod workload;

/// Says how far a long run is, ten times.
fn show_progress(what: &str, done: u64, total: u64) {
    if total >= 10_000 && done.is_multiple_of(total / 10) {
        println!("{what}: {done} of {total}");
    }
}

/// How many cases to try: so many, times `QUADRAFT_FAULTS_FACTOR` when that is set.
fn cases(usual: u64) -> u64 {
    std::env::var("QUADRAFT_FAULTS_FACTOR")
        .ok()
        .and_then(|factor| factor.parse::<u64>().ok())
        .map_or(usual, |factor| usual * factor)
}
