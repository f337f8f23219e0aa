//! Tests of the evaluation as a whole, on real stores.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use oxigraph::sparql::SparqlEvaluator;
use oxigraph::store::Store;
use oxrdf::{GraphName, Literal, NamedOrBlankNode, Quad, Term};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::state::{
    Apply, Command, Effects, LogPosition, Outcome, RESERVED_GRAPH, RequestId, State,
};

/// The processor time that the thread has used: other than the clock on the wall, it does not depend
/// on what else the machine does.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

fn opened() -> (TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("store")).unwrap();
    (folder, state)
}

fn update(text: &str) -> Write {
    Write::Update {
        text: format!("PREFIX : <http://example.com/> {text}"),
        base_iri: Some("http://example.com/".into()),
        using_graphs: None,
    }
}

fn upload(target: Target, media_type: &str, body: &str) -> Write {
    Write::Add {
        target,
        media_type: media_type.into(),
        base_iri: Some("http://example.com/base/".into()),
        body: body.into(),
    }
}

fn group(state: &State, writes: &[Write]) -> Evaluation {
    let writes: Vec<_> = writes
        .iter()
        .map(|write| (RequestId::unique(), write.clone()))
        .collect();
    evaluate_group(state, &writes, EvaluationLimits::default()).unwrap()
}

fn propose(state: &State, evaluation: Evaluation) {
    let Some(command) = evaluation.command else {
        return;
    };
    let command = Command::decode(&command.encode()).unwrap();
    let index = state.applied().map_or(1, |applied| applied.index + 1);
    let outcomes = state
        .apply(&[(LogPosition { term: 1, index }, Apply::Command(command))])
        .unwrap();
    assert!(matches!(outcomes[..], [Outcome::Applied(_)]));
    let (digest, quads, _) = state.recompute().unwrap();
    assert_eq!((digest, quads), (state.digest(), state.quads()));
}

fn write(state: &State, write: Write) -> Result<Effects, WriteError> {
    let mut evaluation = group(state, &[write]);
    evaluation.answers.remove(0)?;
    let effects = evaluation.command.as_ref().unwrap().requests[0].1.clone();
    propose(state, evaluation);
    Ok(effects)
}

fn run(state: &State, text: &str) -> Result<Effects, WriteError> {
    write(state, update(text))
}

/// The quads without the dots, shortened.
fn quads(state: &State) -> Vec<String> {
    let mut quads: Vec<_> = state
        .view()
        .read()
        .unwrap()
        .quads()
        .map(|quad| quad.unwrap().to_string().replace("http://example.com/", ""))
        .collect();
    quads.sort();
    quads
}

fn graphs(state: &State) -> Vec<String> {
    let mut graphs: Vec<_> = state
        .view()
        .read()
        .unwrap()
        .named_graphs()
        .map(|graph| {
            graph
                .unwrap()
                .to_string()
                .replace("http://example.com/", "")
        })
        .collect();
    graphs.sort();
    graphs
}

#[test]
fn data_is_inserted_and_deleted() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { :a :p 1, 2 . GRAPH :g { :a :p :b } }").unwrap();
    run(&state, "DELETE DATA { :a :p 01, 3 }").unwrap();
    assert_eq!(
        quads(&state)[0],
        "<a> <p> \"2\"^^<http://www.w3.org/2001/XMLSchema#integer>"
    );
    assert_eq!(quads(&state)[1], "<a> <p> <b> <g>");
}

#[test]
fn effects_are_net() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { :a :p :b, :c }").unwrap();
    let effects = run(
        &state,
        "DELETE DATA { :a :p :b, :x } ; INSERT DATA { :a :p :b, :c, :new } ; DELETE DATA { :a :p :new }",
    )
    .unwrap();
    assert!(effects.is_empty(), "{effects:?}");
    let effects = run(
        &state,
        "INSERT DATA { GRAPH :g { :a :p :b } } ; DELETE DATA { GRAPH :g { :a :p :b } }",
    )
    .unwrap();
    assert!(effects.inserts.is_empty() && effects.deletes.is_empty());
    assert_eq!(effects.created_graphs.len(), 1);
    assert_eq!(graphs(&state), ["<g>"]);
}

#[test]
fn every_solution_gets_blank_nodes_of_its_own() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { :a :p :x . :b :p :x . _:n :q _:n }").unwrap();
    let effects = run(
        &state,
        "INSERT { ?s :r _:n . _:n :s _:n } WHERE { ?s :p :x }",
    )
    .unwrap();
    let nodes: HashSet<_> = effects
        .inserts
        .iter()
        .filter_map(|quad| match &quad.object {
            Term::BlankNode(node) => Some(node.clone()),
            _ => None,
        })
        .collect();
    assert_eq!((effects.inserts.len(), nodes.len()), (4, 2));
    let again = run(&state, "INSERT DATA { _:n :q _:n }").unwrap();
    assert_eq!(again.inserts.len(), 1);
}

