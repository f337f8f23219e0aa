//! Nodes as processes on this machine, for tests that kill and damage them.

mod node;
mod writer;

pub use node::{LocalNode, RunResult, free_ports, run_node};
pub use writer::{Acknowledged, Writer};
