//! Keeps updates away from the reserved graph.

use oxrdf::{GraphName, NamedNode, Quad, Variable};
use spargebra::algebra::{
    AggregateExpression, Expression, GraphPattern, GraphTarget, OrderExpression,
};
use spargebra::term::{GraphName as UpdateGraphName, GraphNamePattern, NamedNodePattern};
use spargebra::{GraphUpdateOperation, Update};

use super::WriteError;
use crate::state::{RESERVED_GRAPH, is_reserved_node};

/// Refuses an update that names the reserved graph, and makes its patterns blind to it.
pub(super) fn guard(update: &mut Update) -> Result<(), WriteError> {
    update.operations.iter_mut().try_for_each(guard_operation)
}

/// Refuses a quad in the reserved graph.
pub(super) fn check_quad(quad: &Quad) -> Result<(), WriteError> {
    match &quad.graph_name {
        GraphName::NamedNode(node) => check_graph(node),
        GraphName::BlankNode(_) | GraphName::DefaultGraph => Ok(()),
    }
}

/// Refuses the name of the reserved graph.
pub(super) fn check_graph(node: &NamedNode) -> Result<(), WriteError> {
    if is_reserved_node(node) {
        return Err(WriteError::ReservedGraph);
    }
    Ok(())
}

fn guard_operation(operation: &mut GraphUpdateOperation) -> Result<(), WriteError> {
    match operation {
        GraphUpdateOperation::InsertData { data } => data
            .iter()
            .try_for_each(|quad| check_update_graph(&quad.graph_name)),
        GraphUpdateOperation::DeleteData { data } => data
            .iter()
            .try_for_each(|quad| check_update_graph(&quad.graph_name)),
        GraphUpdateOperation::DeleteInsert {
            delete,
            insert,
            using,
            pattern,
        } => {
            delete
                .iter()
                .map(|quad| &quad.graph_name)
                .chain(insert.iter().map(|quad| &quad.graph_name))
                .try_for_each(check_template_graph)?;
            if let Some(using) = using {
                using
                    .default
                    .iter()
                    .chain(using.named.iter().flatten())
                    .try_for_each(check_graph)?;
            }
            guard_pattern(pattern, None)
        }
        GraphUpdateOperation::Load { destination, .. } => check_update_graph(destination),
        GraphUpdateOperation::Create { graph, .. } => check_graph(graph),
        GraphUpdateOperation::Clear { graph, .. } | GraphUpdateOperation::Drop { graph, .. } => {
            match graph {
                GraphTarget::NamedNode(node) => check_graph(node),
                GraphTarget::DefaultGraph | GraphTarget::NamedGraphs | GraphTarget::AllGraphs => {
                    Ok(())
                }
            }
        }
    }
}

fn check_update_graph(graph: &UpdateGraphName) -> Result<(), WriteError> {
    match graph {
        UpdateGraphName::NamedNode(node) => check_graph(node),
        UpdateGraphName::DefaultGraph => Ok(()),
    }
}

fn check_template_graph(graph: &GraphNamePattern) -> Result<(), WriteError> {
    match graph {
        GraphNamePattern::NamedNode(node) => check_graph(node),
        GraphNamePattern::DefaultGraph | GraphNamePattern::Variable(_) => Ok(()),
    }
}

