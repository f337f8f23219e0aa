//! Puts calls of the function that stops a query into its algebra.
//!
//! A filter around a group of patterns is pushed down by the optimiser to every leaf of the joins
//! below, where it is called for each quad that is read. That is not enough: the product of three
//! tables of a thousand rows has a million rows for each row that is read. So there is also a
//! `BIND`, which is not pushed down, around each group and around each product of patterns that
//! have no variable in common; for this the parts of a join are sorted by what connects them.

use std::collections::BTreeSet;
use std::mem;

use oxrdf::{NamedNode, Variable};
use spargebra::Query;
use spargebra::algebra::{
    AggregateExpression, Expression, Function, GraphPattern, OrderExpression,
};
use spargebra::term::{NamedNodePattern, TermPattern, TriplePattern};

use super::guard::FUNCTION;

/// Puts the calls into a query. It means the same as before.
pub(super) fn insert(query: &mut Query) {
    let (Query::Select { pattern, .. }
    | Query::Construct { pattern, .. }
    | Query::Describe { pattern, .. }
    | Query::Ask { pattern, .. }) = query;
    let mut shield = Shield::default();
    shield.descend(pattern);
    shield.group_inside(pattern);
}

fn call() -> Expression {
    Expression::FunctionCall(
        Function::Custom(NamedNode::new_unchecked(FUNCTION)),
        Vec::new(),
    )
}

fn is_filtered(pattern: &GraphPattern) -> bool {
    matches!(
        pattern,
        GraphPattern::Filter { expr: Expression::FunctionCall(Function::Custom(name), _), .. }
            if name.as_str() == FUNCTION
    )
}

/// One walk over a query.
#[derive(Default)]
struct Shield {
    fresh_variables: usize,
}

impl Shield {
    /// Shields a group: each row that its leaves read and each row that it yields.
    fn group(&mut self, pattern: &mut GraphPattern) {
        self.rows(pattern);
        *pattern = GraphPattern::Filter {
            expr: call(),
            inner: Box::new(mem::take(pattern)),
        };
    }

    /// Shields the group that a projection and its modifiers are about. Around the projection the
    /// call would be one more column.
    fn group_inside(&mut self, pattern: &mut GraphPattern) {
        let mut place = pattern;
        while let GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::OrderBy { inner, .. }
        | GraphPattern::Slice { inner, .. } = place
        {
            place = inner;
        }
        if !is_filtered(place) {
            self.group(place);
        }
    }

    /// Shields the rows that a pattern yields.
    fn rows(&mut self, pattern: &mut GraphPattern) {
        self.fresh_variables += 1;
        *pattern = GraphPattern::Extend {
            // One of its own each time: a variable on both sides would mean something to MINUS.
            // No query can name it, because of the spaces.
            variable: Variable::new_unchecked(format!("a call {}", self.fresh_variables)),
            expression: call(),
            inner: Box::new(mem::take(pattern)),
        };
    }

    /// Shields what is in a pattern wherever a filter from above would not arrive, and products.
    fn descend(&mut self, pattern: &mut GraphPattern) {
        match pattern {
            GraphPattern::Path { .. } | GraphPattern::Values { .. } => {}
            GraphPattern::Bgp { .. } | GraphPattern::Join { .. } => self.join(pattern),
            GraphPattern::Union { left, right } => {
                self.descend(left);
                self.descend(right);
            }
            GraphPattern::Minus { left, right } => {
                self.descend(left);
                self.descend(right);
                self.group(right);
            }
            GraphPattern::Lateral { left, right } => {
                self.descend(left);
                self.descend(right);
                self.group(right);
                self.rows(pattern);
            }
            GraphPattern::LeftJoin {
                left,
                right,
                expression,
            } => {
                let is_product = certain(left).is_disjoint(&certain(right));
                if let Some(expression) = expression {
                    self.descend_expression(expression);
                }
                self.descend(left);
                self.descend(right);
                self.group(right);
                if is_product {
                    self.rows(pattern);
                }
            }
            GraphPattern::Filter { expr, inner } => {
                self.descend_expression(expr);
                self.descend(inner);
            }
            GraphPattern::Extend {
                inner, expression, ..
            } => {
                self.descend_expression(expression);
                self.descend(inner);
            }
            GraphPattern::OrderBy { inner, expression } => {
                for OrderExpression::Asc(order) | OrderExpression::Desc(order) in expression {
                    self.descend_expression(order);
                }
                self.descend(inner);
            }
            GraphPattern::Group {
                inner, aggregates, ..
            } => {
                for (_, aggregate) in aggregates {
                    if let AggregateExpression::FunctionCall { expr, .. } = aggregate {
                        self.descend_expression(expr);
                    }
                }
                self.descend(inner);
                self.group(inner);
            }
            GraphPattern::Slice { inner, .. } => {
                self.descend(inner);
                self.group_inside(inner);
            }
            GraphPattern::Graph { inner, .. }
            | GraphPattern::Project { inner, .. }
            | GraphPattern::Distinct { inner }
            | GraphPattern::Reduced { inner }
            | GraphPattern::Service { inner, .. } => self.descend(inner),
        }
    }