#[test]
fn the_clock_and_chance_are_decided_once() {
    let (_folder, state) = opened();
    let effects = run(
        &state,
        "INSERT { :a :now ?now ; :uuid ?uuid ; :rand ?rand } WHERE { BIND(NOW() AS ?now) BIND(UUID() AS ?uuid) BIND(RAND() AS ?rand) }",
    )
    .unwrap();
    assert_eq!(effects.inserts.len(), 3);
    assert_eq!(state.quads(), 3);
}

#[test]
fn what_cannot_stand_in_its_place_makes_no_quad() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { :a :p 1 }").unwrap();
    let effects = run(
        &state,
        "INSERT { ?o :q ?s . ?s ?o :x . ?s :q ?unbound . GRAPH ?o { ?s :q :x } . ?s :q ?o } WHERE { ?s :p ?o }",
    )
    .unwrap();
    assert_eq!(effects.inserts.len(), 1);
}

#[test]
fn all_operations_of_a_request_succeed_or_none() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { :a :p :b . GRAPH :g { :a :p :b } }").unwrap();
    let before = (quads(&state), graphs(&state));
    let refused = [
        update("INSERT DATA { :x :p :y } ; DROP GRAPH :unknown"),
        update(
            "DROP ALL ; INSERT { :y :p :z } WHERE { GRAPH :g { ?s ?p ?o } } ; CREATE GRAPH :h ; CREATE GRAPH :h",
        ),
    ];
    let last = update("INSERT { ?s :q ?o } WHERE { ?s :p ?o }");
    let mut writes = refused.to_vec();
    writes.push(last);
    let evaluation = group(&state, &writes);
    assert_eq!(
        evaluation.answers[0],
        Err(WriteError::UnknownGraph {
            graph: "<http://example.com/unknown>".into()
        })
    );
    assert_eq!(
        evaluation.answers[1],
        Err(WriteError::GraphExists {
            graph: "<http://example.com/h>".into()
        })
    );
    assert_eq!(
        evaluation.answers[2],
        Ok(Evaluated::Proposed {
            place: 0,
            created: false
        })
    );
    assert_eq!((quads(&state), graphs(&state)), before);
    propose(&state, evaluation);
    assert_eq!(
        quads(&state),
        ["<a> <p> <b>", "<a> <p> <b> <g>", "<a> <q> <b>"]
    );
    assert_eq!(graphs(&state), ["<g>"]);
}

#[test]
fn each_write_of_a_group_sees_those_before_it() {
    let (_folder, state) = opened();
    let evaluation = group(
        &state,
        &[
            update("INSERT DATA { :a :n 1 }"),
            update("not SPARQL"),
            update("DELETE { :a :n ?n } INSERT { :a :n ?m } WHERE { :a :n ?n BIND(?n + 1 AS ?m) }"),
            update("CREATE GRAPH :g"),
            update("DELETE { :a :n ?n } INSERT { :a :n ?m } WHERE { :a :n ?n BIND(?n + 1 AS ?m) }"),
            update("INSERT { :g :exists true } WHERE { GRAPH :g {} }"),
        ],
    );
    assert!(matches!(
        evaluation.answers[1],
        Err(WriteError::Malformed {
            line: Some(1),
            column: Some(_),
            ..
        })
    ));
    assert_eq!(
        evaluation.answers[5],
        Ok(Evaluated::Proposed {
            place: 4,
            created: false
        })
    );
    propose(&state, evaluation);
    assert_eq!(
        quads(&state),
        [
            "<a> <n> \"3\"^^<http://www.w3.org/2001/XMLSchema#integer>",
            "<g> <exists> \"true\"^^<http://www.w3.org/2001/XMLSchema#boolean>"
        ]
    );
}

#[test]
fn a_known_request_is_not_proposed_again() {
    let (_folder, state) = opened();
    let id = RequestId::from_key("key");
    let writes = [
        (id, update("INSERT DATA { :a :p :b }")),
        (id, update("INSERT DATA { :a :p :c }")),
    ];
    let limits = EvaluationLimits::default();
    let evaluation = evaluate_group(&state, &writes, limits).unwrap();
    let first = || {
        Ok(Evaluated::Proposed {
            place: 0,
            created: false,
        })
    };
    assert_eq!(evaluation.answers, [first(), first()]);
    propose(&state, evaluation);
    let evaluation = evaluate_group(&state, &writes[..1], limits).unwrap();
    assert_eq!(
        evaluation.answers,
        [Ok(Evaluated::Duplicate { log_index: 1 })]
    );
    assert!(evaluation.command.is_none());
}

#[test]
fn an_update_without_effects_is_proposed_all_the_same() {
    let (_folder, state) = opened();
    let effects = run(&state, "DELETE DATA { :a :p :b }").unwrap();
    assert!(effects.is_empty());
    assert_eq!(state.data_index(), 1);
}

