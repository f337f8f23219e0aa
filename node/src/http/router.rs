//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};

use super::body::BodyReader;
use super::cross_origin::CrossOrigin;
use super::error::ApiError;
use super::{Database, HttpOptions, graph_store, health, observe, page, query, sparql, update};
use crate::metrics::Metrics;
use crate::sparql::query::QueryEngine;

/// What the handlers share.
pub(super) struct Service {
    pub(super) database: Arc<dyn Database>,
    pub(super) options: HttpOptions,
    pub(super) engine: QueryEngine,
    pub(super) bodies: BodyReader,
    pub(super) cross_origin: CrossOrigin,
    pub(super) metrics: Metrics,
}

pub(super) type SharedService = Shared<Arc<Service>>;

/// The service of the node's HTTP port.
pub fn router(database: Arc<dyn Database>, options: HttpOptions, metrics: Metrics) -> Router {
    let cross_origin = CrossOrigin::new(options.cors_origins.clone());
    let cors = cross_origin.layer();
    let service = Arc::new(Service {
        database,
        cross_origin,
        engine: QueryEngine::new(options.queries, metrics.queries.clone()),
        bodies: BodyReader::new(options.clone(), metrics.http.clone()),
        options,
        metrics: metrics.clone(),
    });
    let routes = Router::new()
        .route("/", get(page::page))
        .route("/query", any(query::endpoint))
        .route("/update", any(update::endpoint))
        .route("/sparql", any(sparql::endpoint))
        .route("/store", any(graph_store::endpoint))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/recovery", get(health::recovery))
        .route("/status", get(health::status))
        .route("/metrics", get(health::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(|| async { method_not_allowed("GET, HEAD") });
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes
        .layer(middleware::from_fn_with_state(
            metrics.http,
            observe::observe,
        ))
        .with_state(service)
}

/// The service of a separate port for metrics.
pub fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route(
        "/metrics",
        get(move || async move { health::encoded(&metrics) }),
    )
}

async fn unknown_path(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {}", request.uri().path()),
    )
}

/// An answer to a method that an endpoint does not have.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("this endpoint has {allowed}"),
    );
    ([(axum::http::header::ALLOW, allowed)], error).into_response()
}
