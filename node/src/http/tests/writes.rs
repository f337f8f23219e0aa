//! SPARQL 1.1 Protocol: updates, and how failures of writes are told.

use super::*;
use crate::sparql::update::WriteError;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_can_be_sent_in_each_way_of_the_protocol() {
    let bench = Bench::new(options());
    let text = "INSERT DATA { <a:a> <a:a> 1 }";
    let form = "update=INSERT+DATA+%7B+%3Ca%3Aa%3E+%3Ca%3Aa%3E+2+%7D";
    for path in ["/update", "/sparql"] {
        assert_eq!(bench.post(path, &[UPDATE], text).await.status, 204);
        assert_eq!(bench.post(path, &[FORM], form).await.status, 204);
    }
    assert_eq!(bench.count("?s ?p ?o").await, 2);
    let answer = bench.post("/update", &[UPDATE], text).await;
    assert_eq!(answer.header("quadraft-log-index"), Some("5"));
    assert_eq!(answer.body, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graphs_of_the_protocol_are_used() {
    let bench = Bench::with_data(options());
    let uri = "/update?using-graph-uri=http://example.com/g";
    let text = "DELETE { ?s ?p ?o } INSERT { ?s <a:copied> ?o } WHERE { ?s ?p ?o }";
    assert_eq!(bench.post(uri, &[UPDATE], text).await.status, 204);
    assert_eq!(bench.count("?s <a:copied> ?o").await, 2);
    bench
        .post(
            "/update?usnig-graph-uri=http://example.com/g",
            &[UPDATE],
            text,
        )
        .await
        .assert_error(400, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_with_the_same_key_is_applied_once() {
    let bench = Bench::new(options());
    let text = "INSERT { [] <a:a> 1 } WHERE {}";
    let keyed = [UPDATE, ("idempotency-key", "order-7")];
    let first = bench.post("/update", &keyed, text).await;
    let second = bench.post("/update", &keyed, text).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (204, 204));
    assert_eq!(
        first.header("quadraft-log-index"),
        second.header("quadraft-log-index")
    );
    assert_eq!(first.header("quadraft-duplicate"), None);
    assert_eq!(second.header("quadraft-duplicate"), Some("true"));
    assert_eq!(bench.count("?s ?p ?o").await, 1);
    bench.post("/update", &[UPDATE], text).await;
    assert_eq!(bench.count("?s ?p ?o").await, 2);
    let empty = [UPDATE, ("idempotency-key", "")];
    bench
        .post("/update", &empty, text)
        .await
        .assert_error(400, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_update_request_is_refused() {
    let bench = Bench::new(options());
    let answer = bench.get("/update?update=CLEAR%20ALL", &[]).await;
    answer.assert_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    bench
        .post("/update", &[QUERY], "ASK {}")
        .await
        .assert_error(415, "unsupported_media_type");
    bench
        .post("/update", &[FORM], "query=ASK")
        .await
        .assert_error(400, "bad_request");
    let answer = bench
        .post("/update", &[UPDATE], "INSERT DATA {\n <a:a> }")
        .await;
    answer.assert_error(400, "malformed");
    assert_eq!(answer.json()["line"], 2);
    assert!(answer.json()["column"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_cannot_write() {
    let bench = Bench::with_data(options());
    let other = [
        FORM,
        ("origin", "http://evil.example"),
        ("host", "localhost:7878"),
    ];
    bench
        .post("/update", &other, "update=CLEAR+ALL")
        .await
        .assert_error(403, "other_site");
    let other = [("sec-fetch-site", "cross-site")];
    let answer = bench.send(request("DELETE", "/store", &other, "")).await;
    answer.assert_error(403, "other_site");
    assert_eq!(bench.database.state.quads(), 3);
    let own = [
        UPDATE,
        ("origin", "http://localhost:7878"),
        ("host", "localhost:7878"),
    ];
    assert_eq!(bench.post("/update", &own, "CLEAR ALL").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_write_has_its_own_answer() {
    let bench = Bench::new(options());
    let rejected = WriteFailure::Rejected;
    for (failure, status, code) in [
        (
            rejected(WriteError::Malformed {
                message: "m".into(),
                line: Some(3),
                column: Some(4),
            }),
            400,
            "malformed",
        ),
        (rejected(WriteError::ReservedGraph), 400, "reserved_graph"),
        (
            rejected(WriteError::Unsupported {
                what: "LOAD".into(),
            }),
            400,
            "unsupported",
        ),
        (
            rejected(WriteError::UnknownGraph { graph: "g".into() }),
            404,
            "unknown_graph",
        ),
        (
            rejected(WriteError::GraphExists { graph: "g".into() }),
            409,
            "graph_exists",
        ),
        (
            rejected(WriteError::UnsupportedMediaType {
                message: "m".into(),
            }),
            415,
            "unsupported_media_type",
        ),
        (
            rejected(WriteError::TooLarge {
                message: "m".into(),
            }),
            413,
            "too_large",
        ),
        (
            rejected(WriteError::TimedOut { timeout_ms: 5 }),
            408,
            "timed_out",
        ),
        (
            rejected(WriteError::Storage {
                message: "m".into(),
            }),
            500,
            "internal",
        ),
        (WriteFailure::NoLeader, 503, "no_leader"),
        (WriteFailure::Overloaded, 503, "too_busy"),
        (WriteFailure::DiskFull("r".into()), 507, "disk_full"),
        (WriteFailure::Stopped, 503, "stopping"),
        (WriteFailure::OutcomeUnknown, 504, "outcome_unknown"),
    ] {
        *bench.database.write_failure.lock().unwrap() = Some(failure);
        let answer = bench.post("/update", &[UPDATE], "CLEAR ALL").await;
        answer.assert_error(status, code);
        assert_eq!(
            answer.header("retry-after").is_some(),
            matches!(status, 503 | 507),
            "{answer:?}"
        );
        // Through a Service, another member is reached by a new connection only.
        let elsewhere = matches!(code, "no_leader" | "stopping");
        assert_eq!(answer.header("connection"), elsewhere.then_some("close"));
        if code == "outcome_unknown" {
            assert!(answer.body.contains("Idempotency-Key"));
        }
        if code == "malformed" {
            assert_eq!(
                (&answer.json()["line"], &answer.json()["column"]),
                (&json!(3), &json!(4))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_bound_are_refused() {
    let bench = Bench::new(HttpOptions {
        maximum_request_bytes: 100,
        ..options()
    });
    let long = format!("INSERT DATA {{ <a:a> <a:a> \"{}\" }}", "x".repeat(100));
    bench
        .post("/update", &[UPDATE], &long)
        .await
        .assert_error(413, "too_large");
    // Announced: refused before it is read.
    let announced = [UPDATE, ("content-length", "1000000")];
    bench
        .post("/update", &announced, "")
        .await
        .assert_error(413, "too_large");
    // Without a length: refused when it grows too long.
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![b' '; 10])));
    let streamed = Request::post("/update")
        .header(UPDATE.0, UPDATE.1)
        .body(Body::from_stream(chunks))
        .unwrap();
    bench.send(streamed).await.assert_error(413, "too_large");
    assert_eq!(
        bench.post("/update", &[UPDATE], "CLEAR ALL").await.status,
        204
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_bounded_memory() {
    let bench = Bench::new(HttpOptions {
        maximum_request_bytes: 1 << 20,
        maximum_bodies_bytes: 1 << 20,
        ..options()
    });
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let slow = Request::post("/update")
        .header(UPDATE.0, UPDATE.1)
        .body(body)
        .unwrap();
    let slow = tokio::spawn({
        let router = bench.router.clone();
        async move { router.oneshot(slow).await.unwrap().status() }
    });
    // When the second is taken, the first is held.
    sender.send(Ok(vec![b' '; 600 << 10])).await.unwrap();
    sender.send(Ok(b"CLEAR ALL".to_vec())).await.unwrap();
    sender.send(Ok(b" ".to_vec())).await.unwrap();
    let long = " ".repeat(600 << 10) + "CLEAR ALL";
    bench
        .post("/update", &[UPDATE], &long)
        .await
        .assert_error(503, "too_busy");
    drop(sender);
    assert_eq!(slow.await.unwrap(), 204);
    assert_eq!(bench.post("/update", &[UPDATE], &long).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_again_for_something_else_is_refused() {
    let bench = Bench::new(options());
    let key = ("idempotency-key", "order-1");
    let headers = [UPDATE, key];
    let send = |text: &'static str| bench.post("/update", &headers, text);
    assert_eq!(send("INSERT DATA { <a:a> <a:p> 1 }").await.status, 204);
    send("INSERT DATA { <a:a> <a:p> 2 }")
        .await
        .assert_error(422, "idempotency_key_reused");
    let again = send("INSERT DATA { <a:a> <a:p> 1 }").await;
    assert_eq!(again.header("quadraft-duplicate"), Some("true"));
    assert_eq!(bench.count("?s ?p ?o").await, 1);
}
