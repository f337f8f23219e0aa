//! Measuring, for `make bench`: candidates take turns in one run, and medians are compared, because
//! machines are shared and noisy.

mod append;
mod candidate;
mod queries;
mod repair;
mod table;
mod updates;

use std::time::Duration;

pub use append::{AppendPlan, Ratio, measure_appends};
pub use candidate::{Candidate, CandidateError, CandidateSpecification};
pub use queries::{QueryPlan, measure_queries};
pub use repair::{RepairPlan, measure_repair};
pub use table::markdown_table;
pub use updates::{UpdatePlan, measure_updates};

/// The middle one, or the upper of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
