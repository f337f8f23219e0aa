//! SPARQL 1.1 Update, operation by operation.

use indexmap::IndexSet;
use oxigraph::sparql::{QueryEvaluationError, QueryResults, SparqlSyntaxError};
use oxrdf::{GraphName, NamedNode, NamedOrBlankNode, Quad};
use spargebra::algebra::{GraphPattern, GraphTarget, QueryDataset};
use spargebra::term::{GroundQuadPattern, QuadPattern};
use spargebra::{GraphUpdateOperation, Query, SparqlParser, Update};

use super::budget::Budget;
use super::template::{self, FreshBlankNodes};
use super::workspace::Workspace;
use super::{UsingGraphs, WriteError, interrupt, reserved};
use crate::sparql::complexity;

/// Parses an update and applies the protocol's parameters to it.
pub(super) fn parse(
    text: &str,
    base_iri: Option<&str>,
    using_graphs: Option<&UsingGraphs>,
) -> Result<Update, WriteError> {
    complexity::check_update_text(text)?;
    let mut parser = SparqlParser::new();
    if let Some(base_iri) = base_iri {
        parser = parser
            .with_base_iri(base_iri)
            .map_err(|error| WriteError::malformed(format!("the base IRI is invalid: {error}")))?;
    }
    let mut update = parser.parse_update(text).map_err(|error| syntax(&error))?;
    if let Some(graphs) = using_graphs {
        use_graphs(&mut update, graphs)?;
    }
    complexity::check_update(&update)?;
    reserved::guard(&mut update)?;
    Ok(update)
}

fn syntax(error: &SparqlSyntaxError) -> WriteError {
    let message = error.to_string();
    let place = place_of(&message);
    WriteError::Malformed {
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        message,
    }
}

