//! Fuzzing of what clients send.

#![allow(clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use tower::ServiceExt as _;

use super::testing::FakeDatabase;
use super::{HttpOptions, router};
use crate::fuzzing::Input;
use crate::metrics::Metrics;
use crate::sparql::query::QueryLimits;
use crate::sparql::update::EvaluationLimits;
use crate::state::State;

/// A request: a byte for its method and its path; the URL's query, a line; headers, a line each; an
/// empty line; the body.
///
/// It is answered, and never by 500: whatever a client sends has a clear answer.
pub fn http_request(data: &[u8]) {
    let Some(request) = request(data) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let limits = EvaluationLimits {
            maximum_effect_quads: 10_000,
            maximum_effect_bytes: 1 << 20,
            timeout: Duration::from_millis(500),
            // Other threads of the process take memory too.
            maximum_growth_bytes: u64::MAX,
        };
        let options = HttpOptions {
            queries: QueryLimits {
                timeout: Duration::from_millis(500),
                maximum_rows: 10_000,
                maximum_bytes: 1 << 20,
                // Other threads of the process take memory too.
                maximum_growth_bytes: u64::MAX,
                ..QueryLimits::default()
            },
            ..HttpOptions::default()
        };
        let state = State::in_memory().expect("an empty store opens");
        let database = Arc::new(FakeDatabase::of(state, limits, None));
        let described = format!("{request:?}");
        let response = router(database, options, Metrics::default())
            .oneshot(request)
            .await
            .expect("the router cannot fail");
        assert_ne!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{described}"
        );
        // A result that was begun may be broken off by a limit.
        let _body = to_bytes(response.into_body(), 16 << 20).await;
    });
}

fn request(data: &[u8]) -> Option<Request<Body>> {
    const METHODS: [Method; 6] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    const PATHS: [&str; 6] = ["/query", "/update", "/sparql", "/store", "/", "/metrics"];
    let mut input = Input::new(data);
    let kind = input.byte();
    let mut lines = input.rest();
    let query = line(&mut lines);
    let path = PATHS[usize::from(kind) / METHODS.len() % PATHS.len()];
    let target: Vec<u8> = [path.as_bytes(), b"?", query].concat();
    let mut request = Request::builder()
        .method(&METHODS[usize::from(kind) % METHODS.len()])
        .uri(target.as_slice());
    loop {
        let header = line(&mut lines);
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&header[..colon]).ok()?;
        let value = HeaderValue::from_bytes(header[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(lines.to_vec())).ok()
}

fn line<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    *bytes = rest.get(1..).unwrap_or_default();
    line
}
