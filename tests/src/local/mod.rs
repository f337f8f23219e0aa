//! Nodes as processes on this machine, for tests that kill and damage them.

mod disk;
mod membership;
mod network;
mod node;
mod writer;

pub use disk::SmallDisk;
pub use membership::{initialise, replace_member};
pub use network::HostNetwork;
pub(crate) use network::peer_rules;
pub use node::{LocalNode, RunResult, free_ports, program, run_node, run_node_with};
pub use writer::{Acknowledged, Writer};
