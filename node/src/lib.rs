//! A replicated SPARQL 1.1 database node.
//!
//! Dependencies point one way:
//! `disk <- identity, log, state <- entry, snapshots <- recovery, sparql <- raft <- scrub, http, grpc <- commands`.

pub mod commands;
mod describe;
pub mod disk;
mod entry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod log;
pub mod metrics;
mod planted;
pub mod position;
pub mod raft;
pub mod recovery;
pub mod scrub;
pub mod snapshots;
pub mod sparql;
pub mod state;
#[cfg(test)]
mod testing;
