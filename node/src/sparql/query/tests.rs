#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use oxrdf::{GraphName, NamedNode, Quad};
use tempfile::TempDir;

use super::*;
use crate::metrics::QueryMetrics;
use crate::state::{Apply, Command, Effects, LogPosition, RequestId, State};

const LONG: Duration = Duration::from_secs(60);

/// An engine over a real store.
struct Bench {
    engine: QueryEngine,
    metrics: QueryMetrics,
    state: Arc<State>,
    _folder: TempDir,
}

fn limits() -> QueryLimits {
    QueryLimits {
        timeout: LONG,
        // Tests share a process: what one uses must not stop another.
        maximum_growth_bytes: u64::MAX,
        ..QueryLimits::default()
    }
}

fn bench(quads: usize, limits: QueryLimits) -> Bench {
    let folder = TempDir::new().unwrap();
    let state = State::open(folder.path()).unwrap();
    insert(&state, 1, 0, quads);
    let metrics = QueryMetrics::default();
    Bench {
        engine: QueryEngine::new(limits, metrics.clone()),
        metrics,
        state: Arc::new(state),
        _folder: folder,
    }
}

/// Applies an entry that inserts quads in a ring of `p` in the default graph.
fn insert(state: &State, index: u64, base_index: u64, quads: usize) {
    let node =
        |number: usize| NamedNode::new(format!("http://example.com/{index}/{number}")).unwrap();
    let inserts = (0..quads)
        .map(|number| {
            Quad::new(
                node(number),
                NamedNode::new("http://example.com/p").unwrap(),
                node((number + 1) % quads),
                GraphName::DefaultGraph,
            )
        })
        .collect();
    let command = Command {
        base_index,
        requests: vec![(
            RequestId::unique(),
            Effects {
                inserts,
                ..Effects::default()
            },
        )],
    };
    let position = LogPosition { term: 1, index };
    state.apply(&[(position, Apply::Command(command))]).unwrap();
}

impl Bench {
    async fn start(&self, text: &str, accept: Option<&str>) -> Result<Answer, QueryError> {
        self.engine
            .query(
                Arc::clone(&self.state),
                QueryText::new(text),
                accept.map(str::to_owned),
            )
            .await
    }

    async fn run(&self, text: &str, accept: Option<&str>) -> Result<String, QueryError> {
        read(self.start(text, accept).await?).await
    }

    /// Waits until no thread works for a query.
    async fn idle(&self) {
        eventually(|| self.metrics.currently_running() == 0).await;
    }
}

async fn read(answer: Answer) -> Result<String, QueryError> {
    let bytes: Vec<_> = answer.body.try_collect().await?;
    Ok(String::from_utf8(bytes.concat()).unwrap())
}

