//! RdfBackup: one Job that streams a consistent snapshot to a store.

mod data;
mod decide;
pub mod reconcile;
pub mod schedule;

pub use reconcile::reconcile;
