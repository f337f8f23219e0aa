//! Hides the graph that the node keeps for itself from queries and updates.
//!
//! The rewriting happens on the algebra. Whoever names the reserved graph gets an error; a graph
//! variable ranges over all graphs but this one. `GRAPH ?g` is pushed down to the patterns that
//! read quads, so that each place where the variable is bound is followed by a filter before
//! anything (a slice, an aggregate, a projection without the variable) could depend on it.
//!
//! As an ordinary term the IRI is harmless and allowed.

use std::mem;

use oxrdf::{GraphName, NamedNode, Quad, Variable};
use spargebra::algebra::{
    AggregateExpression, Expression, GraphPattern, GraphTarget, OrderExpression, QueryDataset,
};
use spargebra::term::{GraphName as OperationGraphName, GraphNamePattern, NamedNodePattern};
use spargebra::{GraphUpdateOperation, Query, Update};

pub use crate::state::RESERVED_GRAPH;

/// Why a query or update may not be evaluated at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names the graph that no client can read or write.
    #[error("the graph <{RESERVED_GRAPH}> is reserved for the database itself")]
    ReservedGraph,
    /// It asks another endpoint, which this database never does.
    #[error("SERVICE is not supported: a query reads this database only")]
    Service,
}

/// Makes a query blind to the reserved graph.
pub fn hide_in_query(query: &mut Query) -> Result<(), Refused> {
    let (dataset, pattern) = match query {
        Query::Select {
            dataset, pattern, ..
        }
        | Query::Construct {
            dataset, pattern, ..
        }
        | Query::Describe {
            dataset, pattern, ..
        }
        | Query::Ask {
            dataset, pattern, ..
        } => (dataset, pattern),
    };
    check_dataset(dataset.as_ref())?;
    Hiding::default().close(pattern, None)
}

/// Makes an update blind to the reserved graph and refuses it if it names that graph.
///
/// What a template with a graph variable produces is known only when it is evaluated: pass those
/// quads to [`check_quad`]. `CLEAR ALL` and its like must be evaluated over the users' graphs.
pub fn hide_in_update(update: &mut Update) -> Result<(), Refused> {
    let mut hiding = Hiding::default();
    for operation in &mut update.operations {
        match operation {
            GraphUpdateOperation::InsertData { data } => data
                .iter()
                .try_for_each(|quad| check_operation_graph(&quad.graph_name))?,
            GraphUpdateOperation::DeleteData { data } => data
                .iter()
                .try_for_each(|quad| check_operation_graph(&quad.graph_name))?,
            GraphUpdateOperation::DeleteInsert {
                delete,
                insert,
                using,
                pattern,
            } => {
                let deleted = delete.iter().map(|quad| &quad.graph_name);
                let inserted = insert.iter().map(|quad| &quad.graph_name);
                for graph in deleted.chain(inserted) {
                    if let GraphNamePattern::NamedNode(node) = graph {
                        check_graph_name(node)?;
                    }
                }
                check_dataset(using.as_ref())?;
                hiding.close(pattern, None)?;
            }
            GraphUpdateOperation::Load { destination, .. } => check_operation_graph(destination)?,
            GraphUpdateOperation::Create { graph, .. } => check_graph_name(graph)?,
            GraphUpdateOperation::Clear { graph, .. }
            | GraphUpdateOperation::Drop { graph, .. } => {
                if let GraphTarget::NamedNode(node) = graph {
                    check_graph_name(node)?;
                }
            }
        }
    }
    Ok(())
}

/// Refuses the name of the reserved graph.
pub fn check_graph_name(node: &NamedNode) -> Result<(), Refused> {
    if node.as_str() == RESERVED_GRAPH {
        return Err(Refused::ReservedGraph);
    }
    Ok(())
}

/// Refuses a quad in the reserved graph.
pub fn check_quad(quad: &Quad) -> Result<(), Refused> {
    match &quad.graph_name {
        GraphName::NamedNode(node) => check_graph_name(node),
        GraphName::BlankNode(_) | GraphName::DefaultGraph => Ok(()),
    }
}

