//! Measuring, for `make bench`: candidates take turns in one run, and medians are compared, because
//! machines are shared and noisy.

mod append;
mod candidate;
mod repair;
mod table;

use std::time::Duration;

pub use append::{AppendPlan, Ratio, measure_appends};
pub use candidate::{Candidate, CandidateError, CandidateSpecification};
pub use repair::{RepairPlan, measure_repair};
pub use table::markdown_table;

/// The middle one, or the upper of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