#[test]
fn the_reserved_graph_cannot_be_named() {
    let (_folder, state) = opened();
    run(&state, "INSERT DATA { GRAPH :g { :a :p :b } }").unwrap();
    let reserved = format!("<{RESERVED_GRAPH}>");
    for text in [
        "INSERT DATA { GRAPH @R { :a :p :b } }",
        "DELETE DATA { GRAPH @R { :a :p :b } }",
        "DELETE WHERE { GRAPH @R { ?s ?p ?o } }",
        "WITH @R DELETE { ?s ?p ?o } WHERE { ?s ?p ?o }",
        "INSERT { ?s ?p ?o } USING @R WHERE { ?s ?p ?o }",
        "INSERT { ?s ?p ?o } USING NAMED @R WHERE { GRAPH ?g { ?s ?p ?o } }",
        "INSERT { GRAPH @R { ?s ?p ?o } } WHERE { ?s ?p ?o }",
        "INSERT { ?s ?p ?o } WHERE { GRAPH @R { ?s ?p ?o } }",
        "INSERT { :a :p :b } WHERE { FILTER(!EXISTS { GRAPH @R { ?s ?p ?o } }) }",
        "CLEAR GRAPH @R",
        "DROP SILENT GRAPH @R",
        "CREATE SILENT GRAPH @R",
        "COPY @R TO :h",
        "MOVE DEFAULT TO @R",
        "ADD @R TO DEFAULT",
        "LOAD SILENT <http://example.com/x> INTO GRAPH @R",
        // Not in the text, but bound to it.
        "INSERT { GRAPH ?g { :a :p :b } } WHERE { BIND(@R AS ?g) }",
        "DELETE { GRAPH ?g { ?s ?p ?o } } WHERE { VALUES ?g { @R } GRAPH :g { ?s ?p ?o } }",
    ] {
        assert_eq!(
            run(&state, &text.replace("@R", &reserved)),
            Err(WriteError::ReservedGraph),
            "{text}"
        );
    }
    let protocol = Write::Update {
        text: "INSERT { ?s ?p ?o } WHERE { ?s ?p ?o }".into(),
        base_iri: None,
        using_graphs: Some(UsingGraphs {
            default: vec![RESERVED_GRAPH.into()],
            named: Vec::new(),
        }),
    };
    assert_eq!(write(&state, protocol), Err(WriteError::ReservedGraph));
    let target = Target::NamedGraph(RESERVED_GRAPH.into());
    for refused in [
        upload(target.clone(), "text/turtle", "<a> <b> <c> ."),
        upload(
            Target::Dataset,
            "application/n-quads",
            &format!("<urn:a> <urn:b> <urn:c> {reserved} ."),
        ),
        Write::Delete { target },
    ] {
        assert_eq!(write(&state, refused), Err(WriteError::ReservedGraph));
    }
}

#[test]
fn patterns_never_see_the_reserved_graph() {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT DATA { GRAPH :g { :a :p :b } } ; CREATE GRAPH :empty",
    )
    .unwrap();
    let count = |pattern: &str| {
        let effects = run(
            &state,
            &format!("INSERT {{ _:n :seen ?g ; :as ?x }} WHERE {{ {pattern} }}"),
        )
        .unwrap();
        let seen: HashSet<_> = effects
            .inserts
            .iter()
            .map(|quad| quad.object.to_string())
            .collect();
        assert!(
            !format!("{effects:?}").contains(RESERVED_GRAPH),
            "{pattern}"
        );
        run(&state, "CLEAR DEFAULT").unwrap();
        seen.len()
    };
    assert_eq!(count("GRAPH ?g { ?s ?p ?o }"), 1);
    assert_eq!(count("GRAPH ?g { }"), 2);
    assert_eq!(
        count("GRAPH ?g { ?s ?p* ?o }".replace("?p*", ":p*").as_str()),
        1
    );
    assert_eq!(count("{ SELECT ?g { GRAPH ?g { ?s ?p ?o } } }"), 1);
    assert_eq!(count("GRAPH ?g { OPTIONAL { ?s ?p ?o } }"), 2);
    assert_eq!(
        count("BIND(1 AS ?x) FILTER EXISTS { GRAPH ?h { ?s <urn:quadraft:reserved:counts> ?o } }"),
        0
    );
    assert_eq!(
        count("GRAPH ?g { ?s ?p ?o FILTER NOT EXISTS { ?s :none ?o } }"),
        1
    );
    // A count inside sees what the pattern sees.
    let effects = run(
        &state,
        "INSERT { :a :count ?n } WHERE { GRAPH ?g { SELECT (COUNT(*) AS ?n) { ?s ?p ?o } } }",
    )
    .unwrap();
    assert!(
        effects
            .inserts
            .iter()
            .all(|quad| quad.object == Term::from(Literal::from(1))),
        "{effects:?}"
    );
}

