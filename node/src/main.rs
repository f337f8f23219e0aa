//! The `quadraft-node` program.

use std::process::ExitCode;

use clap::Parser as _;
use quadraft_node::commands::{Arguments, run};

fn main() -> ExitCode {
    run(Arguments::parse())
}