/// Walks over a pattern inside `GRAPH graph`.
///
/// Each basic pattern inside `GRAPH ?g` gets a filter of its own. One filter around the whole
/// `GRAPH` would not do: a sub-select that counts would have counted the reserved graph already.
fn guard_pattern(pattern: &mut GraphPattern, graph: Option<&Variable>) -> Result<(), WriteError> {
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } => {
            if let Some(variable) = graph {
                let inner = std::mem::take(pattern);
                *pattern = GraphPattern::Filter {
                    expr: is_not_reserved(variable),
                    inner: Box::new(inner),
                };
            }
            Ok(())
        }
        GraphPattern::Graph { name, inner } => {
            let name = name.clone();
            match &name {
                NamedNodePattern::NamedNode(node) => {
                    check_graph(node)?;
                    guard_pattern(inner, None)
                }
                NamedNodePattern::Variable(variable) => guard_pattern(inner, Some(variable)),
            }
        }
        GraphPattern::Join { left, right }
        | GraphPattern::Lateral { left, right }
        | GraphPattern::Union { left, right }
        | GraphPattern::Minus { left, right } => {
            guard_pattern(left, graph)?;
            guard_pattern(right, graph)
        }
        GraphPattern::LeftJoin {
            left,
            right,
            expression,
        } => {
            guard_pattern(left, graph)?;
            guard_pattern(right, graph)?;
            expression
                .iter_mut()
                .try_for_each(|expression| guard_expression(expression, graph))
        }
        GraphPattern::Filter { expr, inner } => {
            guard_expression(expr, graph)?;
            guard_pattern(inner, graph)
        }
        GraphPattern::Extend {
            inner, expression, ..
        } => {
            guard_expression(expression, graph)?;
            guard_pattern(inner, graph)
        }
        GraphPattern::OrderBy { inner, expression } => {
            for order in expression {
                match order {
                    OrderExpression::Asc(expression) | OrderExpression::Desc(expression) => {
                        guard_expression(expression, graph)?;
                    }
                }
            }
            guard_pattern(inner, graph)
        }
        GraphPattern::Group {
            inner, aggregates, ..
        } => {
            for (_, aggregate) in aggregates {
                match aggregate {
                    AggregateExpression::CountSolutions { .. } => {}
                    AggregateExpression::FunctionCall { expr, .. } => {
                        guard_expression(expr, graph)?;
                    }
                }
            }
            guard_pattern(inner, graph)
        }
        GraphPattern::Project { inner, variables } => match graph {
            Some(variable) if !variables.contains(variable) => {
                // Inside such a sub-select the variable is another one of the same name, and the
                // evaluation gives it a name of its own. It gets one here that a filter can use.
                let inside =
                    Variable::new_unchecked(format!("graph{:032x}", rand::random::<u128>()));
                guard_pattern(inner, Some(&inside))?;
                let renamed = std::mem::take(inner);
                **inner = GraphPattern::Graph {
                    name: inside.into(),
                    inner: renamed,
                };
                Ok(())
            }
            _ => guard_pattern(inner, graph),
        },
        GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. } => guard_pattern(inner, graph),
        GraphPattern::Values { .. } => Ok(()),
        // As in a query: one solution that binds nothing.
        GraphPattern::Service { silent: true, .. } => {
            *pattern = GraphPattern::default();
            guard_pattern(pattern, graph)
        }
        GraphPattern::Service { silent: false, .. } => Err(WriteError::Unsupported {
            what: "SERVICE".into(),
        }),
    }
}

fn is_not_reserved(variable: &Variable) -> Expression {
    Expression::Not(Box::new(Expression::SameTerm(
        Box::new(Expression::Variable(variable.clone())),
        Box::new(Expression::NamedNode(NamedNode::new_unchecked(
            RESERVED_GRAPH,
        ))),
    )))
}

fn guard_expression(
    expression: &mut Expression,
    graph: Option<&Variable>,
) -> Result<(), WriteError> {
    match expression {
        Expression::NamedNode(_)
        | Expression::Literal(_)
        | Expression::Variable(_)
        | Expression::Bound(_) => Ok(()),
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
            guard_expression(left, graph)?;
            guard_expression(right, graph)
        }
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => {
            guard_expression(inner, graph)
        }
        Expression::Exists(pattern) => guard_pattern(pattern, graph),
        Expression::If(condition, then, otherwise) => {
            guard_expression(condition, graph)?;
            guard_expression(then, graph)?;
            guard_expression(otherwise, graph)
        }
        Expression::In(inner, list) => {
            guard_expression(inner, graph)?;
            list.iter_mut()
                .try_for_each(|expression| guard_expression(expression, graph))
        }
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => list
            .iter_mut()
            .try_for_each(|expression| guard_expression(expression, graph)),
    }
}