#[test]
fn clearing_and_dropping_everything_keeps_the_records_of_the_store() {
    let (folder, state) = opened();
    run(
        &state,
        "INSERT DATA { :a :p :b . GRAPH :g { :a :p :b } GRAPH :h { :a :p :b } }",
    )
    .unwrap();
    run(&state, "CLEAR NAMED").unwrap();
    assert_eq!(
        (quads(&state), graphs(&state)),
        (vec!["<a> <p> <b>".into()], vec!["<g>".into(), "<h>".into()])
    );
    run(&state, "CLEAR ALL").unwrap();
    assert_eq!((state.quads(), graphs(&state).len()), (0, 2));
    run(
        &state,
        "INSERT DATA { :a :p :b . GRAPH :g { :a :p :b } } ; DROP ALL",
    )
    .unwrap();
    assert_eq!((state.quads(), graphs(&state).len()), (0, 0));
    let status = state.status();
    drop(state);
    let state = State::open(&folder.path().join("store")).unwrap();
    assert_eq!(state.status(), status);
}

#[test]
fn large_removals_are_short_entries() {
    let (_folder, state) = opened();
    let data: String = (0..500)
        .map(|number| format!(":s{number} :p :o . "))
        .collect();
    run(
        &state,
        &format!("INSERT DATA {{ {data} GRAPH :g {{ {data} }} }}"),
    )
    .unwrap();
    for text in ["CLEAR GRAPH :g", "DROP GRAPH :g", "DROP DEFAULT"] {
        let effects = run(&state, text).unwrap();
        assert!(effects.deletes.is_empty(), "{text}");
        assert_eq!(effects.dropped_graphs.len(), 1);
    }
    assert_eq!((state.quads(), graphs(&state).len()), (0, 0));
}

#[test]
fn load_and_service_are_refused() {
    let (_folder, state) = opened();
    for (text, what) in [
        ("LOAD <http://example.com/x>", "LOAD"),
        (
            "INSERT { ?s ?p ?o } WHERE { SERVICE :s { ?s ?p ?o } }",
            "SERVICE",
        ),
        (
            "INSERT { :a :p :b } WHERE { FILTER EXISTS { SERVICE :s { ?s ?p ?o } } }",
            "SERVICE",
        ),
    ] {
        assert_eq!(
            run(&state, text),
            Err(WriteError::Unsupported { what: what.into() })
        );
    }
    assert!(
        run(&state, "LOAD SILENT <http://example.com/x>")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_parameters_of_the_protocol_choose_the_graphs() {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT DATA { :a :p :default . GRAPH :g { :a :p :g } GRAPH :h { :a :p :h } }",
    )
    .unwrap();
    let with = |text: &str| Write::Update {
        text: format!("PREFIX : <http://example.com/> {text}"),
        base_iri: None,
        using_graphs: Some(UsingGraphs {
            default: vec!["http://example.com/g".into()],
            named: vec!["http://example.com/h".into()],
        }),
    };
    let effects = write(
        &state,
        with("INSERT { ?s :q ?o, ?n } WHERE { ?s :p ?o GRAPH ?g { ?s :p ?n } }"),
    )
    .unwrap();
    assert_eq!(effects.inserts.len(), 2);
    assert_eq!(quads(&state)[1..3], ["<a> <p> <g> <g>", "<a> <p> <h> <h>"]);
    for text in [
        "INSERT { ?s :q ?o } USING :g WHERE { ?s :p ?o }",
        "WITH :g DELETE { ?s :p ?o } WHERE { ?s :p ?o }",
    ] {
        assert!(matches!(
            write(&state, with(text)),
            Err(WriteError::Malformed { .. })
        ));
    }
}

#[test]
fn documents_are_added_to_where_they_belong() {
    let (_folder, state) = opened();
    let graph = || Target::NamedGraph("http://example.com/g".into());
    write(
        &state,
        upload(Target::DefaultGraph, "text/turtle", "<a> <b> <c> ."),
    )
    .unwrap();
    write(
        &state,
        upload(graph(), "text/turtle;charset=utf-8", "<a> <b> 01 ."),
    )
    .unwrap();
    write(
        &state,
        upload(
            Target::Dataset,
            "application/trig",
            "<x> <b> <c> . <h> { <x> <b> <c> }",
        ),
    )
    .unwrap();
    assert_eq!(
        quads(&state),
        [
            "<base/a> <base/b> \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> <g>",
            "<base/a> <base/b> <base/c>",
            "<base/x> <base/b> <base/c>",
            "<base/x> <base/b> <base/c> <base/h>",
        ]
    );
    for media_type in [
        "application/n-quads",
        "application/trig",
        "image/png",
        "nonsense",
    ] {
        assert!(matches!(
            write(&state, upload(graph(), media_type, "")),
            Err(WriteError::UnsupportedMediaType { .. })
        ));
    }
    assert!(matches!(
        write(
            &state,
            upload(graph(), "text/turtle", "<a> <b> <c> .\n<a> <b> nonsense .")
        ),
        Err(WriteError::Malformed { line: Some(2), .. })
    ));
    let json = r#"[{"@id": "urn:a", "urn:p": "x"}]"#;
    write(&state, upload(graph(), "application/ld+json", json)).unwrap();
    let json = r#"[{"@id": "urn:h", "@graph": [{"@id": "urn:a", "urn:p": "x"}]}]"#;
    assert!(matches!(
        write(&state, upload(graph(), "application/ld+json", json)),
        Err(WriteError::Malformed { .. })
    ));
}

#[test]
fn blank_nodes_of_a_document_are_its_own() {
    let (_folder, state) = opened();
    let document = upload(Target::DefaultGraph, "text/turtle", "_:n <p> _:n, _:m .");
    write(&state, document.clone()).unwrap();
    write(&state, document).unwrap();
    assert_eq!(state.quads(), 4);
}

#[test]
fn a_document_can_replace_a_graph_or_everything() {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT DATA { :a :p :b . GRAPH :g { :a :p :b, :c } GRAPH :h { :a :p :b } }",
    )
    .unwrap();
    let replace = |target: Target, media_type: &str, body: &str| Write::Replace {
        target,
        media_type: media_type.into(),
        base_iri: Some("http://example.com/".into()),
        body: body.into(),
    };
    let graph = Target::NamedGraph("http://example.com/g".into());
    write(
        &state,
        replace(graph.clone(), "text/turtle", "<a> <p> <c>, <d> ."),
    )
    .unwrap();
    assert_eq!(
        quads(&state),
        [
            "<a> <p> <b>",
            "<a> <p> <b> <h>",
            "<a> <p> <c> <g>",
            "<a> <p> <d> <g>"
        ]
    );
    write(&state, replace(graph, "text/turtle", "")).unwrap();
    assert_eq!(graphs(&state), ["<g>", "<h>"]);
    assert!(write(&state, replace(Target::Dataset, "text/turtle", "broken")).is_err());
    assert_eq!(state.quads(), 2);
    write(
        &state,
        replace(Target::Dataset, "text/turtle", "<x> <p> <y> ."),
    )
    .unwrap();
    assert_eq!(
        (quads(&state), graphs(&state).len()),
        (vec!["<x> <p> <y>".into()], 0)
    );
}

