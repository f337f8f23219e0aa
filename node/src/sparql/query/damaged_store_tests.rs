//! Queries over stores of which a byte is damaged: an answer is right, or it is an error.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::metrics::QueryMetrics;
use crate::sparql::update::{EvaluationLimits, Write, evaluate_group};
use crate::state::{Apply, LogPosition, RequestId, State};

/// Queries that show a row as soon as it is found: one that collects rows first would collect the
/// errors of a failed iterator for ever, and only the end of the process would end it.
const QUERIES: &[&str] = &[
    "SELECT * { ?s ?p ?o }",
    "SELECT * { GRAPH ?g { ?s ?p ?o } }",
    "SELECT ?s { ?s <u:label> ?l FILTER(CONTAINS(?l, \"number 7\")) }",
    "SELECT ?s { ?s <u:label> ?l FILTER(!CONTAINS(?l, \"number 7\")) }",
    "SELECT ?s { ?s <u:label> ?l FILTER(STRLEN(?l) > 3 || STRLEN(?s) > 3) }",
    "SELECT ?s ?x { ?s <u:label> ?l BIND(COALESCE(STRLEN(?l), \"none\") AS ?x) }",
    "SELECT ?s ?x { ?s <u:label> ?l BIND(IF(STRLEN(?l) > 3, \"long\", \"short\") AS ?x) }",
    "SELECT ?s { ?s <u:number> ?n FILTER EXISTS { ?s <u:next> ?t } }",
    "SELECT ?s { ?s <u:number> ?n FILTER NOT EXISTS { ?s <u:missing> ?t } }",
    "SELECT ?s { ?s <u:number> ?n FILTER(!EXISTS { ?s <u:next> ?t } || ?n > 3) }",
    "CONSTRUCT { ?s <u:was> ?l } WHERE { ?s <u:label> ?l }",
    "ASK { ?s <u:label> ?l FILTER(CONTAINS(?l, \"number 1234567\")) }",
];

const LIMITS: EvaluationLimits = EvaluationLimits {
    maximum_effect_quads: 1_000_000,
    maximum_effect_bytes: 1 << 28,
    timeout: Duration::from_secs(60),
    maximum_growth_bytes: u64::MAX,
};

fn update(text: String) -> Write {
    Write::Update {
        text,
        base_iri: None,
        using_graphs: None,
    }
}

/// A store whose tables have several blocks each, and nothing in the write-ahead log.
fn build(path: &Path) {
    let state = State::open(path).unwrap();
    let filling = "x".repeat(150);
    let things: String = (0..150)
        .map(|number| {
            let next = (number + 1) % 150;
            format!(
                "<u:{number}> <u:label> \"number {number} {filling}\" ; <u:number> {number} ; <u:next> <u:{next}> . "
            )
        })
        .collect();
    let text = format!("INSERT DATA {{ {things} GRAPH <u:g> {{ {things} }} }}");
    let evaluation =
        evaluate_group(&state, &[(RequestId::unique(), update(text))], LIMITS).unwrap();
    let command = Apply::Command(evaluation.command.unwrap());
    let position = LogPosition { term: 1, index: 1 };
    state.apply(&[(position, command)]).unwrap();
    state.flush().unwrap();
}

/// The number of rows.
async fn count(state: &Arc<State>, query: &str) -> usize {
    text(state, query, Some("text/csv"))
        .await
        .unwrap()
        .lines()
        .count()
        - 1
}

async fn answer(state: &Arc<State>, query: &str) -> Result<Vec<String>, QueryError> {
    let text = text(state, query, None).await?;
    // Rows have no order.
    let mut rows: Vec<_> = text
        .split(['{', '\n'])
        .map(|row| row.trim_end_matches([',', ']', '}']).to_owned())
        .collect();
    rows.sort();
    Ok(rows)
}