fn check_operation_graph(graph: &OperationGraphName) -> Result<(), Refused> {
    match graph {
        OperationGraphName::NamedNode(node) => check_graph_name(node),
        OperationGraphName::DefaultGraph => Ok(()),
    }
}

fn check_dataset(dataset: Option<&QueryDataset>) -> Result<(), Refused> {
    dataset.map_or(Ok(()), |dataset| {
        let named = dataset.named.iter().flatten();
        dataset
            .default
            .iter()
            .chain(named)
            .try_for_each(check_graph_name)
    })
}

/// One walk over an operation.
#[derive(Default)]
struct Hiding {
    fresh_variables: usize,
}

impl Hiding {
    /// Hides in a pattern under `GRAPH ?scope`, and filters what is still to be filtered.
    fn close(
        &mut self,
        pattern: &mut GraphPattern,
        scope: Option<&Variable>,
    ) -> Result<(), Refused> {
        for variable in self.hide(pattern, scope)? {
            *pattern = GraphPattern::Filter {
                expr: is_not_reserved(variable),
                inner: Box::new(mem::take(pattern)),
            };
        }
        Ok(())
    }

    /// Hides in a pattern under `GRAPH ?scope`. Returns the graph variables that the pattern
    /// certainly binds and that the caller must still filter: one filter above a join leaves the
    /// optimiser free to reorder what is in it.
    fn hide(
        &mut self,
        pattern: &mut GraphPattern,
        scope: Option<&Variable>,
    ) -> Result<Vec<Variable>, Refused> {
        match pattern {
            GraphPattern::Bgp { .. } | GraphPattern::Path { .. } => Ok(match scope {
                None => Vec::new(),
                Some(variable) => {
                    *pattern = GraphPattern::Graph {
                        name: variable.clone().into(),
                        inner: Box::new(mem::take(pattern)),
                    };
                    vec![variable.clone()]
                }
            }),
            GraphPattern::Values { .. } => Ok(Vec::new()),
            // What cannot be asked is one solution that binds nothing (SPARQL 1.1 Federated Query,
            // 2.4).
            GraphPattern::Service { silent: true, .. } => {
                *pattern = GraphPattern::default();
                self.hide(pattern, scope)
            }
            GraphPattern::Service { silent: false, .. } => Err(Refused::Service),
            GraphPattern::Graph { name, inner } => match name {
                NamedNodePattern::NamedNode(node) => {
                    check_graph_name(node)?;
                    self.hide(inner, None)
                }
                NamedNodePattern::Variable(variable) => {
                    let variable = variable.clone();
                    *pattern = mem::take(inner);
                    self.hide(pattern, Some(&variable))
                }
            },
            GraphPattern::Join { left, right } => {
                let mut variables = self.hide(left, scope)?;
                for variable in self.hide(right, scope)? {
                    if !variables.contains(&variable) {
                        variables.push(variable);
                    }
                }
                Ok(variables)
            }
            GraphPattern::LeftJoin {
                left,
                right,
                expression,
            } => {
                if let Some(expression) = expression {
                    self.hide_in_expression(expression, scope)?;
                }
                self.close(right, scope)?;
                self.hide(left, scope)
            }
            GraphPattern::Minus { left, right } | GraphPattern::Lateral { left, right } => {
                self.close(right, scope)?;
                self.hide(left, scope)
            }
            GraphPattern::Union { left, right } => {
                self.close(left, scope)?;
                self.close(right, scope)?;
                Ok(Vec::new())
            }
            GraphPattern::Filter { expr, inner } => {
                self.hide_in_expression(expr, scope)?;
                self.hide(inner, scope)
            }
            GraphPattern::Extend {
                inner,
                variable,
                expression,
            } => {
                self.hide_in_expression(expression, scope)?;
                // `GRAPH ?g { … BIND(1 AS ?g) }` overwrites what a later filter would look at.
                if scope == Some(variable) {
                    self.close(inner, scope)?;
                    return Ok(Vec::new());
                }
                let variable = variable.clone();
                let variables = self.hide(inner, scope)?;
                if variables.contains(&variable) {
                    for variable in variables {
                        **inner = GraphPattern::Filter {
                            expr: is_not_reserved(variable),
                            inner: Box::new(mem::take(inner)),
                        };
                    }
                    return Ok(Vec::new());
                }
                Ok(variables)
            }
            GraphPattern::OrderBy { inner, expression } => {
                for OrderExpression::Asc(expression) | OrderExpression::Desc(expression) in
                    expression
                {
                    self.hide_in_expression(expression, scope)?;
                }
                self.close(inner, scope)?;
                Ok(Vec::new())
            }
            GraphPattern::Group {
                inner, aggregates, ..
            } => {
                for (_, aggregate) in aggregates {
                    if let AggregateExpression::FunctionCall { expr, .. } = aggregate {
                        self.hide_in_expression(expr, scope)?;
                    }
                }
                self.close(inner, scope)?;
                Ok(Vec::new())
            }
            GraphPattern::Project { inner, variables } => {
                // A sub-select that does not project the graph variable has one of its own.
                let own = scope.map(|variable| {
                    if variables.contains(variable) {
                        variable.clone()
                    } else {
                        self.fresh_variable()
                    }
                });
                self.close(inner, own.as_ref())?;
                Ok(Vec::new())
            }
            GraphPattern::Distinct { inner }
            | GraphPattern::Reduced { inner }
            | GraphPattern::Slice { inner, .. } => {
                self.close(inner, scope)?;
                Ok(Vec::new())
            }
        }
    }

