//! SPARQL in, results or ground effects out.

mod complexity;
pub(crate) mod evaluation;
mod nesting;
pub mod query;
pub mod reserved;
mod template;
pub mod update;