/// The parser tells the place of an error in its message only: "error at 3:14: …".
fn place_of(message: &str) -> Option<(u64, u64)> {
    let mut parts = message.strip_prefix("error at ")?.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn use_graphs(update: &mut Update, graphs: &UsingGraphs) -> Result<(), WriteError> {
    let nodes = |iris: &[String]| {
        iris.iter()
            .map(|iri| {
                NamedNode::new(iri.as_str()).map_err(|error| {
                    WriteError::malformed(format!("the graph {iri} has no valid IRI: {error}"))
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let dataset = QueryDataset {
        default: nodes(&graphs.default)?,
        named: Some(nodes(&graphs.named)?),
    };
    for operation in &mut update.operations {
        if let GraphUpdateOperation::DeleteInsert { using, .. } = operation
            && using.replace(dataset.clone()).is_some()
        {
            return Err(WriteError::malformed(
                "using-graph-uri and using-named-graph-uri cannot be combined with USING or WITH",
            ));
        }
    }
    Ok(())
}

/// Evaluates the operations one after the other.
pub(super) fn evaluate(
    update: Update,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<(), WriteError> {
    for operation in update.operations {
        budget.look()?;
        match operation {
            GraphUpdateOperation::InsertData { data } => {
                let mut fresh = FreshBlankNodes::default();
                for quad in data {
                    workspace.insert(template::inserted_quad(quad, &mut fresh), budget)?;
                }
            }
            GraphUpdateOperation::DeleteData { data } => {
                for quad in data {
                    workspace.delete(template::deleted_quad(quad), budget)?;
                }
            }
            GraphUpdateOperation::DeleteInsert {
                delete,
                insert,
                using,
                pattern,
            } => {
                let changes = Changes {
                    delete,
                    insert,
                    query: Query::Select {
                        dataset: using,
                        pattern: *pattern,
                        base_iri: update.base_iri.clone(),
                    },
                };
                changes.evaluate(workspace, budget)?;
            }
            GraphUpdateOperation::Load { silent, .. } => {
                if !silent {
                    return Err(WriteError::Unsupported {
                        what: "LOAD".into(),
                    });
                }
            }
            GraphUpdateOperation::Create { silent, graph } => {
                let name = NamedOrBlankNode::from(graph);
                if !silent && workspace.graph_exists(&name)? {
                    return Err(WriteError::GraphExists {
                        graph: name.to_string(),
                    });
                }
                workspace.create_graph(name)?;
            }
            GraphUpdateOperation::Clear { silent, graph } => {
                for graph in targets(graph, silent, workspace)? {
                    workspace.clear(&graph, budget)?;
                }
            }
            GraphUpdateOperation::Drop { silent, graph } => {
                for graph in targets(graph, silent, workspace)? {
                    workspace.drop_graph(&graph, budget)?;
                }
            }
        }
    }
    Ok(())
}

fn targets(
    target: GraphTarget,
    silent: bool,
    workspace: &mut Workspace<'_>,
) -> Result<Vec<GraphName>, WriteError> {
    let all_named = |workspace: &mut Workspace<'_>| {
        let graphs = workspace.named_graphs()?;
        Ok::<Vec<GraphName>, WriteError>(graphs.into_iter().map(Into::into).collect())
    };
    match target {
        GraphTarget::DefaultGraph => Ok(vec![GraphName::DefaultGraph]),
        GraphTarget::NamedGraphs => all_named(workspace),
        GraphTarget::AllGraphs => {
            let mut graphs = all_named(workspace)?;
            graphs.push(GraphName::DefaultGraph);
            Ok(graphs)
        }
        GraphTarget::NamedNode(node) => {
            let name = NamedOrBlankNode::from(node);
            if workspace.graph_exists(&name)? {
                Ok(vec![name.into()])
            } else if silent {
                Ok(Vec::new())
            } else {
                Err(WriteError::UnknownGraph {
                    graph: name.to_string(),
                })
            }
        }
    }
}

/// One DELETE/INSERT operation.
struct Changes {
    delete: Vec<GroundQuadPattern>,
    insert: Vec<QuadPattern>,
    query: Query,
}

impl Changes {
    fn evaluate(
        mut self,
        workspace: &mut Workspace<'_>,
        budget: &mut Budget,
    ) -> Result<(), WriteError> {
        self.project();
        let (deleted, inserted) = interrupt::catch(|| self.instantiate(workspace, budget))
            .unwrap_or_else(|| Err(budget.timed_out()))?;
        // All deletions come before all insertions.
        for quad in deleted {
            workspace.delete(quad, budget)?;
        }
        for quad in inserted {
            workspace.insert(quad, budget)?;
        }
        Ok(())
    }

    /// Reduces the solutions to what the templates need.
    fn project(&mut self) {
        if let Query::Select { pattern, .. } = &mut self.query {
            interrupt::insert_filters(pattern);
            let variables = template::variables(&self.delete, &self.insert);
            let constant = variables.is_empty() && !template::makes_blank_nodes(&self.insert);
            *pattern = GraphPattern::Project {
                inner: Box::new(std::mem::take(pattern)),
                variables,
            };
            if constant {
                // The first solution says all that any other could.
                *pattern = GraphPattern::Slice {
                    inner: Box::new(std::mem::take(pattern)),
                    start: 0,
                    length: Some(1),
                };
            }
        }
    }

    fn instantiate(
        self,
        workspace: &mut Workspace<'_>,
        budget: &mut Budget,
    ) -> Result<(IndexSet<Quad>, IndexSet<Quad>), WriteError> {
        let (token, _watch) = budget.cancellation()?;
        let results = interrupt::evaluator(token)
            .for_query(self.query)
            .on_transaction(workspace.transaction()?)
            .execute()
            .map_err(|error| evaluation(error, budget))?;
        let (mut deleted, mut inserted) = (IndexSet::new(), IndexSet::new());
        let mut fresh = FreshBlankNodes::default();
        let QueryResults::Solutions(solutions) = results else {
            return Ok((deleted, inserted));
        };
        // What the solutions mean is held in memory before anything changes: it has the same
        // bounds as the changes themselves.
        let mut held = budget.another();
        let mut hold = |quads: &mut IndexSet<Quad>, quad: Option<Quad>| {
            let Some(quad) = quad else {
                return Ok::<(), WriteError>(());
            };
            reserved::check_quad(&quad)?;
            if !quads.contains(&quad) {
                held.quad(&quad)?;
                quads.insert(quad);
            }
            Ok(())
        };
        for solution in solutions {
            let solution = solution.map_err(|error| evaluation(error, budget))?;
            budget.step()?;
            for pattern in &self.delete {
                hold(&mut deleted, template::delete_from(pattern, &solution))?;
            }
            fresh.clear();
            for pattern in &self.insert {
                hold(
                    &mut inserted,
                    template::insert_from(pattern, &solution, &mut fresh),
                )?;
            }
        }
        Ok((deleted, inserted))
    }
}

fn evaluation(error: QueryEvaluationError, budget: &Budget) -> WriteError {
    match error {
        QueryEvaluationError::Cancelled => budget.timed_out(),
        QueryEvaluationError::Dataset(error) => WriteError::Storage {
            message: error.to_string(),
        },
        QueryEvaluationError::UnsupportedService(_)
        | QueryEvaluationError::UnboundService
        | QueryEvaluationError::InvalidServiceName(_)
        | QueryEvaluationError::Service(_) => WriteError::Unsupported {
            what: "SERVICE".into(),
        },
        QueryEvaluationError::UnsupportedCustomFunction(name) => WriteError::Unsupported {
            what: format!("the function {name}"),
        },
        error => WriteError::malformed(error.to_string()),
    }
}
