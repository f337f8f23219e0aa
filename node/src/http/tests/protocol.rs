//! SPARQL 1.1 Protocol: queries.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_can_be_sent_in_each_way_of_the_protocol() {
    let bench = Bench::with_data(options());
    let form = "query=SELECT%20%3Fs%20%7B%20%3Fs%20%3Fp%20%3Fo%20%7D";
    let expected = "s\r\nhttp://example.com/a\r\n";
    for path in ["/query", "/sparql"] {
        for answer in [
            bench.get(&format!("{path}?{form}"), &[CSV]).await,
            bench.post(path, &[FORM, CSV], form).await,
            bench
                .post(path, &[QUERY, CSV], "SELECT ?s { ?s ?p ?o }")
                .await,
        ] {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body, expected);
            assert_eq!(
                answer.header("content-type"),
                Some("text/csv; charset=utf-8")
            );
            assert_eq!(answer.header("quadraft-log-index"), Some("1"));
        }
    }
    let head = bench
        .send(request("HEAD", &format!("/query?{form}"), &[CSV], ""))
        .await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dataset_of_the_protocol_is_used() {
    let bench = Bench::with_data(options());
    let g = "http%3A%2F%2Fexample.com%2Fg";
    let uri = format!("/query?default-graph-uri={g}");
    let answer = bench
        .post(&uri, &[QUERY, CSV], "SELECT ?o { ?s ?p ?o } ORDER BY ?o")
        .await;
    assert_eq!(answer.body, "o\r\n1\r\n2\r\n");
    let uri = format!("/query?named-graph-uri={g}");
    let answer = bench
        .post(&uri, &[QUERY, CSV], "SELECT ?g { GRAPH ?g {} }")
        .await;
    assert_eq!(answer.body, "g\r\nhttp://example.com/g\r\n");
    let answer = bench
        .post(&uri, &[QUERY, CSV], "SELECT ?s { ?s ?p ?o }")
        .await;
    assert_eq!(answer.body, "s\r\n");
    let reserved = "/query?default-graph-uri=urn%3Aquadraft%3Areserved";
    bench
        .post(reserved, &[QUERY], "ASK {}")
        .await
        .assert_error(400, "reserved_graph");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_query_is_answered_with_its_place() {
    let bench = Bench::new(options());
    let answer = bench.select("SELECT *\nWHERE { ?s ?p }").await;
    answer.assert_error(400, "malformed");
    assert_eq!(answer.json()["line"], 2);
    assert_eq!(answer.json()["column"], 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_query_request_is_refused() {
    let bench = Bench::new(options());
    bench
        .get("/query", &[])
        .await
        .assert_error(400, "bad_request");
    bench
        .get("/query?query=ASK%7B%7D&query=ASK%7B%7D", &[])
        .await
        .assert_error(400, "bad_request");
    bench
        .get("/sparql?update=CLEAR%20ALL", &[])
        .await
        .assert_error(400, "bad_request");
    bench
        .post("/query?query=ASK%7B%7D", &[QUERY], "ASK {}")
        .await
        .assert_error(400, "bad_request");
    bench
        .post("/sparql", &[FORM], "query=a&update=b")
        .await
        .assert_error(400, "bad_request");
    bench
        .post("/sparql", &[FORM], "")
        .await
        .assert_error(400, "bad_request");
    for path in ["/query", "/sparql"] {
        bench
            .post(path, &[], "ASK {}")
            .await
            .assert_error(415, "unsupported_media_type");
        bench
            .post(path, &[("content-type", "text/plain")], "ASK {}")
            .await
            .assert_error(415, "unsupported_media_type");
        bench
            .post(path, &[QUERY, ("content-encoding", "gzip")], "ASK {}")
            .await
            .assert_error(415, "unsupported_media_type");
        let answer = bench.send(request("PUT", path, &[QUERY], "ASK {}")).await;
        answer.assert_error(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
    }
    bench
        .post(
            "/query",
            &[("content-type", "application/sparql-query; charset=latin1")],
            "ASK {}",
        )
        .await
        .assert_error(415, "unsupported_media_type");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_accepts_nothing_that_can_be_sent_is_told_so() {
    let bench = Bench::new(options());
    let answer = bench
        .post("/query", &[QUERY, ("accept", "image/png")], "ASK {}")
        .await;
    answer.assert_error(406, "not_acceptable");
    let turtle = ("accept", "text/turtle");
    bench
        .post("/query", &[QUERY, turtle], "ASK {}")
        .await
        .assert_error(406, "not_acceptable");
    let answer = bench
        .post("/query", &[QUERY, turtle], "CONSTRUCT WHERE { ?s ?p ?o }")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("vary"), Some("accept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consistency_reaches_the_database() {
    let bench = Bench::new(options());
    bench.select("ASK {}").await;
    let stale = [QUERY, ("quadraft-consistency", "stale")];
    let answer = bench.post("/query", &stale, "ASK {}").await;
    assert_eq!(answer.header("quadraft-age-milliseconds"), Some("17"));
    let session = [
        QUERY,
        ("quadraft-consistency", "session"),
        ("quadraft-minimum-index", "5"),
    ];
    bench.post("/query", &session, "ASK {}").await;
    assert_eq!(
        *bench.database.consistencies.lock().unwrap(),
        [
            Consistency::Linearizable,
            Consistency::Stale,
            Consistency::Session { minimum_index: 5 }
        ]
    );
    let wrong = [QUERY, ("quadraft-consistency", "eventual")];
    bench
        .post("/query", &wrong, "ASK {}")
        .await
        .assert_error(400, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_cannot_be_fresh_enough_are_unavailable() {
    let bench = Bench::new(options());
    for (failure, code) in [
        (ReadFailure::NoLeader, "no_leader"),
        (ReadFailure::TimedOut, "not_caught_up"),
        (ReadFailure::Stopped, "stopping"),
    ] {
        *bench.database.read_failure.lock().unwrap() = Some(failure);
        for answer in [bench.select("ASK {}").await, bench.get("/store", &[]).await] {
            answer.assert_error(503, code);
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_cancelled_and_frees_its_place() {
    let mut options = options();
    options.queries.timeout = Duration::from_millis(200);
    options.queries.maximum_concurrent = 1;
    let bench = Bench::with_ring(2000, options);
    let explosive = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l }";
    bench.select(explosive).await.assert_error(408, "timed_out");
    eventually(|| bench.metrics.queries.currently_running() == 0).await;
    assert_eq!(bench.metrics.queries.cancelled("timeout"), 1);
    assert_eq!(bench.select("ASK {}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_queries_than_may_run_and_wait_are_sent_away() {
    let mut options = options();
    options.queries.maximum_concurrent = 1;
    options.queries.maximum_waiting = 0;
    let bench = Bench::with_ring(2000, options);
    let endless = request(
        "POST",
        "/query",
        &[QUERY],
        "SELECT * { ?a ?b ?c . ?d ?e ?f }",
    );
    let response = bench.router.clone().oneshot(endless).await.unwrap();
    assert_eq!(response.status(), 200);
    let answer = bench.select("ASK {}").await;
    answer.assert_error(503, "too_busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(response);
    eventually(|| bench.metrics.queries.currently_running() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserved_graph_is_nowhere_to_be_seen() {
    let bench = Bench::with_data(options());
    assert_eq!(bench.count("GRAPH ?g {}").await, 1);
    assert_eq!(bench.count("GRAPH ?g { ?s ?p ?o }").await, 2);
    bench
        .select("SELECT * { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }")
        .await
        .assert_error(400, "reserved_graph");
    for accept in [
        "application/n-quads",
        "application/trig",
        "application/ld+json",
    ] {
        let answer = bench.get("/store", &[("accept", accept)]).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("urn:quadraft"), "{}", answer.body);
    }
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
        let uri = "/store?graph=urn:quadraft:reserved";
        let answer = bench
            .send(request(method, uri, &[TURTLE], "<a:a> <a:a> <a:a> ."))
            .await;
        assert_eq!(answer.status, 400, "{method}");
    }
    bench
        .post("/update", &[UPDATE], "CLEAR GRAPH <urn:quadraft:reserved>")
        .await
        .assert_error(400, "reserved_graph");
    bench
        .post(
            "/store",
            &[("content-type", "application/n-quads")],
            "<a:a> <a:a> <a:a> <urn:quadraft:reserved> .",
        )
        .await
        .assert_error(400, "reserved_graph");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_unknown_functions_are_not_supported() {
    let bench = Bench::new(options());
    for text in [
        "SELECT * { SERVICE <http://example.com/> { ?s ?p ?o } }",
        "SELECT (<http://example.com/f>() AS ?x) {}",
    ] {
        bench.select(text).await.assert_error(400, "unsupported");
    }
    let deep = format!("ASK {{ FILTER({}1{}) }}", "(".repeat(200), ")".repeat(200));
    bench.select(&deep).await.assert_error(400, "too_complex");
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_iris_are_those_of_the_url() {
    let bench = Bench::new(options());
    let host = ("host", "data.example.org");
    let answer = bench
        .post(
            "/update",
            &[UPDATE, host],
            "INSERT DATA { <thing> <a:p> </root> }",
        )
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let stored = "<http://data.example.org/thing> <a:p> <http://data.example.org/root>";
    assert_eq!(bench.count(stored).await, 1);
    let query = "SELECT * { <thing> <a:p> ?o }";
    for (uri, headers, body) in [
        ("/query", vec![QUERY, CSV, host], query),
        ("/sparql", vec![QUERY, CSV, host], query),
    ] {
        let answer = bench.post(uri, &headers, body).await;
        assert_eq!(answer.body.lines().count(), 2, "{answer:?}");
    }
    let uri = "/query?query=SELECT%20*%20%7B%20%3Cthing%3E%20%3Ca%3Ap%3E%20%3Fo%20%7D";
    let answer = bench.get(uri, &[CSV, host]).await;
    assert_eq!(answer.body.lines().count(), 2, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_utf_8_is_refused_and_stores_nothing() {
    let bench = Bench::new(options());
    let form = "update=INSERT%20DATA%20%7B%20%3Ca%3Aa%3E%20%3Ca%3Ap%3E%20%22%FF%22%20%7D";
    for uri in ["/update", "/sparql"] {
        bench
            .post(uri, &[FORM], form)
            .await
            .assert_error(400, "bad_request");
    }
    assert_eq!(bench.count("?s ?p ?o").await, 0);
    for uri in [
        "/query?query=ASK%7B%7D%20%23%FF",
        "/store?graph=http://example.com/%FF",
        "/sparql?query=ASK%7B%7D&default-graph-uri=http://example.com/%C3",
    ] {
        bench.get(uri, &[]).await.assert_error(400, "bad_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_be_silent_is_one_empty_solution() {
    let bench = Bench::with_data(options());
    let pattern = "SERVICE SILENT <http://nowhere.example/> { ?a ?b ?c }";
    assert_eq!(bench.count(pattern).await, 1);
    assert_eq!(bench.count(&format!("?s ?p ?o . {pattern}")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_can_read_and_write() {
    let bench = Bench::new(HttpOptions {
        cors_origins: vec!["https://page.example".parse().unwrap()],
        ..options()
    });
    let page = ("origin", "https://page.example");
    let preflight = bench
        .send(request(
            "OPTIONS",
            "/update",
            &[
                page,
                ("access-control-request-method", "POST"),
                (
                    "access-control-request-headers",
                    "content-type,idempotency-key",
                ),
            ],
            "",
        ))
        .await;
    assert!(preflight.status.is_success(), "{preflight:?}");
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://page.example")
    );
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("idempotency-key"), "{allowed}");
    let methods = preflight.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("PUT"), "{methods}");
    let site = ("sec-fetch-site", "cross-site");
    let written = bench
        .post(
            "/update",
            &[UPDATE, page, site],
            "INSERT DATA { <a:a> <a:p> 1 }",
        )
        .await;
    assert_eq!(written.status, 204);
    let exposed = written.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("quadraft-log-index"), "{exposed}");
    let read = bench
        .post("/query", &[QUERY, CSV, page], "SELECT * { ?s ?p ?o }")
        .await;
    assert_eq!(
        read.header("access-control-allow-origin"),
        Some("https://page.example")
    );
    let vary: Vec<_> = read.headers.get_all("vary").iter().collect();
    let varies = |name: &str| {
        vary.iter()
            .any(|value| value.to_str().unwrap().contains(name))
    };
    assert!(varies("origin") && varies("accept"), "{vary:?}");

    let other = ("origin", "https://other.example");
    let read = bench.post("/query", &[QUERY, other], "ASK {}").await;
    assert_eq!(read.header("access-control-allow-origin"), None);
    bench
        .post("/update", &[UPDATE, other, site], "CLEAR ALL")
        .await
        .assert_error(403, "other_site");
    assert_eq!(bench.count("?s ?p ?o").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_allowed_origins_there_is_no_cors() {
    let bench = Bench::new(options());
    let page = ("origin", "https://page.example");
    let preflight = request(
        "OPTIONS",
        "/query",
        &[page, ("access-control-request-method", "POST")],
        "",
    );
    let preflight = bench.send(preflight).await;
    preflight.assert_error(405, "method_not_allowed");
    assert_eq!(preflight.header("access-control-allow-origin"), None);
    let read = bench.post("/query", &[QUERY, page], "ASK {}").await;
    assert_eq!(read.header("access-control-allow-origin"), None);
}
