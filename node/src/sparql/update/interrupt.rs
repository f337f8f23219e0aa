//! Stops an evaluation from inside.
//!
//! Oxigraph looks at its cancellation token when it reads from the store. A product of rows that
//! are in memory already reads nothing, and an aggregate or a sort over it would go on for as long
//! as it takes. Before each of them goes a filter whose only purpose is to be evaluated for each
//! row: past the deadline it unwinds the evaluation, which is caught around it.

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};

use oxigraph::sparql::{CancellationToken, SparqlEvaluator};
use oxrdf::{Literal, NamedNode};
use spargebra::algebra::{Expression, Function, GraphPattern};

/// The name of the function that the filters call.
const FUNCTION: &str = "urn:quadraft:reserved:continue";

/// What unwinds.
struct Interrupted;

/// Puts a filter before everything that takes all rows before it gives one.
pub(super) fn insert_filters(pattern: &mut GraphPattern) {
    match pattern {
        GraphPattern::Bgp { .. }
        | GraphPattern::Path { .. }
        | GraphPattern::Values { .. }
        | GraphPattern::Service { .. } => {}
        GraphPattern::Join { left, right }
        | GraphPattern::Lateral { left, right }
        | GraphPattern::LeftJoin { left, right, .. }
        | GraphPattern::Union { left, right } => {
            insert_filters(left);
            insert_filters(right);
        }
        GraphPattern::Minus { left, right } => {
            insert_filters(left);
            insert_filters(right);
            filter(right);
        }
        GraphPattern::Filter { inner, .. }
        | GraphPattern::Graph { inner, .. }
        | GraphPattern::Extend { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Slice { inner, .. } => insert_filters(inner),
        GraphPattern::Group { inner, .. }
        | GraphPattern::OrderBy { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner } => {
            insert_filters(inner);
            filter(inner);
        }
    }
}

fn filter(pattern: &mut GraphPattern) {
    // The function says true, and the variables are never looked at. They are named because a
    // filter without variables would be moved to where no products are. `COALESCE` keeps the order
    // of its parts, `||` would not.
    let call = Function::Custom(NamedNode::new_unchecked(FUNCTION));
    let mut parts = vec![Expression::FunctionCall(call, Vec::new())];
    let mut variables = HashSet::new();
    pattern.on_in_scope_variable(|variable| {
        if variables.insert(variable) {
            parts.push(Expression::Variable(variable.clone()));
        }
    });
    let condition = Expression::Coalesce(parts);
    *pattern = GraphPattern::Filter {
        expr: condition,
        inner: Box::new(std::mem::take(pattern)),
    };
}

/// An evaluator that stops when the token is cancelled.
pub(super) fn evaluator(token: CancellationToken) -> SparqlEvaluator {
    let watched = token.clone();
    SparqlEvaluator::new()
        .with_cancellation_token(token)
        .with_custom_function(NamedNode::new_unchecked(FUNCTION), move |_| {
            if watched.is_cancelled() {
                panic::resume_unwind(Box::new(Interrupted));
            }
            Some(Literal::from(true).into())
        })
}

/// Runs an evaluation; `None` if it was stopped by one of the filters.
pub(super) fn catch<T>(evaluation: impl FnOnce() -> T) -> Option<T> {
    // What the evaluation had begun to build is dropped; nothing of it is used afterwards.
    match panic::catch_unwind(AssertUnwindSafe(evaluation)) {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Interrupted>() => None,
        Err(panic) => panic::resume_unwind(panic),
    }
}
