//! RdfRestore: makes a cluster from a backup and follows it until the same data is served.

pub mod reconcile;

pub use reconcile::reconcile;
