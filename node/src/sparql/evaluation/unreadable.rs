//! Notices terms of the store that cannot be read where Oxigraph does not tell.
//!
//! Inside an expression a term that cannot be read is an error like any other: a filter drops the
//! row, an aggregate is unbound, and the answer lacks something without a word. `EXISTS` takes an
//! error for a row. So each expression gets a second opinion, which is asked only when it is an
//! error: it tells variables that are bound and cannot be read from all other reasons, and stops
//! the evaluation. When nothing is damaged, an error stays an error.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use oxigraph::sparql::SparqlEvaluator;
use oxrdf::vocab::xsd;
use oxrdf::{Literal, NamedNode, Term, Variable};
use spargebra::Query;
use spargebra::algebra::{
    AggregateExpression, AggregateFunction, Expression, Function, GraphPattern, OrderExpression,
};

use super::guard::{Stop, Switch};

/// The functions that are called. Their names are others in each process: no query can name them.
struct Names {
    /// True. It is called only when its argument can be read.
    readable: NamedNode,
    /// Stops the evaluation.
    damaged: NamedNode,
    /// An error.
    undefined: NamedNode,
    /// Remembers that the pattern of an `EXISTS` gave a row.
    came: NamedNode,
    /// Whether the pattern of that `EXISTS` has given a row since this was asked last.
    did_come: NamedNode,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let secret: u128 = rand::random();
    let name = |name: &str| {
        NamedNode::new_unchecked(format!("urn:quadraft:function:{name}:{secret:032x}"))
    };
    Names {
        readable: name("readable"),
        damaged: name("damaged"),
        undefined: name("undefined"),
        came: name("came"),
        did_come: name("did-come"),
    }
});

