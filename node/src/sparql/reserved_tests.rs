#![allow(clippy::unwrap_used)]

use oxigraph::sparql::{QueryResults, SparqlEvaluator};
use oxigraph::store::Store;
use oxrdf::{Literal, NamedNodeRef, Term};
use proptest::prelude::*;
use spargebra::SparqlParser;

use super::*;

fn parsed_query(text: &str) -> Query {
    SparqlParser::new().parse_query(text).unwrap()
}

fn hidden_query(text: &str) -> Result<Query, Refused> {
    let mut query = parsed_query(text);
    hide_in_query(&mut query).map(|()| query)
}

fn hidden_update(text: &str) -> Result<Update, Refused> {
    let mut update = SparqlParser::new().parse_update(text).unwrap();
    hide_in_update(&mut update).map(|()| update)
}

fn node(name: &str) -> NamedNode {
    NamedNode::new(format!("http://example.com/{name}")).unwrap()
}

/// Everything in the reserved graph has this in it, and nothing else has.
const SECRET: &str = "secret";

/// User data, and with it the same shapes in the reserved graph.
fn store(with_reserved_graph: bool) -> Store {
    let store = Store::new().unwrap();
    let insert = |subject: &NamedNode, predicate: &NamedNode, object: Term, graph: GraphName| {
        store
            .insert(&Quad::new(
                subject.clone(),
                predicate.clone(),
                object,
                graph,
            ))
            .unwrap();
    };
    let (a, b, p, q) = (node("a"), node("b"), node("p"), node("q"));
    for graph in [GraphName::DefaultGraph, node("g").into(), node("h").into()] {
        insert(&a, &p, b.clone().into(), graph.clone());
        insert(&b, &p, a.clone().into(), graph.clone());
        insert(&a, &q, Literal::from(1).into(), graph);
    }
    // The IRI as a term in user data is nobody's secret.
    let reserved = NamedNode::new_unchecked(RESERVED_GRAPH);
    insert(&a, &q, reserved.clone().into(), GraphName::DefaultGraph);
    if with_reserved_graph {
        let graph = GraphName::from(reserved);
        let secret = node(SECRET);
        insert(&a, &p, secret.clone().into(), graph.clone());
        insert(&secret, &p, a.clone().into(), graph.clone());
        insert(&a, &q, Literal::from(SECRET).into(), graph.clone());
        // The same as in the other graphs: it may not be counted.
        insert(&a, &p, b.into(), graph.clone());
        insert(&a, &q, Literal::from(2).into(), graph);
    }
    store
}

/// The rows or triples as sorted text.
fn answer(store: &Store, query: Query) -> Vec<String> {
    let results = SparqlEvaluator::new()
        .for_query(query)
        .on_store(store)
        .execute()
        .unwrap();
    let mut rows: Vec<String> = match results {
        QueryResults::Boolean(value) => vec![value.to_string()],
        QueryResults::Solutions(solutions) => solutions
            .map(|solution| format!("{:?}", solution.unwrap()))
            .collect(),
        QueryResults::Graph(triples) => triples.map(|triple| triple.unwrap().to_string()).collect(),
    };
    rows.sort();
    rows
}

/// A query answers as if the reserved graph did not exist.
fn assert_blind(text: &str) {
    let hidden = hidden_query(text).unwrap();
    let with = answer(&store(true), hidden.clone());
    let without = answer(&store(false), hidden);
    assert_eq!(with, without, "the reserved graph shows in {text}");
    // And the rewriting changes nothing where there is nothing to hide.
    let plain = answer(&store(false), parsed_query(text));
    assert_eq!(without, plain, "the meaning changed of {text}");
}