#[test]
fn graphs_are_deleted_if_they_exist() {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT DATA { :a :p :b . GRAPH :g { :a :p :b } GRAPH :h { :a :p :b } }",
    )
    .unwrap();
    let delete = |target: Target| write(&state, Write::Delete { target });
    let graph = || Target::NamedGraph("http://example.com/g".into());
    delete(graph()).unwrap();
    assert!(matches!(
        delete(graph()),
        Err(WriteError::UnknownGraph { .. })
    ));
    delete(Target::DefaultGraph).unwrap();
    delete(Target::DefaultGraph).unwrap();
    assert_eq!(quads(&state), ["<a> <p> <b> <h>"]);
    delete(Target::Dataset).unwrap();
    assert_eq!((state.quads(), graphs(&state).len()), (0, 0));
}

#[test]
fn a_key_that_is_used_again_for_something_else_is_refused() {
    let (_folder, state) = opened();
    let keyed = |text: &str| {
        let write = update(text);
        (RequestId::of_key("key", &write.content_digest()), write)
    };
    let (first, other) = (
        keyed("INSERT DATA { :a :p :b }"),
        keyed("INSERT DATA { :a :p :c }"),
    );
    let limits = EvaluationLimits::default();
    let group = [first.clone(), other.clone(), first.clone()];
    let evaluation = evaluate_group(&state, &group, limits).unwrap();
    assert_eq!(evaluation.answers[1], Err(WriteError::KeyReused));
    assert_eq!(evaluation.answers[0], evaluation.answers[2]);
    propose(&state, evaluation);
    assert_eq!(state.quads(), 1);
    let evaluation = evaluate_group(&state, &[first, other], limits).unwrap();
    assert_eq!(
        evaluation.answers,
        [
            Ok(Evaluated::Duplicate { log_index: 1 }),
            Err(WriteError::KeyReused)
        ]
    );
    assert!(evaluation.command.is_none());
}

/// What the three operations leave of two graphs, with graphs of the protocol that are neither.
fn moved(operation: &str) -> Vec<String> {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT DATA { GRAPH <http://a> { :s :p 1 } GRAPH <http://b> { :s :p 2 } }",
    )
    .unwrap();
    let write = Write::Update {
        text: operation.into(),
        base_iri: None,
        using_graphs: Some(UsingGraphs {
            default: vec!["http://other".into()],
            named: vec![],
        }),
    };
    let evaluation = evaluate_group(
        &state,
        &[(RequestId::unique(), write)],
        EvaluationLimits::default(),
    )
    .unwrap();
    assert!(evaluation.answers[0].is_ok(), "{:?}", evaluation.answers);
    propose(&state, evaluation);
    quads(&state)
}

