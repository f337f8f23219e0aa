//! SPARQL in, results or ground effects out.

mod complexity;
mod nesting;
pub mod query;
pub mod reserved;
pub mod update;
