//! What the thread of a query does.

use std::io;

use oxigraph::sparql::{QueryEvaluationError, QueryResults};
use oxrdf::{GraphName, GraphNameRef, NamedNode, Triple};
use oxrdfio::RdfSerializer;
use sparesults::QueryResultsSerializer;
use spargebra::Query;

use super::engine::DumpTarget;
use super::form::{Form, Written};
use super::format::{ResultFormat, ResultKind, negotiate};
use super::parse::{self, QueryText};
use super::sink::{Head, Sink, stopped};
use super::{QueryError, QueryLimits};
use crate::sparql::evaluation::{self, Broken, Stop, Switch};
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
        let form = Form::take(&mut query);
        evaluation::prepare(&mut query);
        sink.look()?;
        let view = state.view();
        let reading = view.read().map_err(storage)?;
        sink.describe(head(format, &reading));
        let evaluating = || self.evaluate(query, &form, &reading, format, sink);
        match evaluation::run(evaluating) {
            Ok(result) => result,
            Err(Broken::Stopped) => {
                let stop = self.switch.reason().unwrap_or(Stop::TimedOut);
                if stop == Stop::StoreDamaged {
                    reading.note_damage("a term in the store cannot be read");
                }
                Err(stopped(stop, self.limits))
            }
            Err(Broken::Panicked(message)) => Err(QueryError::Internal(message)),
        }
    }

    fn evaluate(
        &self,
        query: Query,
        form: &Form,
        reading: &Reading<'_>,
        format: ResultFormat,
        sink: &mut Sink,
    ) -> Result<u64, QueryError> {
        let failed = |error| self.failed(error, reading);
        let mut rows = sink.row_counter();
        let results = evaluation::evaluator(&self.switch)
            .for_query(query)
            .on_transaction(reading.transaction())
            .execute()
            .map_err(failed)?;
        match (results, format, form) {
            (
                QueryResults::Solutions(mut solutions),
                ResultFormat::Table(format),
                Form::Boolean,
            ) => {
                rows.count()?;
                let is_there = solutions.next().transpose().map_err(failed)?.is_some();
                QueryResultsSerializer::from_format(format)
                    .serialize_boolean_to_writer(sink, is_there)
                    .map_err(written)?;
            }
            (QueryResults::Solutions(solutions), ResultFormat::Table(format), _) => {
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
            (
                QueryResults::Solutions(solutions),
                ResultFormat::Rdf(format),
                Form::Triples(template),
            ) => {
                let mut serializer = RdfSerializer::from_format(format).for_writer(sink);
                let mut written_triples = Written::default();
                for solution in solutions {
                    for triple in template.fill_in(&solution.map_err(failed)?) {
                        if written_triples.is_new(&triple) {
                            rows.count()?;
                            serializer.serialize_triple(&triple).map_err(written)?;
                        }
                    }
                }
                serializer.finish().map_err(written)?;
            }
            (QueryResults::Graph(triples), ResultFormat::Rdf(format), _) => {
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

    fn failed(&self, error: QueryEvaluationError, reading: &Reading<'_>) -> QueryError {
        match error {
            QueryEvaluationError::Dataset(error) => {
                reading.note_damage(&error.to_string());
                QueryError::StoreDamaged
            }
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
            && !reading.has_named_graph(node).map_err(storage)?
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
                let quads = reading.quads_for_pattern(None, None, None, Some(graph));
                for quad in quads {
                    rows.count()?;
                    serializer
                        .serialize_triple(Triple::from(quad.map_err(storage)?).as_ref())
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
    if error.is_damage() {
        return QueryError::StoreDamaged;
    }
    QueryError::Internal(error.to_string())
}
