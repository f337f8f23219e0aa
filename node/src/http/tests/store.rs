//! SPARQL 1.1 Graph Store HTTP Protocol.

use super::*;

const G: &str = "/store?graph=http://example.com/g";
const NEW: &str = "/store?graph=http://example.com/new";

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_dataset_and_each_graph_can_be_read() {
    let bench = Bench::with_data(options());
    let whole = bench.get("/store", &[]).await;
    assert_eq!(whole.header("content-type"), Some("application/n-quads"));
    assert_eq!(whole.header("quadraft-log-index"), Some("1"));
    assert_eq!(whole.body.lines().count(), 3);
    let default = bench.get("/store?default", &[]).await;
    assert_eq!(default.header("content-type"), Some("text/turtle"));
    assert_eq!(default.body.lines().count(), 1);
    let named = bench.get(G, &[("accept", "application/n-triples")]).await;
    assert_eq!(named.body.lines().count(), 2);
    bench.get(NEW, &[]).await.assert_error(404, "unknown_graph");
    bench
        .get("/store", &[("accept", "text/turtle")])
        .await
        .assert_error(406, "not_acceptable");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_like_get_without_a_body() {
    let bench = Bench::with_data(options());
    for (uri, status) in [
        ("/store", 200),
        ("/store?default", 200),
        (G, 200),
        (NEW, 404),
    ] {
        let head = bench.send(request("HEAD", uri, &[], "")).await;
        assert_eq!(head.status.as_u16(), status, "{uri}");
        assert!(head.body.is_empty() || status != 200);
    }
    eventually(|| bench.metrics.queries.currently_running() == 0).await;
    assert_eq!(bench.metrics.queries.cancelled("disconnect"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn put_replaces_post_adds_and_delete_deletes() {
    let bench = Bench::with_data(options());
    let send = |method: &'static str, uri: &'static str, body: &'static str| {
        let request = request(method, uri, &[TURTLE], body);
        let bench = &bench;
        async move { bench.send(request).await.status.as_u16() }
    };
    assert_eq!(send("POST", G, "<a> <a:p> 3 .").await, 204);
    assert_eq!(
        bench
            .count("GRAPH <http://example.com/g> { ?s ?p ?o }")
            .await,
        3
    );
    // Relative IRIs are those of the graph.
    assert_eq!(
        bench
            .count("GRAPH ?g { <http://example.com/a> <a:p> 3 }")
            .await,
        1
    );
    assert_eq!(send("PUT", G, "<a:a> <a:p> 4 .").await, 204);
    assert_eq!(
        bench
            .count("GRAPH <http://example.com/g> { ?s ?p ?o }")
            .await,
        1
    );
    assert_eq!(bench.count("?s ?p ?o").await, 1);
    assert_eq!(send("PUT", NEW, "<a:a> <a:p> 5 .").await, 201);
    assert_eq!(send("DELETE", NEW, "").await, 204);
    assert_eq!(send("DELETE", NEW, "").await, 404);
    assert_eq!(send("POST", "/store?default", "<a:a> <a:p> 6 .").await, 204);
    assert_eq!(bench.count("?s ?p ?o").await, 2);
    assert_eq!(send("DELETE", "/store?default", "").await, 204);
    assert_eq!(bench.database.state.quads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_dataset_can_be_replaced() {
    let bench = Bench::with_data(options());
    let quads = ("content-type", "application/n-quads");
    let body = "<a:a> <a:p> <a:b> <a:g> .\n<a:a> <a:p> <a:b> .\n";
    let answer = bench.send(request("PUT", "/store", &[quads], body)).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let mut lines: Vec<_> = bench
        .get("/store", &[])
        .await
        .body
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["<a:a> <a:p> <a:b> .", "<a:a> <a:p> <a:b> <a:g> ."]);
    assert_eq!(
        bench
            .post("/store", &[quads], "<a:c> <a:p> <a:b> <a:g> .")
            .await
            .status,
        204
    );
    assert_eq!(bench.database.state.quads(), 3);
    let answer = bench.send(request("DELETE", "/store", &[], "")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(bench.database.state.quads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused() {
    let bench = Bench::with_data(options());
    let post = |headers: &'static [(&'static str, &'static str)], body: &'static str| {
        bench.post(G, headers, body)
    };
    post(&[], "<a:a> <a:p> 1 .")
        .await
        .assert_error(415, "unsupported_media_type");
    post(&[("content-type", "image/png")], "x")
        .await
        .assert_error(415, "unsupported_media_type");
    let answer = post(&[TURTLE], "<a:a>\n<a:p> .").await;
    answer.assert_error(400, "malformed");
    assert_eq!(answer.json()["line"], 2);
    bench
        .get("/store?grpah=http://example.com/g", &[])
        .await
        .assert_error(400, "bad_request");
    let answer = bench
        .send(request(
            "DELETE",
            "/store?grpah=http://example.com/g",
            &[],
            "",
        ))
        .await;
    answer.assert_error(400, "bad_request");
    let answer = bench.send(request("PATCH", G, &[], "")).await;
    answer.assert_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, DELETE"));
    assert_eq!(bench.database.state.quads(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_that_an_upload_creates_is_created() {
    let bench = Bench::with_data(options());
    let send = |method: &'static str, uri: &'static str| {
        let request = request(method, uri, &[TURTLE], "<a:a> <a:p> 1 .");
        let bench = &bench;
        async move { bench.send(request).await.status.as_u16() }
    };
    assert_eq!(send("PUT", NEW).await, 201);
    assert_eq!(send("PUT", NEW).await, 204);
    assert_eq!(send("DELETE", NEW).await, 204);
    assert_eq!(send("POST", NEW).await, 201);
    assert_eq!(send("POST", NEW).await, 204);
    // The default graph always exists, and so does the dataset.
    assert_eq!(send("PUT", "/store?default").await, 204);
    assert_eq!(send("POST", "/store").await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_iris_are_those_of_the_url_where_no_graph_is_named() {
    let bench = Bench::new(options());
    let host = ("host", "data.example.org");
    for (uri, object) in [("/store?default", "1"), ("/store", "2")] {
        let body = format!("<thing> <a:p> {object} .");
        let answer = bench.post(uri, &[TURTLE, host], &body).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        let pattern = format!("<http://data.example.org/thing> <a:p> {object}");
        assert_eq!(bench.count(&pattern).await, 1, "{uri}");
    }
}
