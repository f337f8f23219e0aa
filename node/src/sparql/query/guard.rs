//! Stops an evaluation that Oxigraph alone would not stop in time.
//!
//! Oxigraph looks at its cancellation token whenever it reads from the store, and then yields an
//! error in place of each further quad: operators that collect their input collect those errors
//! to the end of the scan, and what only works in memory never looks. So each group of patterns
//! gets a filter that calls a function of ours, which the optimiser pushes down to every leaf of
//! the joins. When the query is to stop, that function unwinds the thread's stack up to
//! [`run`], past all operators. The token is cancelled a little later, for what has no leaf.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use oxigraph::sparql::{CancellationToken, SparqlEvaluator};
use oxrdf::{Literal, NamedNode, Term};
use spargebra::Query;
use spargebra::algebra::{
    AggregateExpression, Expression, Function, GraphPattern, OrderExpression,
};
use tokio::sync::Notify;

use super::QueryError;

const FUNCTION: &str = "urn:quadraft:function:continue";

/// Why an evaluation is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stop {
    TimedOut = 1,
    Disconnected = 2,
    OutOfMemory = 3,
}

/// The switch that stops one evaluation; clones share it.
#[derive(Clone, Default)]
pub(super) struct Switch {
    reason: Arc<AtomicU8>,
    stopped: Arc<Notify>,
    token: CancellationToken,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Switch")
            .field(&self.reason())
            .finish()
    }
}

impl Switch {
    /// Asks the evaluation to stop. The first reason counts.
    pub(super) fn stop(&self, reason: Stop) {
        let _already =
            self.reason
                .compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
        self.stopped.notify_one();
    }

    /// Waits until the evaluation was asked to stop. One waits at a time.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Asks Oxigraph too.
    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    pub(super) fn reason(&self) -> Option<Stop> {
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(Stop::TimedOut),
            2 => Some(Stop::Disconnected),
            3 => Some(Stop::OutOfMemory),
            _ => None,
        }
    }
}

/// The panic payload of an evaluation that was stopped.
struct Stopped;

/// Runs an evaluation. `Err(None)` means that it was stopped.
pub(super) fn run<T>(work: impl FnOnce() -> T) -> Result<T, Option<QueryError>> {
    // What the closure leaves behind is dropped or, like the store, consistent at any time.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        if panic.is::<Stopped>() {
            return None;
        }
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Some(QueryError::Internal(format!(
            "the evaluation failed: {message}"
        )))
    })
}

/// An evaluator that knows the function of the inserted filters.
pub(super) fn evaluator(switch: &Switch) -> SparqlEvaluator {
    let looked_at = switch.clone();
    // Nothing is cheaper to make and to test for truth than a short string.
    let truth = Term::from(Literal::new_simple_literal("1"));
    SparqlEvaluator::new()
        .with_cancellation_token(switch.token.clone())
        .with_custom_function(NamedNode::new_unchecked(FUNCTION), move |_| {
            if looked_at.reason().is_some() {
                // Unlike a panic this calls no hook, which would log it.
                resume_unwind(Box::new(Stopped));
            }
            Some(truth.clone())
        })
}

/// Inserts the filters.
pub(super) fn insert(query: &mut Query) {
    let (Query::Select { pattern, .. }
    | Query::Construct { pattern, .. }
    | Query::Describe { pattern, .. }
    | Query::Ask { pattern, .. }) = query;
    descend(pattern);
    // The outermost projection must stay outermost: it says which columns there are.
    let mut place = pattern;
    let mut guarded = false;
    while let GraphPattern::Project { inner, .. }
    | GraphPattern::Distinct { inner }
    | GraphPattern::Reduced { inner }
    | GraphPattern::OrderBy { inner, .. }
    | GraphPattern::Slice { inner, .. } = place
    {
        place = inner;
        guarded |= is_guarded(place);
    }
    if !guarded {
        filter(place);
    }
}

fn is_guarded(pattern: &GraphPattern) -> bool {
    matches!(
        pattern,
        GraphPattern::Filter { expr: Expression::FunctionCall(Function::Custom(name), _), .. }
            if name.as_str() == FUNCTION
    )
}

fn filter(pattern: &mut GraphPattern) {
    *pattern = GraphPattern::Filter {
        expr: Expression::FunctionCall(
            Function::Custom(NamedNode::new_unchecked(FUNCTION)),
            Vec::new(),
        ),
        inner: Box::new(mem::take(pattern)),
    };
}

/// Inserts a filter wherever the optimiser would not push one from above.
fn descend(pattern: &mut GraphPattern) {
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } | GraphPattern::Values { .. } => {}
        GraphPattern::Join { left, right } | GraphPattern::Union { left, right } => {
            descend(left);
            descend(right);
        }
        GraphPattern::Lateral { left, right } | GraphPattern::Minus { left, right } => {
            descend(left);
            descend(right);
            filter(right);
        }
        GraphPattern::LeftJoin {
            left,
            right,
            expression,
        } => {
            expression.iter_mut().for_each(descend_expression);
            descend(left);
            descend(right);
            filter(right);
        }
        GraphPattern::Filter { expr, inner } => {
            descend_expression(expr);
            descend(inner);
        }
        GraphPattern::Extend {
            inner, expression, ..
        } => {
            descend_expression(expression);
            descend(inner);
        }
        GraphPattern::OrderBy { inner, expression } => {
            for OrderExpression::Asc(order) | OrderExpression::Desc(order) in expression {
                descend_expression(order);
            }
            descend(inner);
        }
        GraphPattern::Group {
            inner, aggregates, ..
        } => {
            for (_, aggregate) in aggregates {
                if let AggregateExpression::FunctionCall { expr, .. } = aggregate {
                    descend_expression(expr);
                }
            }
            descend(inner);
            filter(inner);
        }
        GraphPattern::Slice { inner, .. } => {
            descend(inner);
            filter(inner);
        }
        GraphPattern::Graph { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Service { inner, .. } => descend(inner),
    }
}

fn descend_expression(expression: &mut Expression) {
    match expression {
        Expression::NamedNode(_)
        | Expression::Literal(_)
        | Expression::Variable(_)
        | Expression::Bound(_) => {}
        Expression::Exists(pattern) => {
            descend(pattern);
            filter(pattern);
        }
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
            descend_expression(left);
            descend_expression(right);
        }
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => {
            descend_expression(inner);
        }
        Expression::If(condition, yes, no) => {
            descend_expression(condition);
            descend_expression(yes);
            descend_expression(no);
        }
        Expression::In(needle, list) => {
            descend_expression(needle);
            list.iter_mut().for_each(descend_expression);
        }
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => {
            list.iter_mut().for_each(descend_expression);
        }
    }
}