#[test]
fn a_query_answers_as_if_the_reserved_graph_did_not_exist() {
    for text in [
        "SELECT * { GRAPH ?g { ?s ?p ?o } }",
        "SELECT * { GRAPH ?g {} }",
        "SELECT ?s { GRAPH ?g { ?s ?p ?o } }",
        "SELECT (COUNT(*) AS ?c) { GRAPH ?g { ?s ?p ?o } }",
        "SELECT (COUNT(*) AS ?c) { GRAPH ?g {} }",
        "SELECT ?g (COUNT(?s) AS ?c) { GRAPH ?g { ?s ?p ?o } } GROUP BY ?g",
        "SELECT * { GRAPH ?g { { SELECT ?s { ?s ?p ?o } } } }",
        "SELECT * { GRAPH ?g { { SELECT ?s ?g { ?s ?p ?o } } } }",
        "SELECT * { GRAPH ?g { { SELECT (COUNT(*) AS ?c) { ?s ?p ?o } } } }",
        "SELECT * { GRAPH ?g { { SELECT (COUNT(*) AS ?g) { ?s ?p ?o } } } }",
        "SELECT * { GRAPH ?g { { SELECT DISTINCT ?o { ?s ?p ?o } ORDER BY ?o LIMIT 100 } } }",
        "SELECT * { GRAPH ?g { { SELECT ?s { ?s ?p ?o } } { SELECT ?o { ?s ?p ?o } } } }",
        "SELECT * { GRAPH ?g { { SELECT ?s { { SELECT ?s ?g { ?s ?p ?o } } } } } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o OPTIONAL { ?o ?q ?x } } }",
        "SELECT * { ?s ?p ?o OPTIONAL { GRAPH ?g { ?o ?q ?x } } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o } OPTIONAL { GRAPH ?h { ?s ?p ?x FILTER(?g != ?h) } } }",
        "SELECT * { ?s ?p ?o MINUS { GRAPH ?g { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o } MINUS { ?s ?p ?o } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o MINUS { ?s ?p 2 } } }",
        "SELECT * { { GRAPH ?g { ?s ?p ?o } } UNION { GRAPH ?g { ?o ?p ?s } } }",
        "SELECT * { GRAPH ?g { { ?s ?p ?o } UNION { ?o ?p ?s } } }",
        "SELECT * { GRAPH ?g { ?s <http://example.com/p>+ ?o } }",
        "SELECT * { GRAPH ?g { ?s <http://example.com/p>* ?o } }",
        "SELECT * { GRAPH ?g { <http://example.com/a> <http://example.com/none>* ?o } }",
        "SELECT * { GRAPH ?g { ?s (<http://example.com/p>|^<http://example.com/q>)/!<http://example.com/x> ?o } }",
        "SELECT * { ?s ?p ?o FILTER EXISTS { GRAPH ?g { ?s ?p 2 } } }",
        "SELECT * { ?s ?p ?o FILTER NOT EXISTS { GRAPH ?g { ?s ?p 2 } } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o FILTER EXISTS { ?s ?q 2 } } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o FILTER EXISTS { SELECT ?s { ?s ?q 2 } } } }",
        "SELECT * { ?s ?p ?o BIND(EXISTS { GRAPH ?g { ?s ?q \"secret\" } } AS ?e) }",
        "SELECT (SUM(IF(EXISTS { GRAPH ?g { ?s ?p 2 } }, 1, 0)) AS ?c) { ?s ?p ?o }",
        "SELECT * { ?s ?p ?o } ORDER BY (EXISTS { GRAPH ?g { ?s ?p 2 } })",
        "SELECT ?s { ?s ?p ?o } GROUP BY ?s HAVING (EXISTS { GRAPH ?g { ?s ?p 2 } })",
        "SELECT * { ?s ?p ?o OPTIONAL { ?s ?q ?x FILTER EXISTS { GRAPH ?g { ?s ?q 2 } } } }",
        "SELECT * { ?s ?p ?o FILTER(COALESCE(IF(EXISTS { GRAPH ?g { ?s ?p 2 } }, 1, 2), 3) IN (1, 4)) }",
        "SELECT * { GRAPH ?g { ?s ?p ?o BIND(1 AS ?g) } }",
        "SELECT * { GRAPH ?g { { ?s ?p ?o } { BIND(<urn:quadraft:reserved> AS ?g) } } }",
        "SELECT * { VALUES ?g { <urn:quadraft:reserved> <http://example.com/g> } GRAPH ?g { ?s ?p ?o } }",
        "SELECT * { GRAPH ?g { ?s ?p ?o } VALUES ?g { <urn:quadraft:reserved> } }",
        "SELECT * { BIND(IRI(CONCAT(\"urn:quadraft:\", \"reserved\")) AS ?g) GRAPH ?g { ?s ?p ?o } }",
        "SELECT * { ?a ?q ?g GRAPH ?g { ?s ?p ?o } }",
        "SELECT * { ?a ?q ?g OPTIONAL { GRAPH ?g { ?s ?p ?o } } }",
        "SELECT * { ?a ?q ?g LATERAL { GRAPH ?g { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { ?a ?q ?x } LATERAL { SELECT ?s { GRAPH ?h { ?s ?p ?x } } LIMIT 100 } }",
        "SELECT * { ?a ?q ?g FILTER EXISTS { GRAPH ?g { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { GRAPH ?h { ?s ?p ?o } } }",
        "SELECT * { GRAPH <http://example.com/g> { GRAPH ?h { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { GRAPH <http://example.com/g> { ?s ?p ?o } } }",
        "SELECT * FROM NAMED <http://example.com/g> { GRAPH ?g { ?s ?p ?o } }",
        "SELECT * FROM <http://example.com/g> FROM <http://example.com/h> { ?s ?p ?o }",
        "ASK { GRAPH ?g { ?s ?p 2 } }",
        "ASK { GRAPH ?g { ?s ?p \"secret\" } }",
        "CONSTRUCT { ?s ?p ?o } WHERE { GRAPH ?g { ?s ?p ?o } }",
        "CONSTRUCT { ?g ?g ?g } WHERE { GRAPH ?g {} }",
        "DESCRIBE ?s { GRAPH ?g { ?s ?p ?o } }",
        "DESCRIBE <http://example.com/secret>",
        "SELECT * { ?s ?p ?o }",
        "SELECT * { ?s ?p <urn:quadraft:reserved> }",
        "SELECT DISTINCT ?g { GRAPH ?g { ?s ?p ?o } } ORDER BY ?g OFFSET 1 LIMIT 100",
    ] {
        assert_blind(text);
    }
}

