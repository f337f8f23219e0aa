//! The log on simulated disks: damaged, crashed, both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crashes;
mod damage;
mod workload;

/// How many cases to try: so many, times `QUADRAFT_FAULTS_FACTOR` when that is set.
fn cases(usual: u64) -> u64 {
    std::env::var("QUADRAFT_FAULTS_FACTOR")
        .ok()
        .and_then(|factor| factor.parse::<u64>().ok())
        .map_or(usual, |factor| usual * factor)
}
