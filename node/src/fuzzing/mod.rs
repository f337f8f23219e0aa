//! What fuzzing calls: one function for each parser of bytes that come from a disk or a network
//! (docs/fuzzing.md). A function panics when it has found something.
//!
//! `fuzz/` calls them guided by coverage. The tests of this folder call them in the usual build, with
//! the stored corpus and with mutations of it.

mod input;
mod twin;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;

pub(crate) use input::Input;

pub use crate::commands::fuzzing::backup_manifest;
pub use crate::grpc::fuzzing::peer_message;
pub use crate::http::fuzzing::http_request;
#[cfg(test)]
pub(crate) use crate::log::fuzzing::seal_segment_header;
pub use crate::log::fuzzing::{log_parts, log_segments};
pub use crate::raft::fuzzing::{peers_file, raft_payload};
pub use crate::sparql::query::fuzzing::sparql_query;
pub use crate::sparql::update::fuzzing::{rdf_upload, sparql_update};
pub use crate::state::fuzzing::{command, snapshot, store_records};
pub(crate) use twin::seal as seal_twin;
pub use twin::twin;

/// A target: its name, which is that of its folder in the corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 14] = [
    ("backup_manifest", backup_manifest),
    ("command", command),
    ("http_request", http_request),
    ("log_parts", log_parts),
    ("log_segments", log_segments),
    ("peer_message", peer_message),
    ("peers_file", peers_file),
    ("raft_payload", raft_payload),
    ("rdf_upload", rdf_upload),
    ("snapshot", snapshot),
    ("sparql_query", sparql_query),
    ("sparql_update", sparql_update),
    ("store_records", store_records),
    ("twin", twin),
];
