//! Refuses queries and updates whose mere parsing or planning could harm the node.
//!
//! Parser and optimiser recurse and cannot be interrupted: what they get must be bounded first.

use spargebra::algebra::{
    AggregateExpression, Expression, GraphPattern, OrderExpression, PropertyPathExpression,
};
use spargebra::{GraphUpdateOperation, Query, Update};

use super::nesting;

/// Nobody nests this many brackets by hand, and the parser's stack has room for more.
const MAXIMUM_NESTED_BRACKETS: usize = 128;
/// Long chains of operators become deep trees, each level of which is planned over again.
const MAXIMUM_EXPRESSION_DEPTH: usize = 1000;
/// The optimiser looks at each pattern from each of those around it.
const MAXIMUM_PATTERN_DEPTH: usize = 256;
/// The optimiser compares the patterns of a group with each other.
const MAXIMUM_TRIPLE_PATTERNS: usize = 128;
/// The optimiser tries two plans for the inside of each OPTIONAL.
const MAXIMUM_NESTED_OPTIONALS: usize = 12;
/// What the patterns of an update may have besides strings, IRIs, comments, white space and blocks
/// of data, which may be long: a tree has fewer levels than this.
const MAXIMUM_UPDATE_PATTERN_BYTES: usize = 64 * 1024;

/// Which bound a text passes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct TooComplex(pub(super) String);

/// What can be said of a query before parsing.
pub(super) fn check_query_text(text: &str, maximum_text_bytes: usize) -> Result<(), TooComplex> {
    if text.len() > maximum_text_bytes {
        return Err(TooComplex(format!(
            "its text has more than {maximum_text_bytes} bytes"
        )));
    }
    check_brackets(nesting::measure(text).depth)
}

/// What can be said of an update before parsing.
pub(super) fn check_update_text(text: &str) -> Result<(), TooComplex> {
    let measured = nesting::measure(text);
    if measured.pattern_bytes > MAXIMUM_UPDATE_PATTERN_BYTES {
        return Err(TooComplex(format!(
            "its patterns have more than {MAXIMUM_UPDATE_PATTERN_BYTES} bytes besides strings and \
             IRIs"
        )));
    }
    check_brackets(measured.depth)
}

fn check_brackets(depth: usize) -> Result<(), TooComplex> {
    if depth > MAXIMUM_NESTED_BRACKETS {
        return Err(TooComplex(format!(
            "brackets are nested more than {MAXIMUM_NESTED_BRACKETS} deep"
        )));
    }
    Ok(())
}

/// What can be said of a query before planning.
pub(super) fn check_query(query: &Query) -> Result<(), TooComplex> {
    let (Query::Select { pattern, .. }
    | Query::Construct { pattern, .. }
    | Query::Describe { pattern, .. }
    | Query::Ask { pattern, .. }) = query;
    check_pattern(pattern)
}

/// What can be said of an update before planning. Each of its operations is planned alone.
pub(super) fn check_update(update: &Update) -> Result<(), TooComplex> {
    for operation in &update.operations {
        if let GraphUpdateOperation::DeleteInsert { pattern, .. } = operation {
            check_pattern(pattern)?;
        }
    }
    Ok(())
}