#[test]
fn a_bound_on_the_result_is_applied_after_hiding() {
    // With the reserved graph first in the store, a late filter would leave nothing.
    for text in [
        "SELECT ?g { { SELECT ?g { GRAPH ?g { ?s ?p \"secret\" } } LIMIT 1 } }",
        "SELECT (COUNT(*) AS ?c) { { SELECT ?s { GRAPH ?g { ?s <http://example.com/p> ?o } } LIMIT 4 } }",
        "SELECT (COUNT(*) AS ?c) { GRAPH ?g { { SELECT ?s { ?s <http://example.com/p> ?o } LIMIT 4 } } }",
    ] {
        assert_blind(text);
    }
}

#[test]
fn naming_the_reserved_graph_in_a_query_is_an_error() {
    for text in [
        "SELECT * { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }",
        "SELECT * { GRAPH <urn:quadraft:reserved> {} }",
        "SELECT * { ?s ?p ?o FILTER NOT EXISTS { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT * { ?s ?p ?o OPTIONAL { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT * { ?s ?p ?o MINUS { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT * { {} UNION { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT * { { SELECT * { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } } }",
        "SELECT * { {} LATERAL { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } }",
        "SELECT (MAX(EXISTS { GRAPH <urn:quadraft:reserved> {} }) AS ?m) {}",
        "SELECT * {} ORDER BY (EXISTS { GRAPH <urn:quadraft:reserved> {} })",
        "SELECT * FROM <urn:quadraft:reserved> { ?s ?p ?o }",
        "SELECT * FROM NAMED <urn:quadraft:reserved> { ?s ?p ?o }",
        "BASE <urn:quadraft:x> PREFIX r: <urn:quadraft:> SELECT * { GRAPH r:reserved { ?s ?p ?o } }",
        "ASK FROM <urn:quadraft:reserved> {}",
        "CONSTRUCT WHERE { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }"
            .replace("CONSTRUCT WHERE", "CONSTRUCT {} WHERE")
            .as_str(),
        "DESCRIBE ?s FROM <urn:quadraft:reserved> { ?s ?p ?o }",
    ] {
        assert_eq!(hidden_query(text), Err(Refused::ReservedGraph), "{text}");
    }
}

