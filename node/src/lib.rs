//! The Quadraft database node.

pub mod metrics;
pub mod sparql;
pub mod state;