/// Walks without recursion.
fn check_pattern(pattern: &GraphPattern) -> Result<(), TooComplex> {
    let mut to_visit = vec![(Node::Pattern(pattern), Depth::default())];
    let mut triple_patterns = 0;
    while let Some((node, depth)) = to_visit.pop() {
        depth.check()?;
        triple_patterns += node.triple_patterns();
        if triple_patterns > MAXIMUM_TRIPLE_PATTERNS {
            return Err(TooComplex(format!(
                "it has more than {MAXIMUM_TRIPLE_PATTERNS} triple patterns"
            )));
        }
        match node {
            Node::Pattern(pattern) => visit_pattern(pattern, depth, &mut to_visit),
            Node::Expression(expression) => visit_expression(expression, depth, &mut to_visit),
            Node::Path(path) => visit_path(path, depth, &mut to_visit),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Pattern(&'a GraphPattern),
    Expression(&'a Expression),
    Path(&'a PropertyPathExpression),
}

impl Node<'_> {
    fn triple_patterns(self) -> usize {
        match self {
            Self::Pattern(GraphPattern::Bgp { patterns }) => patterns.len(),
            Self::Pattern(GraphPattern::Path { .. }) => 1,
            Self::Pattern(_) | Self::Expression(_) | Self::Path(_) => 0,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Depth {
    patterns: usize,
    optionals: usize,
    expressions: usize,
}

impl Depth {
    fn check(self) -> Result<(), TooComplex> {
        for (depth, maximum, what) in [
            (self.patterns, MAXIMUM_PATTERN_DEPTH, "patterns"),
            (
                self.optionals,
                MAXIMUM_NESTED_OPTIONALS,
                "OPTIONAL and EXISTS",
            ),
            (
                self.expressions,
                MAXIMUM_EXPRESSION_DEPTH,
                "expressions or paths",
            ),
        ] {
            if depth > maximum {
                return Err(TooComplex(format!(
                    "{what} are nested or chained more than {maximum} deep"
                )));
            }
        }
        Ok(())
    }

    fn pattern(self) -> Self {
        Self {
            patterns: self.patterns + 1,
            ..self
        }
    }

    fn optional(self) -> Self {
        Self {
            optionals: self.optionals + 1,
            ..self.pattern()
        }
    }

    fn expression(self) -> Self {
        Self {
            expressions: self.expressions + 1,
            ..self
        }
    }
}

fn visit_pattern<'a>(
    pattern: &'a GraphPattern,
    depth: Depth,
    to_visit: &mut Vec<(Node<'a>, Depth)>,
) {
    let mut expression = |expression: &'a Expression| {
        to_visit.push((Node::Expression(expression), depth.expression()));
    };
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Values { .. } => {}
        GraphPattern::Path { path, .. } => to_visit.push((Node::Path(path), depth.expression())),
        GraphPattern::LeftJoin {
            left,
            right,
            expression: condition,
        } => {
            condition.iter().for_each(expression);
            to_visit.push((Node::Pattern(left), depth.pattern()));
            to_visit.push((Node::Pattern(right), depth.optional()));
        }
        GraphPattern::Join { left, right }
        | GraphPattern::Lateral { left, right }
        | GraphPattern::Union { left, right }
        | GraphPattern::Minus { left, right } => {
            to_visit.push((Node::Pattern(left), depth.pattern()));
            to_visit.push((Node::Pattern(right), depth.pattern()));
        }
        GraphPattern::Filter { expr, inner } => {
            expression(expr);
            to_visit.push((Node::Pattern(inner), depth.pattern()));
        }
        GraphPattern::Extend {
            inner,
            expression: value,
            ..
        } => {
            expression(value);
            to_visit.push((Node::Pattern(inner), depth.pattern()));
        }
        GraphPattern::OrderBy {
            inner,
            expression: orders,
        } => {
            for OrderExpression::Asc(order) | OrderExpression::Desc(order) in orders {
                expression(order);
            }
            to_visit.push((Node::Pattern(inner), depth.pattern()));
        }
        GraphPattern::Group {
            inner, aggregates, ..
        } => {
            for (_, aggregate) in aggregates {
                if let AggregateExpression::FunctionCall { expr, .. } = aggregate {
                    expression(expr);
                }
            }
            to_visit.push((Node::Pattern(inner), depth.pattern()));
        }
        GraphPattern::Graph { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. }
        | GraphPattern::Service { inner, .. } => {
            to_visit.push((Node::Pattern(inner), depth.pattern()));
        }
    }
}

fn visit_expression<'a>(
    expression: &'a Expression,
    depth: Depth,
    to_visit: &mut Vec<(Node<'a>, Depth)>,
) {
    let mut visit =
        |inner: &'a Expression| to_visit.push((Node::Expression(inner), depth.expression()));
    match expression {
        Expression::NamedNode(_)
        | Expression::Literal(_)
        | Expression::Variable(_)
        | Expression::Bound(_) => {}
        Expression::Exists(pattern) => to_visit.push((Node::Pattern(pattern), depth.optional())),
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
            visit(left);
            visit(right);
        }
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => {
            visit(inner);
        }
        Expression::If(condition, yes, no) => {
            visit(condition);
            visit(yes);
            visit(no);
        }
        Expression::In(needle, list) => {
            visit(needle);
            list.iter().for_each(visit);
        }
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => {
            list.iter().for_each(visit);
        }
    }
}

fn visit_path<'a>(
    path: &'a PropertyPathExpression,
    depth: Depth,
    to_visit: &mut Vec<(Node<'a>, Depth)>,
) {
    match path {
        PropertyPathExpression::NamedNode(_) | PropertyPathExpression::NegatedPropertySet(_) => {}
        PropertyPathExpression::Reverse(inner)
        | PropertyPathExpression::ZeroOrMore(inner)
        | PropertyPathExpression::OneOrMore(inner)
        | PropertyPathExpression::ZeroOrOne(inner) => {
            to_visit.push((Node::Path(inner), depth.expression()));
        }
        PropertyPathExpression::Sequence(left, right)
        | PropertyPathExpression::Alternative(left, right) => {
            to_visit.push((Node::Path(left), depth.expression()));
            to_visit.push((Node::Path(right), depth.expression()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use spargebra::SparqlParser;

    use super::*;

    fn check_as_query(text: &str) -> Result<(), TooComplex> {
        check_query_text(text, 1 << 20)?;
        check_query(&SparqlParser::new().parse_query(text).unwrap())
    }

    fn check_as_update(text: &str) -> Result<(), TooComplex> {
        check_update_text(text)?;
        check_update(&SparqlParser::new().parse_update(text).unwrap())
    }

    #[test]
    fn ordinary_queries_pass() {
        for text in [
            "SELECT * { ?s ?p ?o }",
            "SELECT (COUNT(*) AS ?c) { ?s a/^a* ?o OPTIONAL { ?o ?p ?x FILTER EXISTS { ?x ?y ?z } } } GROUP BY ?s ORDER BY ?c",
            "DESCRIBE <http://example.com/> ",
        ] {
            assert_eq!(check_as_query(text), Ok(()), "{text}");
        }
        let many = "<urn:a> <urn:b> 1 . ".repeat(10_000);
        assert_eq!(
            check_as_update(&format!("INSERT DATA {{ {many} }}")),
            Ok(())
        );
    }

    #[test]
    fn long_texts_and_deep_brackets_are_refused_before_parsing() {
        assert!(check_query_text("ASK {}", 5).is_err());
        assert!(check_query_text(&"(".repeat(200), 1000).is_err());
        assert!(check_update_text(&"(".repeat(200)).is_err());
        let many = "?a ?b ?c . ".repeat(MAXIMUM_UPDATE_PATTERN_BYTES);
        assert!(check_update_text(&format!("DELETE WHERE {{ {many} }}")).is_err());
    }

    #[test]
    fn deep_chains_are_refused_before_planning() {
        let sum = format!("{{ FILTER(0{}) }}", "+1".repeat(1100));
        let unions = format!("{{ {{}}{} }}", " UNION {}".repeat(300));
        let optionals = format!(
            "{{ {}{} }}",
            "OPTIONAL { ?a ?b ?c ".repeat(20),
            "}".repeat(20)
        );
        let triples = format!("{{ {} }}", "?a ?b ?c .".repeat(300));
        for pattern in [sum, unions, optionals, triples] {
            let query = format!("ASK {pattern}");
            assert!(check_as_query(&query).is_err(), "{}", &query[..60]);
            let update = format!("DELETE {{ ?a ?b ?c }} WHERE {pattern}");
            assert!(check_as_update(&update).is_err(), "{}", &update[..60]);
        }
    }
}