#[test]
fn naming_the_reserved_graph_in_an_update_is_an_error() {
    for text in [
        "INSERT DATA { GRAPH <urn:quadraft:reserved> { <a:a> <a:a> <a:a> } }",
        "DELETE DATA { GRAPH <urn:quadraft:reserved> { <a:a> <a:a> <a:a> } }",
        "INSERT { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } WHERE { ?s ?p ?o }",
        "DELETE { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } } WHERE { ?s ?p ?o }",
        "DELETE WHERE { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }",
        "INSERT { ?s ?p ?o } WHERE { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }",
        "INSERT { ?s ?p ?o } USING <urn:quadraft:reserved> WHERE { ?s ?p ?o }",
        "INSERT { ?s ?p ?o } USING NAMED <urn:quadraft:reserved> WHERE { ?s ?p ?o }",
        "WITH <urn:quadraft:reserved> DELETE { ?s ?p ?o } WHERE { ?s ?p ?o }",
        "CLEAR GRAPH <urn:quadraft:reserved>",
        "CLEAR SILENT GRAPH <urn:quadraft:reserved>",
        "DROP GRAPH <urn:quadraft:reserved>",
        "CREATE GRAPH <urn:quadraft:reserved>",
        "LOAD <http://example.com/> INTO GRAPH <urn:quadraft:reserved>",
        "COPY <urn:quadraft:reserved> TO <http://example.com/g>",
        "COPY <http://example.com/g> TO <urn:quadraft:reserved>",
        "MOVE <urn:quadraft:reserved> TO DEFAULT",
        "MOVE DEFAULT TO <urn:quadraft:reserved>",
        "ADD <urn:quadraft:reserved> TO DEFAULT",
        "ADD DEFAULT TO <urn:quadraft:reserved>",
        "INSERT DATA { <a:a> <a:a> <a:a> } ; DROP GRAPH <urn:quadraft:reserved>",
    ] {
        assert_eq!(hidden_update(text), Err(Refused::ReservedGraph), "{text}");
    }
}

#[test]
fn an_update_reads_as_if_the_reserved_graph_did_not_exist() {
    for text in [
        "INSERT { ?s ?p ?o } WHERE { GRAPH ?g { ?s ?p ?o } }",
        "INSERT { ?s ?p ?c } WHERE { GRAPH ?g { SELECT ?s ?p (COUNT(*) AS ?c) { ?s ?p ?o } GROUP BY ?s ?p } }",
        "DELETE { GRAPH ?g { ?s ?p ?o } } WHERE { GRAPH ?g { ?s ?p ?o } }",
    ] {
        let patterns = |update: &Update| match &update.operations[0] {
            GraphUpdateOperation::DeleteInsert { pattern, .. } => (**pattern).clone(),
            other => unreachable!("{other}"),
        };
        let pattern = patterns(&hidden_update(text).unwrap());
        let query = Query::Select {
            dataset: None,
            pattern: GraphPattern::Project {
                variables: ["s", "p", "o", "c", "g"]
                    .map(|name| Variable::new(name).unwrap())
                    .to_vec(),
                inner: Box::new(pattern),
            },
            base_iri: None,
        };
        assert_eq!(
            answer(&store(true), query.clone()),
            answer(&store(false), query),
            "{text}"
        );
    }
}

#[test]
fn the_iri_is_allowed_as_an_ordinary_term() {
    for text in [
        "SELECT * { ?s ?p <urn:quadraft:reserved> }",
        "SELECT * { <urn:quadraft:reserved> ?p ?o }",
        "SELECT * { ?s <urn:quadraft:reserved>+ ?o }",
        "DESCRIBE <urn:quadraft:reserved>",
        "SELECT * { GRAPH ?g { ?s ?p ?o FILTER(?o = <urn:quadraft:reserved>) } }",
    ] {
        assert!(hidden_query(text).is_ok(), "{text}");
    }
    for text in [
        "INSERT DATA { <urn:quadraft:reserved> <a:a> <urn:quadraft:reserved> }",
        "CLEAR ALL",
        "DROP NAMED",
    ] {
        assert!(hidden_update(text).is_ok(), "{text}");
    }
}

