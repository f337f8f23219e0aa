//! A replicated SPARQL 1.1 database node.
//!
//! Dependencies point one way:
//! `disk <- identity, log, state <- recovery, sparql <- raft <- http, grpc <- commands`.

pub mod disk;
pub mod grpc;
pub mod identity;
pub mod log;
pub mod position;
pub mod raft;
pub mod recovery;
pub mod sparql;
pub mod state;