    /// Hides in the patterns of `EXISTS` inside an expression.
    fn hide_in_expression(
        &mut self,
        expression: &mut Expression,
        scope: Option<&Variable>,
    ) -> Result<(), Refused> {
        match expression {
            Expression::NamedNode(_)
            | Expression::Literal(_)
            | Expression::Variable(_)
            | Expression::Bound(_) => Ok(()),
            Expression::Exists(pattern) => self.close(pattern, scope),
            Expression::Or(left, right)
            | Expression::And(left, right)
            | Expression::Equal(left, right)
            | Expression::SameTerm(left, right)
            | Expression::Greater(left, right)
            | Expression::GreaterOrEqual(left, right)
            | Expression::Less(left, right)
            | Expression::LessOrEqual(left, right)
            | Expression::Add(left, right)
            | Expression::Subtract(left, right)
            | Expression::Multiply(left, right)
            | Expression::Divide(left, right) => {
                self.hide_in_expression(left, scope)?;
                self.hide_in_expression(right, scope)
            }
            Expression::UnaryPlus(inner)
            | Expression::UnaryMinus(inner)
            | Expression::Not(inner) => self.hide_in_expression(inner, scope),
            Expression::If(condition, yes, no) => {
                self.hide_in_expression(condition, scope)?;
                self.hide_in_expression(yes, scope)?;
                self.hide_in_expression(no, scope)
            }
            Expression::In(needle, list) => {
                self.hide_in_expression(needle, scope)?;
                self.hide_in_expressions(list, scope)
            }
            Expression::Coalesce(list) | Expression::FunctionCall(_, list) => {
                self.hide_in_expressions(list, scope)
            }
        }
    }

    fn hide_in_expressions(
        &mut self,
        expressions: &mut [Expression],
        scope: Option<&Variable>,
    ) -> Result<(), Refused> {
        expressions
            .iter_mut()
            .try_for_each(|expression| self.hide_in_expression(expression, scope))
    }

    /// A variable that no query can name: the space is not allowed in names.
    fn fresh_variable(&mut self) -> Variable {
        self.fresh_variables += 1;
        Variable::new_unchecked(format!("hidden graph {}", self.fresh_variables))
    }
}

fn is_not_reserved(variable: Variable) -> Expression {
    Expression::Not(Box::new(Expression::SameTerm(
        Box::new(Expression::Variable(variable)),
        Box::new(Expression::NamedNode(NamedNode::new_unchecked(
            RESERVED_GRAPH,
        ))),
    )))
}

#[cfg(test)]
#[path = "reserved_tests.rs"]
mod tests;
