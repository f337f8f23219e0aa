//! The log on simulated disks: damaged, crashed, both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod crashes;
mod damage;
mod versions;
mod workload;
