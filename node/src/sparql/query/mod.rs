//! Queries in, streams of results out.
//!
//! A [`QueryEngine`] parses a query, hides the reserved graph from it, and evaluates it on one
//! consistent view of the store, on a thread of its own whose results flow through a bounded
//! channel. Time, memory, size and number are bounded; whatever ends a query early frees its
//! thread soon after.

mod engine;
mod error;
mod evaluate;
mod form;
mod format;
mod parse;
mod sink;
mod slots;

#[cfg(test)]
mod damaged_store_tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub use engine::{Answer, DumpTarget, QueryEngine, QueryLimits};
pub use error::QueryError;
pub use format::{ResultFormat, ResultKind, negotiate};
pub use parse::QueryText;
pub use sink::ResultStream;