    /// Shields the products in a join.
    fn join(&mut self, pattern: &mut GraphPattern) {
        let mut parts = Vec::new();
        let mut to_flatten = vec![mem::take(pattern)];
        while let Some(part) = to_flatten.pop() {
            match part {
                GraphPattern::Join { left, right } => to_flatten.extend([*right, *left]),
                GraphPattern::Bgp { patterns } if patterns.len() > 1 => {
                    parts.extend(patterns.into_iter().map(|triple| Part::of_triple(&triple)));
                }
                mut part => {
                    let variables = certain(&part);
                    if !matches!(part, GraphPattern::Bgp { .. }) {
                        self.descend(&mut part);
                    }
                    parts.push(Part {
                        variables,
                        pattern: part,
                    });
                }
            }
        }
        for (number, connected) in components(parts).into_iter().enumerate() {
            let connected = joined(connected);
            *pattern = match number {
                0 => connected,
                _ => GraphPattern::Join {
                    left: Box::new(mem::take(pattern)),
                    right: Box::new(connected),
                },
            };
            if number > 0 {
                self.rows(pattern);
            }
        }
    }

    fn descend_expression(&mut self, expression: &mut Expression) {
        match expression {
            Expression::NamedNode(_)
            | Expression::Literal(_)
            | Expression::Variable(_)
            | Expression::Bound(_) => {}
            Expression::Exists(pattern) => {
                self.descend(pattern);
                self.group(pattern);
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
                self.descend_expression(left);
                self.descend_expression(right);
            }
            Expression::UnaryPlus(inner)
            | Expression::UnaryMinus(inner)
            | Expression::Not(inner) => self.descend_expression(inner),
            Expression::If(condition, yes, no) => {
                self.descend_expression(condition);
                self.descend_expression(yes);
                self.descend_expression(no);
            }
            Expression::In(needle, list) => {
                self.descend_expression(needle);
                for expression in list {
                    self.descend_expression(expression);
                }
            }
            Expression::Coalesce(list) | Expression::FunctionCall(_, list) => {
                for expression in list {
                    self.descend_expression(expression);
                }
            }
        }
    }
}

/// A variable, or a blank node, which is one here.
type Name = String;

/// A part of a join.
struct Part {
    variables: BTreeSet<Name>,
    pattern: GraphPattern,
}

impl Part {
    fn of_triple(triple: &TriplePattern) -> Self {
        let mut variables = BTreeSet::new();
        names_of_triple(triple, &mut variables);
        Self {
            variables,
            pattern: GraphPattern::Bgp {
                patterns: vec![triple.clone()],
            },
        }
    }
}

/// Sorts parts by what connects them, keeping their order otherwise.
fn components(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut components: Vec<(BTreeSet<Name>, Vec<Part>)> = Vec::new();
    for part in parts {
        let mut variables = part.variables.clone();
        let mut members = Vec::new();
        let mut place = None;
        let mut others = Vec::with_capacity(components.len() + 1);
        for (known, mut known_members) in components {
            if known.is_disjoint(&part.variables) {
                others.push((known, known_members));
            } else {
                place.get_or_insert(others.len());
                variables.extend(known);
                members.append(&mut known_members);
            }
        }
        members.push(part);
        others.insert(place.unwrap_or(others.len()), (variables, members));
        components = others;
    }
    components.into_iter().map(|(_, members)| members).collect()
}

/// One join of connected parts; triples that follow each other are one basic pattern again.
fn joined(parts: Vec<Part>) -> GraphPattern {
    let mut joined: Option<GraphPattern> = None;
    for part in parts {
        joined = Some(match (joined, part.pattern) {
            (None, pattern) => pattern,
            (
                Some(GraphPattern::Bgp { mut patterns }),
                GraphPattern::Bgp { patterns: mut more },
            ) => {
                patterns.append(&mut more);
                GraphPattern::Bgp { patterns }
            }
            (Some(left), right) => GraphPattern::Join {
                left: Box::new(left),
                right: Box::new(right),
            },
        });
    }
    joined.unwrap_or_default()
}