#[test]
fn graphs_of_the_protocol_are_for_patterns_alone() {
    let with = |text: &str| {
        let (_folder, state) = opened();
        run(&state, &format!("INSERT DATA {{ {text} }}")).unwrap();
        quads(&state)
    };
    assert_eq!(
        moved("MOVE <http://a> TO <http://b>"),
        with("GRAPH <http://b> { :s :p 1 }")
    );
    assert_eq!(
        moved("COPY <http://a> TO <http://b>"),
        with("GRAPH <http://a> { :s :p 1 } GRAPH <http://b> { :s :p 1 }")
    );
    assert_eq!(
        moved("ADD <http://a> TO <http://b>"),
        with("GRAPH <http://a> { :s :p 1 } GRAPH <http://b> { :s :p 1, 2 }")
    );
    // A pattern sees the graph of the protocol, which is empty.
    let both = with("GRAPH <http://a> { :s :p 1 } GRAPH <http://b> { :s :p 2 }");
    assert_eq!(moved("DELETE WHERE { ?s ?p ?o }"), both);
    assert_eq!(
        moved("INSERT { GRAPH <http://c> { ?s ?p ?o } } WHERE { GRAPH <http://a> { ?s ?p ?o } }"),
        both
    );
}

#[test]
fn a_service_that_may_be_silent_is_one_empty_solution() {
    let (_folder, state) = opened();
    run(
        &state,
        "INSERT { :s :p ?y } WHERE { SERVICE SILENT <http://nowhere> { ?s ?p ?x } BIND(1 AS ?y) }",
    )
    .unwrap();
    assert_eq!(state.quads(), 1);
    assert!(matches!(
        run(
            &state,
            "INSERT { :s :p ?x } WHERE { SERVICE <http://nowhere> { ?s ?p ?x } }"
        ),
        Err(WriteError::Unsupported { .. })
    ));
}

#[test]
fn the_memory_of_an_update_is_bounded() {
    let (_folder, state) = opened();
    let data: String = (0..2000)
        .map(|number| format!(":s{number} :p {number} . "))
        .collect();
    run(&state, &format!("INSERT DATA {{ {data} }}")).unwrap();
    let limits = EvaluationLimits {
        maximum_growth_bytes: 64 << 20,
        timeout: Duration::from_secs(60),
        ..EvaluationLimits::default()
    };
    // Four million rows are kept to be sorted.
    let large = update(
        "INSERT { :a :b ?first } WHERE { { SELECT ?first { ?a :p ?first . ?b :p ?second } \
         ORDER BY DESC(CONCAT(STR(?first), STR(?second), STR(?a), STR(?b))) LIMIT 1 } }",
    );
    let writes = [
        (RequestId::unique(), large),
        (RequestId::unique(), update("INSERT DATA { :a :q 1 }")),
    ];
    let evaluation = evaluate_group(&state, &writes, limits).unwrap();
    assert_eq!(evaluation.answers[0], Err(WriteError::OutOfMemory));
    assert!(evaluation.answers[1].is_ok(), "the others go on");
    propose(&state, evaluation);
    assert_eq!(state.quads(), 2001);
}

#[test]
fn what_is_too_large_is_refused_and_the_others_go_on() {
    let (_folder, state) = opened();
    let limits = EvaluationLimits {
        maximum_effect_quads: 10,
        ..EvaluationLimits::default()
    };
    let data = |count: usize| {
        let quads: String = (0..count)
            .map(|number| format!(":s{number} :p :o . "))
            .collect();
        update(&format!("INSERT DATA {{ {quads} }}"))
    };
    let writes = [
        (RequestId::unique(), data(11)),
        (RequestId::unique(), data(10)),
        (
            RequestId::unique(),
            update("DELETE { ?s ?p ?o } INSERT { ?s :q ?o } WHERE { ?s ?p ?o }"),
        ),
        (
            RequestId::unique(),
            update("INSERT { ?s :q ?x } WHERE { ?s ?p ?o . ?x ?y ?z }"),
        ),
    ];
    let evaluation = evaluate_group(&state, &writes, limits).unwrap();
    let too_large =
        |answer: &Result<Evaluated, WriteError>| matches!(answer, Err(WriteError::TooLarge { .. }));
    let refused: Vec<_> = evaluation.answers.iter().map(too_large).collect();
    assert_eq!(refused, [true, false, true, true]);
    propose(&state, evaluation);
    assert_eq!(state.quads(), 10);
    let bytes = EvaluationLimits {
        maximum_effect_bytes: 100,
        ..EvaluationLimits::default()
    };
    let long = format!("INSERT DATA {{ :a :p \"{}\" }}", "x".repeat(200));
    let evaluation =
        evaluate_group(&state, &[(RequestId::unique(), update(&long))], bytes).unwrap();
    assert!(too_large(&evaluation.answers[0]));
}

