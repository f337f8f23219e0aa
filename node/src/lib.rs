//! The Quadraft database node.

pub mod sparql;
pub mod state;
