//! Whole clusters in one process: real nodes on simulated disks, with a network of function calls
//! and a clock that jumps whenever nobody has anything to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod at_rest;
mod cluster;
mod disk_failures;
mod full_disks;
mod history;
mod lagging;
mod matrix;
mod power_loss;
mod run;
mod scrubbing;
mod set_back;
mod traces;
mod wires;
