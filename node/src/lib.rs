//! The Quadraft database node.

pub mod http;
pub mod metrics;
pub mod sparql;
pub mod state;