async fn eventually(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_holds_the_result() {
    let bench = bench(1, limits());
    let select = "SELECT ?s ?x { ?s ?p ?o }";
    for (query, accept, expected) in [
        (
            select,
            "application/sparql-results+json",
            r#"{"head":{"vars":["s","x"]},"results":{"bindings":[{"s":{"type":"uri","value":"http://example.com/1/0"}}]}}"#,
        ),
        (select, "text/csv", "s,x\r\nhttp://example.com/1/0,\r\n"),
        (
            select,
            "text/tab-separated-values",
            "?s\t?x\n<http://example.com/1/0>\t\n",
        ),
        (
            "ASK {}",
            "application/json",
            r#"{"head":{},"boolean":true}"#,
        ),
        ("ASK { FILTER(false) }", "text/csv", "false"),
        (
            "CONSTRUCT WHERE { ?s ?p ?o }",
            "application/n-triples",
            "<http://example.com/1/0> <http://example.com/p> <http://example.com/1/0> .\n",
        ),
        (
            "DESCRIBE <http://example.com/1/0>",
            "text/turtle",
            "<http://example.com/1/0> <http://example.com/p> <http://example.com/1/0> .\n",
        ),
    ] {
        assert_eq!(
            bench.run(query, Some(accept)).await.unwrap(),
            expected,
            "{query} as {accept}"
        );
    }
    for (query, accept, part) in [
        (
            select,
            "application/xml",
            "<uri>http://example.com/1/0</uri>",
        ),
        ("ASK {}", "application/xml", "<boolean>true</boolean>"),
        (
            "DESCRIBE <http://example.com/1/0>",
            "application/rdf+xml",
            "<rdf:RDF",
        ),
        (
            "DESCRIBE <http://example.com/1/0>",
            "application/ld+json",
            "\"@id\":\"http://example.com/1/0\"",
        ),
    ] {
        let whole = bench.run(query, Some(accept)).await.unwrap();
        assert!(whole.contains(part), "{whole}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_the_index_of_its_view() {
    let bench = bench(3, limits());
    let answer = bench.start("SELECT * { ?s ?p ?o }", None).await.unwrap();
    assert_eq!(answer.log_index, 1);
    insert(&bench.state, 2, 1, 3);
    let answer = bench.start("SELECT * { ?s ?p ?o }", None).await.unwrap();
    assert_eq!(answer.log_index, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_one_state_whatever_is_applied_meanwhile() {
    let bench = bench(20_000, limits());
    let mut answer = bench
        .start("SELECT ?s { ?s ?p ?o }", Some("text/csv"))
        .await
        .unwrap();
    let first = answer.body.next().await.unwrap().unwrap();
    insert(&bench.state, 2, 1, 20_000);
    let rest: Vec<_> = answer.body.try_collect().await.unwrap();
    let lines = String::from_utf8([vec![first], rest].concat().concat()).unwrap();
    assert_eq!(lines.lines().count(), 1 + 20_000);
    assert!(!lines.contains("http://example.com/2/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn explosive_queries_are_cancelled_and_their_threads_freed() {
    let timeout = Duration::from_millis(300);
    let bench = bench(
        3000,
        QueryLimits {
            timeout,
            ..limits()
        },
    );
    let values = |name: &str| {
        let numbers: Vec<_> = (0..250).map(|number| number.to_string()).collect();
        format!("VALUES ?{name} {{ {} }}", numbers.join(" "))
    };
    let product = "?a ?b ?c . ?d ?e ?f . ?g ?h ?i .";
    let queries = [
        format!("SELECT (COUNT(*) AS ?n) {{ {product} }}"),
        format!("SELECT (MAX(?a) AS ?n) {{ {product} }} GROUP BY ?i"),
        format!("SELECT ?a {{ {product} }} ORDER BY ?a"),
        format!("SELECT DISTINCT ?b {{ {product} }}"),
        format!("ASK {{ {product} FILTER(?a = 1 && ?d = 2 || ?g = 3) }}"),
        format!("CONSTRUCT {{ ?b ?b ?b }} {{ {product} }}"),
        format!("DESCRIBE ?x {{ {product} FILTER(?a = ?x) }}"),
        format!("SELECT * {{ {product} FILTER(?a = 1 || ?d = ?g) }}"),
        format!("SELECT * {{ {product} MINUS {{ ?a ?h ?x . ?y ?z ?i . ?d ?v ?w }} FILTER(?a = 1) }}"),
        format!("SELECT (COUNT(*) AS ?n) {{ ?x ?y ?z OPTIONAL {{ {product} }} }}"),
        format!("SELECT * {{ ?x ?y ?z FILTER NOT EXISTS {{ {product} }} FILTER EXISTS {{ {product} FILTER(?a = ?y) }} }}"),
        format!("SELECT (COUNT(*) AS ?n) {{ {{ SELECT * {{ {product} }} LIMIT 1000000000 }} }}"),
        format!("SELECT (COUNT(*) AS ?n) {{ {{ {product} }} UNION {{ {product} }} }}"),
        format!("SELECT (COUNT(*) AS ?n) {{ ?x ?y ?z LATERAL {{ {product} }} }}"),
        format!(
            "SELECT (COUNT(*) AS ?n) {{ {} {} {} {} }}",
            values("a"), values("b"), values("c"), values("d")
        ),
        "SELECT (COUNT(*) AS ?n) { ?x <http://example.com/p>* ?y }".to_owned(),
        "SELECT (COUNT(*) AS ?n) { ?x (<http://example.com/p>|!<http://example.com/q>)+ ?y . ?y <http://example.com/p>+ ?z }".to_owned(),
    ];
    for (number, query) in queries.iter().enumerate() {
        let start = std::time::Instant::now();
        let result = bench.run(query, None).await;
        assert_eq!(
            result,
            Err(QueryError::TimedOut { timeout_ms: 300 }),
            "{query}"
        );
        bench.idle().await;
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?} for {query}");
        assert_eq!(bench.metrics.cancelled("timeout"), number as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_uses_too_much_memory_is_cancelled() {
    let bench = bench(
        3000,
        QueryLimits {
            maximum_growth_bytes: 32 << 20,
            ..limits()
        },
    );
    let product = "SELECT ?a { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i } ORDER BY ?a";
    assert_eq!(bench.run(product, None).await, Err(QueryError::OutOfMemory));
    bench.idle().await;
    assert_eq!(bench.metrics.cancelled("memory"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_result_beyond_the_bounds_fails_before_anything_is_sent() {
    let bench = bench(
        100,
        QueryLimits {
            maximum_rows: 10,
            ..limits()
        },
    );
    let error = bench.start("SELECT * { ?s ?p ?o }", None).await.map(drop);
    assert!(matches!(error, Err(QueryError::TooLarge(_))), "{error:?}");
    assert!(
        bench
            .run("SELECT * { ?s ?p ?o } LIMIT 10", None)
            .await
            .is_ok()
    );
    bench.idle().await;
    assert_eq!(bench.metrics.cancelled("size"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_beyond_the_bounds_ends_in_an_error() {
    let bench = bench(
        20_000,
        QueryLimits {
            maximum_bytes: 200_000,
            ..limits()
        },
    );
    let answer = bench.start("SELECT * { ?s ?p ?o }", None).await.unwrap();
    let pieces: Vec<_> = answer.body.collect().await;
    let (last, others) = pieces.split_last().unwrap();
    assert!(matches!(last, Err(QueryError::TooLarge(_))), "{last:?}");
    assert!(!others.is_empty() && others.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_its_query() {
    let bench = bench(3000, limits());
    let endless = "SELECT * { ?a ?b ?c . ?d ?e ?f }";
    let mut answer = bench.start(endless, None).await.unwrap();
    assert!(answer.body.next().await.unwrap().is_ok());
    assert_eq!(bench.metrics.currently_running(), 1);
    drop(answer);
    bench.idle().await;
    // The same before there is any answer.
    let silent = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }";
    let gone = tokio::time::timeout(Duration::from_millis(100), bench.start(silent, None)).await;
    assert!(gone.is_err());
    bench.idle().await;
    assert_eq!(bench.metrics.cancelled("disconnect"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_left_when_the_time_is_over() {
    let timeout = Duration::from_secs(3);
    let bench = bench(
        3000,
        QueryLimits {
            timeout,
            ..limits()
        },
    );
    let answer = bench
        .start("SELECT * { ?a ?b ?c . ?d ?e ?f }", None)
        .await
        .unwrap();
    bench.idle().await;
    let pieces: Vec<_> = answer.body.collect().await;
    assert!(pieces.last().unwrap().is_err());
    assert_eq!(bench.metrics.cancelled("timeout"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_places_are_taken_the_next_query_is_sent_away() {
    let bench = bench(
        3000,
        QueryLimits {
            maximum_concurrent: 1,
            maximum_waiting: 0,
            ..limits()
        },
    );
    let answer = bench
        .start("SELECT * { ?a ?b ?c . ?d ?e ?f }", None)
        .await
        .unwrap();
    assert_eq!(bench.run("ASK {}", None).await, Err(QueryError::Busy));
    drop(answer);
    bench.idle().await;
    eventually_ok(&bench).await;
}

async fn eventually_ok(bench: &Bench) {
    // The place is given back a moment after the gauge says so.
    while bench.run("ASK {}", None).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_at_the_bounds_of_complexity_neither_crash_nor_hang() {
    let bench = bench(10, limits());
    let start = std::time::Instant::now();
    let text_limit = bench.engine.limits().maximum_text_bytes;
    let nested = 120;
    for (text, is_fine) in [
        (
            format!("ASK {{ FILTER(0{}) }}", "+1".repeat(text_limit / 2 - 20)),
            false,
        ),
        (format!("ASK {{ FILTER(0{} > 0) }}", "+1".repeat(900)), true),
        (
            format!("ASK {{ FILTER(0=1{}) }}", "||0=1".repeat(900)),
            true,
        ),
        (
            format!("ASK {{ {{}}{} }}", " UNION { ?a ?b ?c }".repeat(120)),
            true,
        ),
        (
            format!("ASK {{ {} }}", "OPTIONAL { ?a ?b ?c }".repeat(120)),
            true,
        ),
        (format!("ASK {{ {} }}", "?a ?b ?c .".repeat(120)), true),
        (
            format!(
                "ASK {{ {} }}",
                (0..120)
                    .map(|n| format!("?a{n} ?b ?a{} .", n + 1))
                    .collect::<String>()
            ),
            true,
        ),
        (
            format!(
                "ASK {{ ?a {}<a:a>{} ?b }}",
                "(".repeat(nested),
                ")*".repeat(nested)
            ),
            true,
        ),
        (
            format!(
                "ASK {{ FILTER({}1{}) }}",
                "(".repeat(nested),
                ")".repeat(nested)
            ),
            true,
        ),
        (
            format!("ASK {{ {}{} }}", "{".repeat(nested), "}".repeat(nested)),
            true,
        ),
        (
            format!("ASK {{ {}1{} }}", "(".repeat(nested), ")".repeat(nested)),
            false,
        ),
        (
            format!(
                "ASK {{ ?s ?p {}{} }}",
                "[ ?p ".repeat(nested),
                " 1 ]".repeat(nested)
            ),
            false,
        ),
        (
            format!(
                "ASK {{ {}?a ?b ?c{} }}",
                "{ SELECT * { ".repeat(nested / 2),
                " } }".repeat(nested / 2)
            ),
            true,
        ),
        (
            format!(
                "ASK {{ {}{} }}",
                "OPTIONAL { { SELECT * { ?a ?b ?c } } ".repeat(12),
                "}".repeat(12)
            ),
            true,
        ),
        (
            format!(
                "ASK {{ {}?a ?b ?c{} }}",
                "FILTER EXISTS { ?a ?b ?c . ".repeat(12),
                "}".repeat(12)
            ),
            true,
        ),
    ] {
        let before = start.elapsed();
        let result = bench.run(&text, None).await;
        let needed = start.elapsed().saturating_sub(before);
        let refused = matches!(
            result,
            Err(QueryError::TooComplex(_) | QueryError::Malformed { .. })
        );
        assert!(
            result.is_ok() || (refused && !is_fine),
            "{result:?} for {}",
            &text[..60]
        );
        assert!(
            needed < Duration::from_secs(20),
            "{needed:?} for {}",
            &text[..60]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_is_said() {
    let bench = bench(1, limits());
    for (text, is_expected) in [
        ("SELECT (<http://example.com/f>(1) AS ?x) {}", true),
        (
            "SELECT (<http://www.w3.org/2001/XMLSchema#integer>(1, 2) AS ?x) {}",
            true,
        ),
    ] {
        let result = bench.run(text, None).await;
        assert_eq!(
            matches!(result, Err(QueryError::Unsupported(_))),
            is_expected,
            "{result:?}"
        );
    }
    let result = bench.run("SELECT * { SERVICE <a:a> {} }", None).await;
    assert!(matches!(result, Err(QueryError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_all_user_data_and_nothing_else() {
    let bench = bench(3, limits());
    let dump = |target, accept: Option<&str>, head_only| {
        bench.engine.dump(
            Arc::clone(&bench.state),
            target,
            accept.map(str::to_owned),
            head_only,
        )
    };
    let whole = read(dump(DumpTarget::Dataset, None, false).await.unwrap())
        .await
        .unwrap();
    assert_eq!(whole.lines().count(), 3);
    assert!(!whole.contains("urn:quadraft"));
    let default = dump(DumpTarget::DefaultGraph, Some("text/turtle"), false)
        .await
        .unwrap();
    assert_eq!(default.media_type, "text/turtle");
    assert_eq!(read(default).await.unwrap().lines().count(), 3);
    let head = dump(DumpTarget::Dataset, None, true).await.unwrap();
    assert_eq!(head.log_index, 1);
    assert_eq!(read(head).await.unwrap(), "");
    for (graph, expected) in [
        (
            "http://example.com/none",
            QueryError::UnknownGraph("http://example.com/none".into()),
        ),
        (
            crate::state::RESERVED_GRAPH,
            QueryError::Refused(crate::sparql::reserved::Refused::ReservedGraph),
        ),
    ] {
        let result = dump(DumpTarget::NamedGraph(graph.into()), None, false).await;
        assert_eq!(result.map(drop), Err(expected));
    }
}