/// Adds the functions that are called from a query.
pub(super) fn with_functions(evaluator: SparqlEvaluator, switch: &Switch) -> SparqlEvaluator {
    let truth = || Some(Term::from(Literal::from(true)));
    let stopping = switch.clone();
    let stop = move || {
        stopping.stop(Stop::StoreDamaged);
        stopping.unwind()
    };
    let rows: Arc<Mutex<HashSet<Term>>> = Arc::default();
    let asked = rows.clone();
    evaluator
        .with_custom_function(NAMES.readable.clone(), move |_| truth())
        .with_custom_function(NAMES.undefined.clone(), |_| None)
        .with_custom_function(NAMES.damaged.clone(), move |_| stop())
        .with_custom_function(NAMES.came.clone(), move |arguments| {
            lock(&rows).insert(arguments.first()?.clone());
            truth()
        })
        .with_custom_function(NAMES.did_come.clone(), move |arguments| {
            let came = lock(&asked).remove(arguments.first()?);
            Some(Literal::from(came).into())
        })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call(name: &NamedNode, arguments: Vec<Expression>) -> Expression {
    let function = Function::Custom(name.clone());
    Expression::FunctionCall(function, arguments)
}

/// Puts the calls into a query. It means the same as before.
pub(super) fn insert(query: &mut Query) {
    let (Query::Select { pattern, .. }
    | Query::Construct { pattern, .. }
    | Query::Describe { pattern, .. }
    | Query::Ask { pattern, .. }) = query;
    Walk::default().pattern(pattern);
}

/// One walk over a query.
#[derive(Default)]
struct Walk {
    exists: usize,
}

impl Walk {
    fn pattern(&mut self, pattern: &mut GraphPattern) {
        match pattern {
            GraphPattern::Bgp { .. } | GraphPattern::Path { .. } | GraphPattern::Values { .. } => {}
            GraphPattern::Join { left, right }
            | GraphPattern::Union { left, right }
            | GraphPattern::Minus { left, right }
            | GraphPattern::Lateral { left, right } => {
                self.pattern(left);
                self.pattern(right);
            }
            GraphPattern::LeftJoin {
                left,
                right,
                expression,
            } => {
                if let Some(expression) = expression {
                    self.condition(expression);
                }
                self.pattern(left);
                self.pattern(right);
            }
            GraphPattern::Filter { expr, inner } => {
                self.condition(expr);
                self.pattern(inner);
            }
            GraphPattern::Extend {
                inner, expression, ..
            } => {
                self.value(expression);
                self.pattern(inner);
            }
            GraphPattern::OrderBy { inner, expression } => {
                for OrderExpression::Asc(order) | OrderExpression::Desc(order) in expression {
                    self.read(order);
                }
                self.pattern(inner);
            }
            GraphPattern::Group {
                inner, aggregates, ..
            } => {
                for (_, aggregate) in aggregates {
                    if let AggregateExpression::FunctionCall { name, expr, .. } = aggregate {
                        match name {
                            AggregateFunction::Count | AggregateFunction::Sample => {
                                self.value(expr);
                            }
                            _ => self.read(expr),
                        }
                    }
                }
                self.pattern(inner);
            }
            GraphPattern::Graph { inner, .. }
            | GraphPattern::Project { inner, .. }
            | GraphPattern::Distinct { inner }
            | GraphPattern::Reduced { inner }
            | GraphPattern::Slice { inner, .. }
            | GraphPattern::Service { inner, .. } => self.pattern(inner),
        }
    }

    /// Parts that are joined by `&&` stay apart: the optimiser moves each to where it belongs.
    fn condition(&mut self, expression: &mut Expression) {
        if let Expression::And(left, right) = expression {
            self.condition(left);
            self.condition(right);
        } else {
            self.value(expression);
        }
    }

    /// An expression that is handed on: what needs no reading for that needs no second opinion.
    fn value(&mut self, expression: &mut Expression) {
        if !is_handed_on(expression) {
            self.read(expression);
        }
    }

    /// An expression whose variables are read.
    fn read(&mut self, expression: &mut Expression) {
        self.parts(expression);
        let opinions = opinions(expression);
        if !opinions.is_empty() {
            let mut choices = vec![mem::replace(expression, Expression::Coalesce(Vec::new()))];
            choices.extend(opinions);
            *expression = Expression::Coalesce(choices);
        }
    }

    /// What inside an expression hides an error: `COALESCE` and `EXISTS`.
    fn parts(&mut self, expression: &mut Expression) {
        match expression {
            Expression::NamedNode(_)
            | Expression::Literal(_)
            | Expression::Variable(_)
            | Expression::Bound(_) => {}
            Expression::Exists(pattern) => {
                self.pattern(pattern);
                *expression = self.exists(mem::take(pattern));
            }
            Expression::Coalesce(list) => {
                for choice in mem::take(list) {
                    let mut choice = choice;
                    self.parts(&mut choice);
                    let opinions = opinions(&choice);
                    list.push(choice);
                    list.extend(opinions);
                }
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
                self.parts(left);
                self.parts(right);
            }
            Expression::UnaryPlus(inner)
            | Expression::UnaryMinus(inner)
            | Expression::Not(inner) => self.parts(inner),
            Expression::If(condition, yes, no) => {
                self.parts(condition);
                self.parts(yes);
                self.parts(no);
            }
            Expression::In(needle, list) => {
                self.parts(needle);
                list.iter_mut().for_each(|part| self.parts(part));
            }
            Expression::FunctionCall(_, list) => {
                list.iter_mut().for_each(|part| self.parts(part));
            }
        }
    }

    /// An `EXISTS` that is true only when a row came, not when an error did.
    fn exists(&mut self, pattern: GraphPattern) -> Expression {
        let id = Expression::Literal(Literal::new_typed_literal(
            self.exists.to_string(),
            xsd::INTEGER,
        ));
        self.exists += 1;
        let came = GraphPattern::Extend {
            inner: Box::new(pattern),
            // No query can name it, because of the spaces.
            variable: Variable::new_unchecked(format!("a row came {}", self.exists)),
            expression: call(&NAMES.came, vec![id.clone()]),
        };
        let did_come = Expression::If(
            Box::new(call(&NAMES.did_come, vec![id])),
            Box::new(Expression::Literal(Literal::from(true))),
            Box::new(call(&NAMES.damaged, Vec::new())),
        );
        Expression::If(
            Box::new(Expression::Exists(Box::new(came))),
            Box::new(did_come),
            Box::new(Expression::Literal(Literal::from(false))),
        )
    }
}

/// Whether the evaluation of an expression passes terms on as they are kept, without reading them.
fn is_handed_on(expression: &Expression) -> bool {
    match expression {
        Expression::NamedNode(_) | Expression::Literal(_) | Expression::Variable(_) => true,
        Expression::Coalesce(list) => list.iter().all(is_handed_on),
        _ => false,
    }
}

/// What is asked when an expression is an error: for each of its variables whether it can be read.
/// When all can, the last word is an error again.
fn opinions(expression: &Expression) -> Vec<Expression> {
    let mut variables = Vec::new();
    read_variables(expression, &mut variables);
    variables
        .into_iter()
        .map(|variable| {
            let readable = call(
                &NAMES.readable,
                vec![Expression::Variable(variable.clone())],
            );
            let is_readable =
                Expression::Coalesce(vec![readable, Expression::Literal(Literal::from(false))]);
            let is_unreadable = Expression::And(
                Box::new(Expression::Bound(variable)),
                Box::new(Expression::Not(Box::new(is_readable))),
            );
            Expression::If(
                Box::new(is_unreadable),
                Box::new(call(&NAMES.damaged, Vec::new())),
                Box::new(call(&NAMES.undefined, Vec::new())),
            )
        })
        .collect()
}

/// The variables that an expression reads itself, each once.
fn read_variables(expression: &Expression, variables: &mut Vec<Variable>) {
    match expression {
        Expression::NamedNode(_)
        | Expression::Literal(_)
        | Expression::Bound(_)
        | Expression::Exists(_) => {}
        Expression::Variable(variable) => {
            if !variables.contains(variable) {
                variables.push(variable.clone());
            }
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
            read_variables(left, variables);
            read_variables(right, variables);
        }
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => {
            read_variables(inner, variables);
        }
        Expression::If(condition, yes, no) => {
            read_variables(condition, variables);
            read_variables(yes, variables);
            read_variables(no, variables);
        }
        Expression::In(needle, list) => {
            read_variables(needle, variables);
            list.iter().for_each(|part| read_variables(part, variables));
        }
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => {
            list.iter().for_each(|part| read_variables(part, variables));
        }
    }
}
