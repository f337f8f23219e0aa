//! Where queries enter.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::QueryError;
use super::evaluate::{DumpTask, QueryTask};
use super::parse::QueryText;
use super::sink::{self, ResultStream, Sink};
use super::slots::Slots;
use crate::metrics::QueryMetrics;
use crate::sparql::evaluation::{self, Allowance, Broken, Stop, Switch};
use crate::state::State;

/// Parsing and planning recurse into the query. Only what is used of this takes memory.
pub(super) const STACK_BYTES: usize = 256 << 20;

/// What queries may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// The longest time from the start of an evaluation until the client has the whole result.
    pub timeout: Duration,
    /// How long a client that takes nothing of a dump is waited for.
    pub dump_patience: Duration,
    /// How many queries and dumps run at a time.
    pub maximum_concurrent: usize,
    /// How many more wait for a place.
    pub maximum_waiting: usize,
    /// How long each waits for a place.
    pub maximum_wait: Duration,
    /// The longest text of a query.
    pub maximum_text_bytes: usize,
    /// The most rows, or triples, of a result. Dumps are not bounded.
    pub maximum_rows: u64,
    /// The most bytes of a result. Dumps are not bounded.
    pub maximum_bytes: u64,
    /// How much the process may grow while a query runs, before that query is stopped.
    pub maximum_growth_bytes: u64,
}

impl Default for QueryLimits {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            timeout: Duration::from_secs(30),
            dump_patience: Duration::from_secs(30),
            maximum_concurrent: (processors * 2).max(4),
            maximum_waiting: 32,
            maximum_wait: Duration::from_secs(5),
            maximum_text_bytes: 1 << 20,
            maximum_rows: 10_000_000,
            maximum_bytes: 4 << 30,
            maximum_growth_bytes: 1 << 30,
        }
    }
}

/// What of the data a dump has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpTarget {
    /// The default graph and all named graphs of the users.
    Dataset,
    /// The default graph.
    DefaultGraph,
    /// One named graph, by its IRI.
    NamedGraph(String),
}

/// The beginning of an answer. What follows comes through the stream.
#[derive(Debug)]
pub struct Answer {
    /// The value of the `Content-Type` header.
    pub media_type: &'static str,
    /// The log index of the view that answers.
    pub log_index: u64,
    /// The bytes. A stream that ends in an error is no whole document.
    pub body: ResultStream,
}

/// Evaluates queries within bounds.
#[derive(Debug)]
pub struct QueryEngine {
    limits: QueryLimits,
    slots: Slots,
    metrics: QueryMetrics,
}

impl QueryEngine {
    /// An engine that counts what it does.
    pub fn new(limits: QueryLimits, metrics: QueryMetrics) -> Self {
        Self {
            limits,
            slots: Slots::new(limits.maximum_concurrent, limits.maximum_waiting),
            metrics,
        }
    }

    /// The bounds.
    pub fn limits(&self) -> QueryLimits {
        self.limits
    }

    /// Evaluates a query. Returns when the first bytes of the result are there or all of it.
    pub async fn query(
        &self,
        state: Arc<State>,
        query: QueryText,
        accept: Option<String>,
    ) -> Result<Answer, QueryError> {
        let switch = Switch::default();
        let allowance = Allowance {
            deadline: Instant::now().checked_add(self.limits.timeout),
            maximum_growth_bytes: self.limits.maximum_growth_bytes,
        };
        let task = QueryTask {
            query,
            accept,
            limits: self.limits,
            switch: switch.clone(),
        };
        self.start(
            state,
            &switch,
            allowance,
            self.limits,
            None,
            move |state, sink| task.run(state, sink),
        )
        .await
    }

    /// Writes a part of the data. With `head_only` it has no body.
    pub async fn dump(
        &self,
        state: Arc<State>,
        target: DumpTarget,
        accept: Option<String>,
        head_only: bool,
    ) -> Result<Answer, QueryError> {
        let allowance = Allowance {
            deadline: None,
            maximum_growth_bytes: u64::MAX,
        };
        let limits = QueryLimits {
            maximum_rows: u64::MAX,
            maximum_bytes: u64::MAX,
            timeout: self.limits.dump_patience,
            ..self.limits
        };
        let task = DumpTask {
            target,
            accept,
            head_only,
        };
        let patience = Some(limits.dump_patience);
        self.start(
            state,
            &Switch::default(),
            allowance,
            limits,
            patience,
            move |state, sink| task.run(state, sink),
        )
        .await
    }

    async fn start(
        &self,
        state: Arc<State>,
        switch: &Switch,
        allowance: Allowance,
        limits: QueryLimits,
        patience: Option<Duration>,
        work: impl FnOnce(&State, &mut Sink) -> Result<u64, QueryError> + Send + 'static,
    ) -> Result<Answer, QueryError> {
        let wait = self.limits.maximum_wait.min(self.limits.timeout);
        let permit = {
            let _waiting = self.metrics.waiting();
            self.slots.acquire(wait).await?
        };
        let (mut sink, head, body) = sink::channel(limits, switch, patience);
        let watch = evaluation::watch(switch, allowance);
        let metrics = self.metrics.clone();
        let running = metrics.running();
        let switch = switch.clone();
        thread::Builder::new()
            .name("query".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let result = evaluation::run(|| work(&state, &mut sink)).unwrap_or_else(|broken| {
                    Err(match broken {
                        Broken::Stopped => {
                            sink::stopped(switch.reason().unwrap_or(Stop::TimedOut), limits)
                        }
                        Broken::Panicked(message) => QueryError::Internal(message),
                    })
                });
                if let Ok(rows) = &result {
                    metrics.count_rows(*rows);
                }
                if let Err(error) = sink.finish(result.map(|_rows| ())) {
                    metrics.count_failure(&error);
                    tracing::debug!(%error, "a query failed");
                }
                // All that the evaluation held is freed by now.
                drop((state, watch, running, permit));
            })
            .map_err(|error| QueryError::Internal(format!("could not start a thread: {error}")))?;
        // When the caller goes away here, `body` is dropped, which stops the evaluation.
        match head.await {
            Ok(Ok(head)) => Ok(Answer {
                media_type: head.media_type,
                log_index: head.log_index,
                body,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(QueryError::Internal("the evaluation ended early".into())),
        }
    }
}
