//! Writes in, ground effects out.
//!
//! The leader evaluates each write on its own state, under no lock and without changing anything:
//! what comes out are the quads that go and come, with blank nodes named and NOW, RAND and UUID
//! decided. Those are proposed to the log and applied by every replica alike.

mod budget;
mod error;
mod group;
mod operations;
mod request;
mod reserved;
mod upload;
mod using;
mod workspace;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub use budget::EvaluationLimits;
pub use error::WriteError;
pub use group::{Evaluated, Evaluation, evaluate_group};
pub use request::{Target, UsingGraphs, Write};
