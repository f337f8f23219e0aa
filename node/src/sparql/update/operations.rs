//! SPARQL 1.1 Update, operation by operation.

use indexmap::IndexSet;
use oxigraph::sparql::{QueryEvaluationError, QueryResults, SparqlSyntaxError};
use oxrdf::{GraphName, NamedOrBlankNode, Quad};
use spargebra::algebra::{GraphPattern, GraphTarget};
use spargebra::term::{GroundQuadPattern, QuadPattern};
use spargebra::{GraphUpdateOperation, Query, SparqlParser, Update};

use super::budget::Budget;
use super::workspace::Workspace;
use super::{UsingGraphs, WriteError, reserved, using};
use crate::sparql::complexity;
use crate::sparql::evaluation::{self, Broken, Stop};
use crate::sparql::template::{self, FreshBlankNodes};

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
    let parse = |text: &str| {
        parser
            .clone()
            .parse_update(text)
            .map_err(|error| syntax(&error))
    };
    let mut update = parse(text)?;
    if let Some(graphs) = using_graphs {
        refuse_using(&update)?;
        update = parse(&using::insert(text, graphs)?)?;
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

fn refuse_using(update: &Update) -> Result<(), WriteError> {
    let has_using = update.operations.iter().any(|operation| {
        matches!(
            operation,
            GraphUpdateOperation::DeleteInsert { using: Some(_), .. }
        )
    });
    if has_using {
        return Err(WriteError::malformed(
            "using-graph-uri and using-named-graph-uri cannot be combined with USING or WITH",
        ));
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
        let evaluated = evaluation::run(|| self.instantiate(workspace, budget));
        let (deleted, inserted) = evaluated.unwrap_or_else(|broken| {
            Err(match broken {
                Broken::Stopped if budget.switch().reason() == Some(Stop::StoreDamaged) => {
                    workspace.note_damage("a term in the store cannot be read")
                }
                Broken::Stopped => budget.stopped(),
                Broken::Panicked(message) => WriteError::Storage { message },
            })
        })?;
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
        evaluation::prepare(&mut self.query);
    }

    fn instantiate(
        self,
        workspace: &mut Workspace<'_>,
        budget: &Budget,
    ) -> Result<(IndexSet<Quad>, IndexSet<Quad>), WriteError> {
        workspace.transaction()?;
        let workspace = &*workspace;
        let failed = |error| failure(error, workspace, budget);
        let results = evaluation::evaluator(budget.switch())
            .for_query(self.query)
            .on_transaction(workspace.written())
            .execute()
            .map_err(failed)?;
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
            let solution = solution.map_err(failed)?;
            budget.look()?;
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

fn failure(error: QueryEvaluationError, workspace: &Workspace<'_>, budget: &Budget) -> WriteError {
    match error {
        QueryEvaluationError::Cancelled => budget.stopped(),
        QueryEvaluationError::Dataset(error) => workspace.note_damage(&error.to_string()),
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