#[test]
fn a_pattern_that_takes_too_long_is_stopped() {
    let (_folder, state) = opened();
    let data: String = (0..300)
        .map(|number| format!(":s{number} :p :o . "))
        .collect();
    run(&state, &format!("INSERT DATA {{ {data} }}")).unwrap();
    let limits = EvaluationLimits {
        timeout: Duration::from_millis(200),
        ..EvaluationLimits::default()
    };
    let endless = update(
        "INSERT { :a :b ?n } WHERE { { SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l } } }",
    );
    let start = processor_time();
    let writes = [
        (RequestId::unique(), endless),
        (RequestId::unique(), update("INSERT DATA { :a :b :c }")),
    ];
    let evaluation = super::group::evaluate_here(&state, &writes, limits).unwrap();
    assert_eq!(
        evaluation.answers[0],
        Err(WriteError::TimedOut { timeout_ms: 200 })
    );
    assert!(evaluation.answers[1].is_ok());
    let passed = processor_time() - start;
    assert!(passed < Duration::from_secs(2), "{passed:?}");
}

#[test]
fn what_is_nested_too_deeply_is_refused_and_what_is_allowed_does_not_overflow() {
    let (_folder, state) = opened();
    let nested = |depth: usize| {
        format!(
            "INSERT {{ :a :b ?x }} WHERE {{ BIND({}1{} AS ?x) }}",
            "(".repeat(depth),
            ")".repeat(depth)
        )
    };
    run(&state, &nested(100)).unwrap();
    let too_complex =
        |answer: &Result<Effects, WriteError>| matches!(answer, Err(WriteError::TooComplex { .. }));
    assert!(too_complex(&run(&state, &nested(100_000))));
    // Each of these is parsed and planned when it is short, and refused when it is long.
    for (before, link, after) in [
        ("BIND(1", "+1", " AS ?x)"),
        ("FILTER(?x", "||?x", ")"),
        ("FILTER(", "!", "?x)"),
        ("BIND(", "- ", "1 AS ?x)"),
        ("?s :p", "/:p", " ?o"),
        ("?s :p", "|:p", " ?o"),
        ("?s ", "^", ":p ?o"),
        ("{}", "UNION{}", ""),
        ("", "OPTIONAL{?s ?p ?o}", ""),
        ("", "{?s ?p ?o}", ""),
        ("", "MINUS{?s ?p ?o}", ""),
        ("", "FILTER(?s)", ""),
        ("?s ?p ?o", ".?s ?p ?o", ""),
    ] {
        let text = |count: usize| {
            format!(
                "INSERT {{ :a :b ?x }} WHERE {{ {before}{}{after} }}",
                link.repeat(count)
            )
        };
        let short = run(&state, &text(100));
        assert!(!too_complex(&short), "{link}: {short:?}");
        let length_bytes = link.replace(' ', "").len();
        let long = run(&state, &text(60_000 / length_bytes));
        assert!(long.is_err(), "{link}: {long:?}");
    }
}

#[test]
fn ten_thousand_triples_are_evaluated_in_well_under_a_second() {
    let (_folder, state) = opened();
    let data: String = (0..10_000)
        .map(|number| format!(":subject{number} :predicate \"object {number}\" . "))
        .collect();
    let text = update(&format!("INSERT DATA {{ {data} }}"));
    let writes = [(RequestId::unique(), text)];
    let start = processor_time();
    let evaluation =
        super::group::evaluate_here(&state, &writes, EvaluationLimits::default()).unwrap();
    let passed = processor_time() - start;
    assert_eq!(
        evaluation.command.unwrap().requests[0].1.inserts.len(),
        10_000
    );
    assert!(passed < Duration::from_secs(1), "{passed:?}");
}

