//! Health, metrics, the page, and what is not there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_with_its_reason() {
    let bench = Bench::new(options());
    assert_eq!(bench.get("/livez", &[]).await.status, 200);
    assert_eq!(
        bench.get("/readyz", &[]).await.json(),
        json!({"status": "ready"})
    );
    *bench.database.readiness.lock().unwrap() = Err("no leader is known".into());
    let answer = bench.get("/readyz", &[]).await;
    answer.assert_error(503, "not_ready");
    assert!(answer.body.contains("no leader is known"));
    assert_eq!(bench.get("/livez", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_and_status_are_documents() {
    let bench = Bench::with_data(options());
    assert_eq!(bench.get("/recovery", &[]).await.json()["outcome"], "clean");
    assert_eq!(
        bench.get("/status", &[]).await.json(),
        json!({"role": "LEADER", "quads": 3})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_status() {
    let bench = Bench::with_data(options());
    bench.select("SELECT * { ?s ?p ?o }").await;
    bench.select("nonsense").await;
    bench.get("/some/other/path", &[]).await;
    let answer = bench.get("/metrics", &[]).await;
    assert_eq!(
        answer.header("content-type"),
        Some(crate::metrics::MEDIA_TYPE)
    );
    for line in [
        r#"quadraft_http_requests_total{route="/query",method="POST",status="200"} 1"#,
        r#"quadraft_http_requests_total{route="/query",method="POST",status="400"} 1"#,
        r#"quadraft_http_requests_total{route="other",method="GET",status="404"} 1"#,
        r#"quadraft_http_request_duration_seconds_count{route="/query"} 2"#,
        "quadraft_http_request_body_bytes_total 29",
        "quadraft_query_result_rows_total 1",
    ] {
        assert!(
            answer.body.contains(line),
            "{line} is missing in\n{}",
            answer.body
        );
    }
    assert!(
        !answer
            .body
            .contains("quadraft_http_response_body_bytes_total 0\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_have_a_port_of_their_own() {
    let metrics = Metrics::default();
    let request = request("GET", "/metrics", &[], "");
    let response = metrics_router(metrics).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_use_only_what_is_in_it() {
    let bench = Bench::new(options());
    let answer = bench.get("/", &[]).await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.body.contains("<textarea"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_as_json() {
    let bench = Bench::new(options());
    bench
        .get("/nothing", &[])
        .await
        .assert_error(404, "not_found");
    let answer = bench.post("/readyz", &[], "").await;
    answer.assert_error(405, "method_not_allowed");
    // No answer lets pages of other sites read it.
    let answer = bench
        .get(
            "/query?query=ASK%7B%7D",
            &[("origin", "http://evil.example")],
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
