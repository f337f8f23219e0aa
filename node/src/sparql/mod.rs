//! SPARQL in, results or ground effects out.

pub mod query;
pub mod reserved;
pub mod update;