fn any_operation() -> impl Strategy<Value = String> {
    let node = || (0..3_u8).prop_map(|number| format!(":n{number}"));
    let graph = || (0..3_u8).prop_map(|number| format!(":g{number}"));
    let object = || {
        prop_oneof![
            node(),
            (0..3_u8).prop_map(|number| number.to_string()),
            (0..2_u8).prop_map(|number| format!(
                "\"0{number}\"^^<http://www.w3.org/2001/XMLSchema#int>"
            )),
        ]
    };
    let triple = move || {
        (node(), object()).prop_map(|(subject, object)| format!("{subject} :p {object} . "))
    };
    let data = move || {
        vec(
            prop_oneof![
                triple(),
                (graph(), triple())
                    .prop_map(|(graph, triple)| format!("GRAPH {graph} {{ {triple} }} ")),
            ],
            0..5,
        )
        .prop_map(|parts| parts.concat())
    };
    let place = || {
        prop_oneof![
            Just("DEFAULT".to_owned()),
            graph().prop_map(|graph| format!("GRAPH {graph}"))
        ]
    };
    let target = || {
        prop_oneof![
            3 => place(),
            1 => Just("NAMED".to_owned()),
            1 => Just("ALL".to_owned()),
        ]
    };
    let pattern = move || {
        prop_oneof![
            Just("?s :p ?o".to_owned()),
            graph().prop_map(|graph| format!("GRAPH {graph} {{ ?s :p ?o }}")),
            Just("GRAPH ?g { ?s :p ?o }".to_owned()),
            (node(), graph()).prop_map(|(node, graph)| format!(
                "{node} :p ?s OPTIONAL {{ GRAPH {graph} {{ ?s :p ?o }} }}"
            )),
            Just("?s :p ?o FILTER NOT EXISTS { GRAPH ?g { ?s :p ?o } }".to_owned()),
        ]
    };
    let template = move || {
        prop_oneof![
            Just("?s :p ?o".to_owned()),
            Just("?o :p ?s".to_owned()),
            Just("GRAPH ?g { ?o :p ?s }".to_owned()),
            Just("GRAPH ?g { ?s :p ?o }".to_owned()),
            (graph(), node()).prop_map(|(graph, node)| format!("GRAPH {graph} {{ ?s :p {node} }}")),
        ]
    };
    prop_oneof![
        4 => data().prop_map(|data| format!("INSERT DATA {{ {data} }}")),
        2 => data().prop_map(|data| format!("DELETE DATA {{ {data} }}")),
        1 => pattern().prop_filter("no filter", |pattern| !pattern.contains("FILTER") && !pattern.contains("OPTIONAL"))
            .prop_map(|pattern| format!("DELETE WHERE {{ {pattern} }}")),
        4 => (template(), template(), pattern())
            .prop_map(|(delete, insert, pattern)| format!("DELETE {{ {delete} }} INSERT {{ {insert} }} WHERE {{ {pattern} }}")),
        1 => (graph(), template(), pattern())
            .prop_map(|(graph, insert, pattern)| format!("WITH {graph} INSERT {{ {insert} }} WHERE {{ {pattern} }}")),
        1 => (graph(), template(), pattern())
            .prop_map(|(graph, delete, pattern)| format!("DELETE {{ {delete} }} USING {graph} WHERE {{ {pattern} }}")),
        1 => target().prop_map(|target| format!("CLEAR SILENT {target}")),
        1 => target().prop_map(|target| format!("DROP SILENT {target}")),
        1 => graph().prop_map(|graph| format!("DROP GRAPH {graph}")),
        1 => graph().prop_map(|graph| format!("CREATE SILENT GRAPH {graph}")),
        1 => (proptest::sample::select(&["COPY", "MOVE", "ADD"][..]), place(), place())
            .prop_map(|(verb, from, to)| format!("{verb} SILENT {from} TO {to}")),
    ]
}

fn content(
    quads: impl Iterator<Item = Quad>,
    graphs: impl Iterator<Item = NamedOrBlankNode>,
) -> (HashSet<Quad>, HashSet<String>) {
    let quads: HashSet<_> = quads
        .filter(|quad| !matches!(&quad.graph_name, GraphName::NamedNode(node) if node.as_str() == RESERVED_GRAPH))
        .collect();
    let graphs = graphs
        .map(|graph| graph.to_string())
        .filter(|graph| !graph.contains(RESERVED_GRAPH))
        .collect();
    (quads, graphs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn effects_do_what_the_store_itself_would_do(
        requests in vec(vec(any_operation(), 1..5), 1..8),
        together in 1..4_usize,
    ) {
        let (_folder, state) = opened();
        let model = Store::new().unwrap();
        let texts: Vec<_> = requests
            .iter()
            .map(|operations| format!("PREFIX : <http://example.com/> {}", operations.join(" ; ")))
            .collect();
        for texts in texts.chunks(together) {
            let writes: Vec<_> = texts
                .iter()
                .map(|text| Write::Update { text: text.clone(), base_iri: None, using_graphs: None })
                .collect();
            let evaluation = group(&state, &writes);
            for (text, answer) in texts.iter().zip(&evaluation.answers) {
                let mut transaction = model.start_transaction().unwrap();
                let done = SparqlEvaluator::new()
                    .parse_update(text)
                    .unwrap()
                    .on_transaction(&mut transaction)
                    .execute();
                prop_assert_eq!(done.is_ok(), answer.is_ok(), "{}: {:?}", text, answer);
                if done.is_ok() {
                    transaction.commit().unwrap();
                }
            }
            propose(&state, evaluation);
            let view = state.view();
            prop_assert_eq!(
                content(view.iter().map(Result::unwrap), view.named_graphs().map(Result::unwrap)),
                content(model.iter().map(Result::unwrap), model.named_graphs().map(Result::unwrap)),
                "after {:?}", texts
            );
        }
    }
}