/// The variables that every solution of a pattern binds, as far as is easily told.
fn certain(pattern: &GraphPattern) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    match pattern {
        GraphPattern::Bgp { patterns } => {
            for triple in patterns {
                names_of_triple(triple, &mut names);
            }
        }
        GraphPattern::Path {
            subject, object, ..
        } => {
            names_of_term(subject, &mut names);
            names_of_term(object, &mut names);
        }
        GraphPattern::Join { left, right } | GraphPattern::Lateral { left, right } => {
            names = certain(left);
            names.extend(certain(right));
        }
        GraphPattern::LeftJoin { left, .. } | GraphPattern::Minus { left, .. } => {
            names = certain(left);
        }
        GraphPattern::Union { left, right } => {
            names = &certain(left) & &certain(right);
        }
        GraphPattern::Graph { name, inner } => {
            names = certain(inner);
            names_of_node(name, &mut names);
        }
        GraphPattern::Filter { inner, .. }
        | GraphPattern::Extend { inner, .. }
        | GraphPattern::OrderBy { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. } => names = certain(inner),
        GraphPattern::Project { inner, variables }
        | GraphPattern::Group {
            inner, variables, ..
        } => {
            names = certain(inner);
            names.retain(|name| variables.iter().any(|variable| variable.as_str() == name));
        }
        GraphPattern::Values {
            variables,
            bindings,
        } => {
            for (column, variable) in variables.iter().enumerate() {
                if bindings
                    .iter()
                    .all(|row| row.get(column).is_some_and(Option::is_some))
                {
                    names.insert(variable.as_str().to_owned());
                }
            }
        }
        GraphPattern::Service { .. } => {}
    }
    names
}

fn names_of_triple(triple: &TriplePattern, names: &mut BTreeSet<Name>) {
    names_of_term(&triple.subject, names);
    names_of_node(&triple.predicate, names);
    names_of_term(&triple.object, names);
}

fn names_of_term(term: &TermPattern, names: &mut BTreeSet<Name>) {
    match term {
        TermPattern::Variable(variable) => {
            names.insert(variable.as_str().to_owned());
        }
        TermPattern::BlankNode(node) => {
            names.insert(format!("_:{}", node.as_str()));
        }
        TermPattern::NamedNode(_) | TermPattern::Literal(_) => {}
    }
}