async fn text(state: &Arc<State>, query: &str, accept: Option<&str>) -> Result<String, QueryError> {
    let limits = QueryLimits {
        timeout: Duration::from_secs(60),
        maximum_growth_bytes: u64::MAX,
        ..QueryLimits::default()
    };
    let engine = QueryEngine::new(limits, QueryMetrics::default());
    let accept = accept.map(ToOwned::to_owned);
    let started = engine.query(state.clone(), QueryText::new(query), accept);
    let bytes: Vec<_> = started.await?.body.try_collect().await?;
    Ok(String::from_utf8(bytes.concat()).unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn tables(path: &Path) -> Vec<PathBuf> {
    let generation = path.join("generation-0000000001");
    let mut tables: Vec<_> = fs::read_dir(generation)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_a_damaged_table_is_right_or_an_error() {
    let whole = TempDir::new().unwrap();
    build(whole.path());
    // A store that is open may replace its tables, until the last thread of a query has let it go.
    let opened = TempDir::new().unwrap();
    copy(whole.path(), opened.path());
    let state = Arc::new(State::open(opened.path()).unwrap());
    let mut expected = Vec::new();
    for query in QUERIES {
        expected.push(answer(&state, query).await.unwrap());
    }
    let (mut cases, mut errors, mut not_opened) = (0, vec![0; QUERIES.len()], 0);
    for table in tables(whole.path()) {
        let length = fs::metadata(&table).unwrap().len();
        // Each block of 4 KiB is hit, and the small ones behind them.
        let places = (0..length)
            .step_by(3000)
            .chain([length.saturating_sub(700)]);
        for place in places {
            cases += 1;
            let damaged = TempDir::new().unwrap();
            copy(whole.path(), damaged.path());
            let path = damaged
                .path()
                .join(table.strip_prefix(whole.path()).unwrap());
            let mut bytes = fs::read(&path).unwrap();
            bytes[usize::try_from(place).unwrap()] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            let Ok(state) = State::open(damaged.path()) else {
                not_opened += 1;
                continue;
            };
            let state = Arc::new(state);
            for (number, query) in QUERIES.iter().enumerate() {
                match answer(&state, query).await {
                    Ok(rows) => assert!(
                        rows == expected[number],
                        "{query} over {} damaged at {place}",
                        table.display()
                    ),
                    Err(QueryError::StoreDamaged) => {
                        errors[number] += 1;
                        assert!(state.damage().is_some(), "{query}");
                    }
                    Err(error) => panic!("{query}: {error}"),
                }
            }
        }
    }
    assert!(cases > 50, "{cases} cases");
    assert!(
        not_opened < cases / 2,
        "{not_opened} of {cases} did not open"
    );
    // Each query but the last two reads some block that was damaged.
    assert!(
        errors.iter().filter(|errors| **errors > 0).count() >= 10,
        "{errors:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_an_expression_stays_an_error_while_nothing_is_damaged() {
    let whole = TempDir::new().unwrap();
    build(whole.path());
    let state = Arc::new(State::open(whole.path()).unwrap());
    for (query, rows) in [
        // Comparing a string with a number, and what is not bound.
        ("SELECT ?s { ?s <u:label> ?l FILTER(?l > 3) }", 0),
        ("SELECT ?s { ?s <u:label> ?l FILTER(?nowhere = 3) }", 0),
        (
            "SELECT ?s { ?s <u:label> ?l FILTER(?nowhere = 3 || true) }",
            150,
        ),
        (
            "SELECT ?s { ?s <u:label> ?l FILTER(COALESCE(?l + 1, ?nowhere, true)) }",
            150,
        ),
        (
            "SELECT ?s ?x { ?s <u:number> ?n BIND(1 / (?n - ?n) AS ?x) }",
            150,
        ),
        (
            "SELECT ?s { ?s <u:number> ?n } ORDER BY (?n / 0) ?nowhere",
            150,
        ),
        ("SELECT (SUM(?l) AS ?x) { ?s <u:label> ?l }", 1),
        (
            "SELECT (COUNT(?nowhere) AS ?x) (SAMPLE(?s) AS ?y) { ?s <u:label> ?l }",
            1,
        ),
        (
            "SELECT ?s { ?s <u:number> ?n FILTER(EXISTS { ?s <u:missing> ?x } || ?n > 3) }",
            146,
        ),
        (
            "SELECT ?s { ?s <u:number> ?n FILTER(!EXISTS { ?s <u:next> ?t FILTER EXISTS { ?t <u:missing> ?x } }) }",
            150,
        ),
    ] {
        assert_eq!(count(&state, query).await, rows, "{query}");
        assert_eq!(state.damage(), None, "{query}");
    }
}
