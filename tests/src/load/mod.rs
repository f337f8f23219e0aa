//! Loading N-Quads into a running cluster, in batches that survive the death of a leader.
//!
//! Each batch is one request and so one atomic write. It carries an `Idempotency-Key` of its own,
//! therefore a batch whose outcome is unknown can be sent again without being applied twice.

mod batches;
mod client;
mod progress;

pub use batches::{Batch, Batches, SourceError};
pub use client::{LoadError, LoadOptions, Summary, load};
pub use progress::{Display, Progress, Total};
