//! The bounds of the HTTP edge.

use std::time::Duration;

use super::Origin;
use crate::sparql::query::QueryLimits;

/// The bounds of the HTTP edge.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// What queries may use.
    pub queries: QueryLimits,
    /// The longest body of a request.
    pub maximum_request_bytes: usize,
    /// The most memory for all bodies of requests together.
    pub maximum_bodies_bytes: usize,
    /// How long the next part of a body is waited for.
    pub body_patience: Duration,
    /// How long a write may take until its outcome is called unknown.
    pub write_timeout: Duration,
    /// How long a read waits for a state that is fresh enough.
    pub read_barrier_timeout: Duration,
    /// The origins whose pages may read and write; none by default.
    pub cors_origins: Vec<Origin>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            queries: QueryLimits::default(),
            maximum_request_bytes: 64 << 20,
            maximum_bodies_bytes: 256 << 20,
            body_patience: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            read_barrier_timeout: Duration::from_secs(5),
            cors_origins: Vec::new(),
        }
    }
}