fn names_of_node(node: &NamedNodePattern, names: &mut BTreeSet<Name>) {
    if let NamedNodePattern::Variable(variable) = node {
        names.insert(variable.as_str().to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oxigraph::sparql::QueryResults;
    use oxigraph::store::Store;
    use oxrdf::{GraphName, Quad};
    use proptest::prelude::*;
    use spargebra::SparqlParser;

    use super::super::guard::{Switch, evaluator};
    use super::*;

    fn shielded(text: &str) -> Query {
        let mut query = SparqlParser::new().parse_query(text).unwrap();
        insert(&mut query);
        query
    }

    fn store() -> Store {
        let store = Store::new().unwrap();
        let node = |name: &str| NamedNode::new(format!("http://example.com/{name}")).unwrap();
        for (s, p, o) in [
            ("a", "p", "b"),
            ("b", "p", "c"),
            ("c", "q", "a"),
            ("a", "q", "a"),
        ] {
            for graph in [GraphName::DefaultGraph, node("g").into()] {
                store
                    .insert(&Quad::new(node(s), node(p), node(o), graph))
                    .unwrap();
            }
        }
        store
    }

    fn answer(store: &Store, query: Query) -> Vec<String> {
        let results = evaluator(&Switch::default())
            .for_query(query)
            .on_store(store)
            .execute()
            .unwrap();
        let mut rows: Vec<_> = match results {
            QueryResults::Boolean(value) => vec![value.to_string()],
            QueryResults::Solutions(solutions) => {
                let variables = format!("{:?}", solutions.variables());
                solutions
                    .map(|solution| format!("{:?}", solution.unwrap()))
                    .chain([variables])
                    .collect()
            }
            QueryResults::Graph(triples) => {
                triples.map(|triple| triple.unwrap().to_string()).collect()
            }
        };
        rows.sort();
        rows
    }

    fn assert_unchanged(store: &Store, text: &str) {
        let plain = SparqlParser::new().parse_query(text).unwrap();
        assert_eq!(
            answer(store, shielded(text)),
            answer(store, plain),
            "{text}"
        );
    }

    #[test]
    fn a_shielded_query_means_the_same() {
        let store = store();
        for text in [
            "SELECT * { ?s ?p ?o }",
            "SELECT * { ?s ?p ?o . ?a ?b ?c . ?o ?x ?y }",
            "SELECT * { ?a ?b ?c MINUS { ?x ?y ?z } }",
            "SELECT * { ?a ?b ?c MINUS { ?a ?y ?z . ?d ?e ?f } }",
            "SELECT (COUNT(DISTINCT *) AS ?n) { ?a ?b ?c . ?d ?e ?f }",
            "SELECT (COUNT(*) AS ?n) ?a { ?a ?b ?c . ?d ?e ?f } GROUP BY ?a HAVING(?n > 1) ORDER BY ?n LIMIT 1",
            "SELECT * { ?a ?b ?c OPTIONAL { ?d ?e ?f } OPTIONAL { ?c ?g ?h } }",
            "SELECT * { ?a ?b _:x . ?d ?e ?f . _:x ?g ?h }",
            "SELECT * { ?a <http://example.com/p>+ ?b . ?c <http://example.com/q>? ?d }",
            "SELECT * { VALUES ?a { 1 2 } VALUES (?b ?c) { (1 UNDEF) (UNDEF 2) } VALUES ?c { 2 3 } }",
            "SELECT * { { SELECT ?a { ?a ?b ?c } LIMIT 2 } { SELECT (MAX(?a) AS ?m) { ?a ?b ?d } } }",
            "SELECT * { GRAPH ?g { ?a ?b ?c . ?d ?e ?f } GRAPH <http://example.com/g> { ?a ?b ?h . ?i ?j ?k } }",
            "SELECT * { ?a ?b ?c BIND(?a AS ?d) FILTER EXISTS { ?d ?e ?f . ?x ?y ?z } }",
            "SELECT * { ?a ?b ?c LATERAL { SELECT * { ?a ?d ?e } LIMIT 1 } }",
            "SELECT * { <http://example.com/a> <http://example.com/p> <http://example.com/b> . ?a ?b ?c }",
            "SELECT * { <http://example.com/a> <http://example.com/p> <http://example.com/a> . ?a ?b ?c }",
            "SELECT * { { ?a ?b ?c } UNION { ?d ?e ?f . ?g ?h ?i } }",
            "SELECT DISTINCT ?b { ?a ?b ?c } ORDER BY ?b OFFSET 1",
            "ASK { ?a ?b ?c . ?d ?e 1 }",
            "ASK {}",
            "SELECT * {}",
            "CONSTRUCT { ?a ?b ?f } { ?a ?b ?c . ?d ?e ?f }",
            "DESCRIBE ?a { ?a ?b ?c . ?d ?e ?f }",
            "DESCRIBE * { ?a ?b ?c . ?d ?e ?f }",
            "DESCRIBE <http://example.com/a>",
        ] {
            assert_unchanged(&store, text);
        }
    }

    #[test]
    fn what_has_no_variable_in_common_is_a_product_of_its_own() {
        let text =
            shielded("ASK { ?a ?b ?c . ?d ?e ?f . ?f ?g ?h . ?i ?j ?a . ?k ?l _:m . _:m ?n ?d }")
                .to_string();
        // Two products' worth of parts and the whole group.
        assert_eq!(text.matches("BIND").count(), 2, "{text}");
        let connected = shielded("ASK { ?a ?b ?c . ?c ?d ?e . VALUES ?e { 1 } }").to_string();
        assert_eq!(connected.matches("BIND").count(), 1, "{connected}");
    }

    fn any_group() -> impl Strategy<Value = String> {
        let variable = || "[abcdef]".prop_map(|name| format!("?{name}"));
        let triple =
            (variable(), variable(), variable()).prop_map(|(s, p, o)| format!("{s} {p} {o} ."));
        triple.prop_recursive(4, 10, 3, move |inner| {
            prop_oneof![
                3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} {b}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} OPTIONAL {{ {b} }}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} MINUS {{ {b} }}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ {a} }} UNION {{ {b} }}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} FILTER EXISTS {{ {b} }}")),
                1 => (variable(), inner.clone()).prop_map(|(v, a)| format!("{{ SELECT {v} {{ {a} }} }}")),
                1 => (variable(), inner).prop_map(|(v, a)| format!("GRAPH {v} {{ {a} }}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_shielded_query_means_the_same(group in any_group()) {
            let store = store();
            let text = format!("SELECT DISTINCT * {{ {group} }}");
            if group.len() < 90 && SparqlParser::new().parse_query(&text).is_ok() {
                assert_unchanged(&store, &text);
            }
        }
    }
}
