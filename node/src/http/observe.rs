//! Counts requests.

use std::time::Instant;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::Body as _;

use crate::metrics::{HttpMetrics, RequestLabels};

const ROUTES: &[&str] = &[
    "/",
    "/query",
    "/update",
    "/sparql",
    "/store",
    "/livez",
    "/readyz",
    "/recovery",
    "/status",
    "/metrics",
];

pub(super) async fn observe(
    Shared(metrics): Shared<HttpMetrics>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let route = route(request.uri().path());
    let method = method(request.method());
    let mut response = next.run(request).await;
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let status = response.status().as_u16();
    tracing::debug!(route, method, status, "answered");
    metrics.count(
        RequestLabels {
            route,
            method,
            status,
        },
        start.elapsed(),
    );
    // Streams count what they send themselves.
    if let Some(bytes) = response.body().size_hint().exact() {
        metrics.count_response_bytes(bytes);
    }
    response
}

fn route(path: &str) -> &'static str {
    ROUTES
        .iter()
        .find(|route| **route == path)
        .copied()
        .unwrap_or("other")
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
