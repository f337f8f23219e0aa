//! The loader against a server that misbehaves as a cluster without a leader does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use quadraft_tests::generator::{DataSet, Scale};
use quadraft_tests::load::{Batches, LoadError, LoadOptions, load};
use uuid::Uuid;

/// What the server remembers: what was applied under each key, and how many requests came.
#[derive(Default)]
struct Store {
    applied: HashMap<String, String>,
    requests: u64,
    /// Answers for the first requests; afterwards all is well. An answer of 504 comes after the
    /// write was applied, as a lost acknowledgement would.
    first_answers: Vec<StatusCode>,
}

async fn store(
    State(store): State<Arc<Mutex<Store>>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    assert_eq!(headers["content-type"], "application/n-quads");
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut store = store.lock().unwrap();
    let answer = store.first_answers.get(store.requests as usize).copied();
    store.requests += 1;
    let applied = match answer {
        None | Some(StatusCode::GATEWAY_TIMEOUT) => {
            let before = store.applied.insert(key, body.clone());
            assert!(
                before.is_none_or(|before| before == body),
                "a key was used for other data"
            );
            store.applied.len()
        }
        Some(_) => 0,
    };
    match answer {
        None => (
            StatusCode::NO_CONTENT,
            [("quadraft-log-index", applied.to_string())],
        )
            .into_response(),
        Some(StatusCode::SERVICE_UNAVAILABLE) => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response()
        }
        Some(status) => (status, "no").into_response(),
    }
}

async fn serve(first_answers: &[StatusCode]) -> (reqwest::Url, Arc<Mutex<Store>>) {
    let memory = Arc::new(Mutex::new(Store {
        first_answers: first_answers.to_vec(),
        ..Store::default()
    }));
    let router = Router::new()
        .route("/store", post(store))
        .with_state(Arc::clone(&memory));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}").parse().unwrap(), memory)
}

fn batches(quads: u64) -> Batches {
    let data_set = DataSet {
        scale: Scale::Quads(quads),
        seed: 1,
        named_graphs: false,
    };
    Batches::generated(data_set.stream(), 500)
}

fn options(endpoint: reqwest::Url) -> LoadOptions {
    LoadOptions {
        endpoint,
        parallel: 3,
        deadline: Duration::from_secs(20),
        run: Uuid::nil(),
    }
}

#[tokio::test]
async fn everything_arrives_once_although_answers_are_lost() {
    let (endpoint, memory) = serve(&[
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ])
    .await;
    let heard = Mutex::new(Vec::new());
    let summary = load(batches(5_000), &options(endpoint), &|progress| {
        heard.lock().unwrap().push(progress.quads);
    })
    .await
    .unwrap();
    let memory = memory.lock().unwrap();
    let lines: usize = memory
        .applied
        .values()
        .map(|text| text.lines().count())
        .sum();
    assert_eq!(lines, 5_000);
    assert_eq!((summary.quads, summary.retries), (5_000, 4));
    assert_eq!(summary.batches, memory.applied.len() as u64);
    assert_eq!(summary.log_index, summary.batches);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.last(), Some(&5_000));
    assert!(heard.is_sorted());
}

#[tokio::test]
async fn a_request_that_cannot_succeed_is_not_repeated() {
    let (endpoint, memory) = serve(&[StatusCode::BAD_REQUEST; 20]).await;
    let options = LoadOptions {
        parallel: 1,
        ..options(endpoint)
    };
    let error = load(batches(2_000), &options, &|_| {}).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Refused { batch: 0, status: StatusCode::BAD_REQUEST, message }
            if message == "no"),
        "{error}"
    );
    assert_eq!(memory.lock().unwrap().requests, 1);
}

#[tokio::test]
async fn a_cluster_that_does_not_come_back_ends_the_load_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = LoadOptions {
        deadline: Duration::from_millis(300),
        ..options(endpoint.parse().unwrap())
    };
    let error = load(batches(1_000), &options, &|_| {}).await.unwrap_err();
    assert!(matches!(error, LoadError::DeadlinePassed { .. }), "{error}");
}