#[test]
fn service_is_refused_wherever_it_is() {
    for text in [
        "SELECT * { SERVICE <http://example.com/> { ?s ?p ?o } }",
        "SELECT * { SERVICE ?x { ?s ?p ?o } }",
        "SELECT * { ?s ?p ?o FILTER EXISTS { SERVICE <http://example.com/> { ?s ?p ?o } } }",
        "SELECT * { GRAPH ?g { { SELECT * { SERVICE <http://example.com/> {} } } } }",
    ] {
        assert_eq!(hidden_query(text), Err(Refused::Service), "{text}");
    }
    let update = "INSERT { ?s ?p ?o } WHERE { SERVICE <http://example.com/> { ?s ?p ?o } }";
    assert_eq!(hidden_update(update), Err(Refused::Service));
}

#[test]
fn quads_and_names_are_checked_by_their_graph() {
    let reserved = NamedNode::from(NamedNodeRef::new_unchecked(RESERVED_GRAPH));
    assert_eq!(check_graph_name(&reserved), Err(Refused::ReservedGraph));
    assert_eq!(check_graph_name(&node("g")), Ok(()));
    let quad = |graph: GraphName| Quad::new(reserved.clone(), node("p"), node("o"), graph);
    assert_eq!(check_quad(&quad(GraphName::DefaultGraph)), Ok(()));
    assert_eq!(check_quad(&quad(node("g").into())), Ok(()));
    assert_eq!(
        check_quad(&quad(reserved.clone().into())),
        Err(Refused::ReservedGraph)
    );
}

/// Patterns that put graphs, sub-selects and the rest into each other.
fn any_pattern() -> impl Strategy<Value = String> {
    let variable = || "[sogx]".prop_map(|name| format!("?{name}"));
    let predicate = prop_oneof![
        variable(),
        Just("<http://example.com/p>".to_owned()),
        Just("<http://example.com/p>*".to_owned()),
        Just("<http://example.com/p>/^<http://example.com/q>".to_owned()),
    ];
    let leaf = prop_oneof![
        4 => (variable(), predicate, variable()).prop_map(|(s, p, o)| format!("{s} {p} {o} .")),
        1 => Just(String::new()),
        1 => Just("VALUES ?g { <urn:quadraft:reserved> <http://example.com/g> }".to_owned()),
    ];
    leaf.prop_recursive(5, 20, 2, move |inner| {
        prop_oneof![
            6 => (variable(), inner.clone()).prop_map(|(g, a)| format!("GRAPH {g} {{ {a} }}")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ {a} }} {{ {b} }}")),
            2 => (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{{ {a} }} UNION {{ {b} }}")),
            2 => (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{{ {a} }} OPTIONAL {{ {b} }}")),
            2 => (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{{ {a} }} MINUS {{ {b} }}")),
            2 => (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{{ {a} }} FILTER EXISTS {{ {b} }}")),
            2 => (variable(), inner.clone())
                .prop_map(|(v, a)| format!("{{ SELECT DISTINCT {v} {{ {a} }} }}")),
            1 => inner.prop_map(|a| format!("{{ SELECT (COUNT(*) AS ?c) {{ {a} }} }}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_query_shows_anything_of_the_reserved_graph(pattern in any_pattern()) {
        let text = format!("SELECT DISTINCT * {{ {pattern} }}");
        // Some combinations assign a variable twice, which the grammar forbids.
        if let Ok(mut query) = SparqlParser::new().parse_query(&text) {
            hide_in_query(&mut query).unwrap();
            let with = answer(&store(true), query.clone());
            prop_assert_eq!(&with, &answer(&store(false), query), "{}", text);
            prop_assert!(!with.iter().any(|row| row.contains(SECRET)), "{}", text);
        }
    }
}
