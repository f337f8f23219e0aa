//! What the thread of a query does.

use std::io;

use oxigraph::sparql::{QueryEvaluationError, QueryResults};
use oxigraph::store::StorageError;
use oxrdf::{GraphName, GraphNameRef, NamedNode, Triple};
use oxrdfio::RdfSerializer;
use sparesults::QueryResultsSerializer;
use spargebra::Query;

use super::engine::DumpTarget;
use super::format::{ResultFormat, ResultKind, negotiate};
use super::guard::{self, Switch};
use super::parse::{self, QueryText};
use super::sink::{Head, Sink, stopped};
use super::{QueryError, QueryLimits, shield};
use crate::sparql::reserved;
use crate::state::{Reading, State, StateError};

/// What a query's thread is given.
pub(super) struct QueryTask {
    pub(super) query: QueryText,
    pub(super) accept: Option<String>,
    pub(super) limits: QueryLimits,
    pub(super) switch: Switch,
}

impl QueryTask {
    /// Returns the number of rows.
    pub(super) fn run(&self, state: &State, sink: &mut Sink) -> Result<u64, QueryError> {
        let mut query = parse::parse(&self.query, self.limits.maximum_text_bytes)?;
        let format = negotiate(ResultKind::of(&query), self.accept.as_deref())?;
        shield::insert(&mut query);
        sink.look()?;
        let view = state.view();
        let reading = view.read().map_err(storage)?;
        sink.describe(head(format, &reading));
        self.evaluate(query, &reading, format, sink)
    }

    fn evaluate(
        &self,
        query: Query,
        reading: &Reading<'_>,
        format: ResultFormat,
        sink: &mut Sink,
    ) -> Result<u64, QueryError> {
        let failed = |error| self.failed(error);
        let mut rows = sink.row_counter();
        let results = guard::evaluator(&self.switch)
            .for_query(query)
            .on_transaction(reading.transaction())
            .execute()
            .map_err(failed)?;
        match (results, format) {
            (QueryResults::Boolean(value), ResultFormat::Table(format)) => {
                rows.count()?;
                QueryResultsSerializer::from_format(format)
                    .serialize_boolean_to_writer(sink, value)
                    .map_err(written)?;
            }
            (QueryResults::Solutions(solutions), ResultFormat::Table(format)) => {
                let mut serializer = QueryResultsSerializer::from_format(format)
                    .serialize_solutions_to_writer(sink, solutions.variables().to_vec())
                    .map_err(written)?;
                for solution in solutions {
                    rows.count()?;
                    serializer
                        .serialize(&solution.map_err(failed)?)
                        .map_err(written)?;
                }
                serializer.finish().map_err(written)?;
            }
            (QueryResults::Graph(triples), ResultFormat::Rdf(format)) => {
                let mut serializer = RdfSerializer::from_format(format).for_writer(sink);
                for triple in triples {
                    rows.count()?;
                    serializer
                        .serialize_triple(&triple.map_err(failed)?)
                        .map_err(written)?;
                }
                serializer.finish().map_err(written)?;
            }
            _ => {
                return Err(QueryError::Internal(
                    "the result is of another kind than the query".into(),
                ));
            }
        }
        Ok(rows.rows())
    }

    fn failed(&self, error: QueryEvaluationError) -> QueryError {
        match error {
            QueryEvaluationError::Cancelled => match self.switch.reason() {
                Some(stop) => stopped(stop, self.limits),
                None => QueryError::Internal("the query was cancelled".into()),
            },
            QueryEvaluationError::UnsupportedCustomFunction(_)
            | QueryEvaluationError::UnsupportedCustomFunctionArity { .. } => {
                QueryError::Unsupported(error.to_string())
            }
            error => QueryError::Internal(error.to_string()),
        }
    }
}

/// Writes a part of the data, or only says how it would be written.
pub(super) struct DumpTask {
    pub(super) target: DumpTarget,
    pub(super) accept: Option<String>,
    pub(super) head_only: bool,
}

impl DumpTask {
    /// Returns the number of quads.
    pub(super) fn run(&self, state: &State, sink: &mut Sink) -> Result<u64, QueryError> {
        let graph = match &self.target {
            DumpTarget::Dataset => None,
            DumpTarget::DefaultGraph => Some(GraphName::DefaultGraph),
            DumpTarget::NamedGraph(iri) => {
                let node = NamedNode::new(iri.as_str()).map_err(|error| {
                    QueryError::malformed(format!("the graph {iri:?} has no valid IRI: {error}"))
                })?;
                reserved::check_graph_name(&node)?;
                Some(GraphName::NamedNode(node))
            }
        };
        let kind = match graph {
            None => ResultKind::Dataset,
            Some(_) => ResultKind::Graph,
        };
        let format = negotiate(kind, self.accept.as_deref())?;
        let ResultFormat::Rdf(rdf_format) = format else {
            return Err(QueryError::Internal("data is no table".into()));
        };
        let view = state.view();
        let reading = view.read().map_err(storage)?;
        if let Some(GraphName::NamedNode(node)) = &graph
            && !reading
                .transaction()
                .contains_named_graph(node)
                .map_err(internal)?
        {
            return Err(QueryError::UnknownGraph(node.as_str().to_owned()));
        }
        sink.describe(head(format, &reading));
        if self.head_only {
            return Ok(0);
        }
        let mut rows = sink.row_counter();
        let mut serializer = RdfSerializer::from_format(rdf_format).for_writer(sink);
        match &graph {
            None => {
                for quad in reading.quads() {
                    rows.count()?;
                    serializer
                        .serialize_quad(&quad.map_err(storage)?)
                        .map_err(written)?;
                }
            }
            Some(graph) => {
                let graph = GraphNameRef::from(graph);
                let quads = reading
                    .transaction()
                    .quads_for_pattern(None, None, None, Some(graph));
                for quad in quads {
                    rows.count()?;
                    serializer
                        .serialize_triple(Triple::from(quad.map_err(internal)?).as_ref())
                        .map_err(written)?;
                }
            }
        }
        serializer.finish().map_err(written)?;
        Ok(rows.rows())
    }
}

fn head(format: ResultFormat, reading: &Reading<'_>) -> Head {
    Head {
        media_type: format.media_type(),
        log_index: reading.status().applied.map_or(0, |applied| applied.index),
    }
}

/// What the sink itself had to say, out of what a serialiser made of it.
fn written(error: io::Error) -> QueryError {
    let message = error.to_string();
    error
        .into_inner()
        .and_then(|inner| inner.downcast::<QueryError>().ok())
        .map_or(QueryError::Internal(message), |error| *error)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn storage(error: StateError) -> QueryError {
    QueryError::Internal(error.to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(error: StorageError) -> QueryError {
    QueryError::Internal(error.to_string())
}
