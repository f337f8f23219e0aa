//! Tests of the router over a real state and of the server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod health;
mod protocol;
mod socket;
mod store;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::testing::FakeDatabase;
use super::*;
use crate::metrics::Metrics;
use crate::sparql::query::QueryLimits;
use crate::sparql::update::Write;
use crate::state::RequestId;

/// A router over a fake database.
struct Bench {
    database: Arc<FakeDatabase>,
    metrics: Metrics,
    router: Router,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

fn options() -> HttpOptions {
    HttpOptions {
        queries: QueryLimits {
            // Tests share a process: what one uses must not stop another.
            maximum_growth_bytes: u64::MAX,
            ..QueryLimits::default()
        },
        ..HttpOptions::default()
    }
}

impl Bench {
    fn new(options: HttpOptions) -> Self {
        let database = Arc::new(FakeDatabase::new());
        let metrics = Metrics::default();
        let router = router(database.clone(), options, metrics.clone());
        Self {
            database,
            metrics,
            router,
        }
    }

    /// With three quads: one in the default graph, two in `http://example.com/g`.
    fn with_data(options: HttpOptions) -> Self {
        let bench = Self::new(options);
        bench.update(
            "PREFIX : <http://example.com/> \
             INSERT DATA { :a :p :b GRAPH :g { :a :p 1 . :b :p 2 } }",
        );
        bench
    }

    /// With a ring of so many quads.
    fn with_ring(quads: usize, options: HttpOptions) -> Self {
        let bench = Self::new(options);
        let triples: String = (0..quads)
            .map(|number| format!("<a:{number}> <a:p> <a:{}> .", (number + 1) % quads))
            .collect();
        bench.update(&format!("INSERT DATA {{ {triples} }}"));
        bench
    }

    fn update(&self, text: &str) {
        let write = Write::Update {
            text: text.into(),
            base_iri: None,
            using_graphs: None,
        };
        self.database.write_now(RequestId::unique(), write).unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, uri: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request("GET", uri, headers, "")).await
    }

    async fn post(&self, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(request("POST", uri, headers, body)).await
    }

    async fn select(&self, text: &str) -> Answer {
        self.post("/query", &[QUERY, CSV], text).await
    }

    /// The number of solutions of a pattern.
    async fn count(&self, pattern: &str) -> usize {
        let answer = self.select(&format!("SELECT * {{ {pattern} }}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.lines().count() - 1
    }
}

const QUERY: (&str, &str) = ("content-type", "application/sparql-query");
const UPDATE: (&str, &str) = ("content-type", "application/sparql-update");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const TURTLE: (&str, &str) = ("content-type", "text/turtle");
const CSV: (&str, &str) = ("accept", "text/csv");

fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body.to_owned())).unwrap()
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of an error, which has a message too.
    #[track_caller]
    fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let document = self.json();
        assert_eq!(document["error"], code, "{self:?}");
        assert!(!document["message"].as_str().unwrap().is_empty());
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("the condition did not come true");
}
