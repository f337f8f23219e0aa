//! The HTTP edge: SPARQL 1.1 Protocol, Graph Store HTTP Protocol, health, metrics, a query page.
//!
//! [`router`] builds the service over a [`Database`]; [`serve`] runs it until it is told to stop.

mod base;
mod body;
mod cross_origin;
mod database;
mod error;
mod graph_store;
mod headers;
mod health;
mod observe;
mod options;
mod page;
mod parameters;
mod query;
mod router;
mod server;
mod sparql;
mod starting;
mod update;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
mod testing;
#[cfg(test)]
mod tests;

pub use cross_origin::{Origin, ParseOriginError};
pub use database::{Committed, Consistency, Database, ReadFailure, ReadPoint, WriteFailure};
pub use options::HttpOptions;
pub use router::{metrics_router, router};
pub use server::serve;
pub use starting::{Starting, starting_router};
