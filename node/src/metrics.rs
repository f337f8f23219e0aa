//! What this node counts, in the text format of OpenMetrics.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::sparql::query::QueryError;

/// The media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a node. Names begin with `quadraft_`; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// What is counted of HTTP.
    pub http: HttpMetrics,
    /// What is counted of queries.
    pub queries: QueryMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("quadraft");
        let http = HttpMetrics::default();
        http.register(&mut registry);
        let queries = QueryMetrics::default();
        queries.register(&mut registry);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            http,
            queries,
        }
    }
}

impl Metrics {
    /// Lets another part of the node register what it counts. The prefix is added here.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// The labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// One of the known paths, or `other`: clients do not make labels.
    pub route: &'static str,
    /// One of the known methods, or `other`.
    pub method: &'static str,
    /// The status code.
    pub status: u16,
}

/// The label of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// As in [`RequestLabels`].
    pub route: &'static str,
}

/// What is counted of HTTP.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    request_bytes: Counter,
    response_bytes: Counter,
}

impl fmt::Debug for HttpMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HttpMetrics")
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    30.0, 60.0,
                ])
            }),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
        }
    }
}

impl HttpMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "HTTP requests that got the head of a response",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request to the head of its response",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "http_request_body",
            "Bytes of request bodies read",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        registry.register_with_unit(
            "http_response_body",
            "Bytes of response bodies handed to connections",
            Unit::Bytes,
            self.response_bytes.clone(),
        );
    }

    pub(crate) fn count(&self, labels: RequestLabels, duration: Duration) {
        self.durations
            .get_or_create(&RouteLabels {
                route: labels.route,
            })
            .observe(duration.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn count_request_bytes(&self, bytes: usize) {
        self.request_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn count_response_bytes(&self, bytes: u64) {
        self.response_bytes.inc_by(bytes);
    }
}

/// Why a query had no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// What is counted of queries and dumps.
#[derive(Clone, Debug, Default)]
pub struct QueryMetrics {
    running: Gauge,
    waiting: Gauge,
    cancelled: Family<ReasonLabels, Counter>,
    result_rows: Counter,
}

/// One more, until dropped.
#[derive(Debug)]
pub(crate) struct OneMore(Gauge);

impl OneMore {
    fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl QueryMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "queries_running",
            "Queries and dumps that have a thread",
            self.running.clone(),
        );
        registry.register(
            "queries_waiting",
            "Queries and dumps that wait for a thread",
            self.waiting.clone(),
        );
        registry.register(
            "queries_cancelled",
            "Queries and dumps that were stopped before their end, by reason",
            self.cancelled.clone(),
        );
        registry.register(
            "query_result_rows",
            "Rows, triples and quads of whole results",
            self.result_rows.clone(),
        );
    }

    pub(crate) fn running(&self) -> OneMore {
        OneMore::of(&self.running)
    }

    pub(crate) fn waiting(&self) -> OneMore {
        OneMore::of(&self.waiting)
    }

    pub(crate) fn count_rows(&self, rows: u64) {
        self.result_rows.inc_by(rows);
    }

    /// Counts a failure if it was one of the bounds that ended the query.
    pub(crate) fn count_failure(&self, error: &QueryError) {
        let reason = match error {
            QueryError::TimedOut { .. } => "timeout",
            QueryError::TooLarge(_) => "size",
            QueryError::OutOfMemory => "memory",
            QueryError::Disconnected => "disconnect",
            _ => return,
        };
        self.cancelled.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// How many have a thread now.
    pub fn currently_running(&self) -> i64 {
        self.running.get()
    }

    #[cfg(test)]
    pub(crate) fn cancelled(&self, reason: &'static str) -> u64 {
        self.cancelled.get_or_create(&ReasonLabels { reason }).get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_have_the_prefix_and_the_unit() {
        let metrics = Metrics::default();
        metrics.http.count(
            RequestLabels {
                route: "/query",
                method: "GET",
                status: 200,
            },
            Duration::from_millis(3),
        );
        metrics.queries.count_failure(&QueryError::OutOfMemory);
        let text = metrics.encode().unwrap();
        for line in [
            "quadraft_http_requests_total{route=\"/query\",method=\"GET\",status=\"200\"} 1",
            "quadraft_http_request_duration_seconds_count{route=\"/query\"} 1",
            "quadraft_queries_running 0",
            "quadraft_queries_cancelled_total{reason=\"memory\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn others_register_under_the_same_prefix() {
        let metrics = Metrics::default();
        let term: Gauge = Gauge::default();
        term.set(7);
        metrics.register(|registry| registry.register("raft_term", "The term", term.clone()));
        assert!(metrics.encode().unwrap().contains("quadraft_raft_term 7"));
    }
}
