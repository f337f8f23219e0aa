//! The `quadraft-node` program.

use clap::Parser as _;
use quadraft_node::commands::{Arguments, run};

fn main() {
    run(Arguments::parse())
}
