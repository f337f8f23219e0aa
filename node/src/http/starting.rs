//! What a node answers before it can serve.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::ApiError;
use super::health;
use crate::metrics::Metrics;

/// A node that starts.
pub trait Starting: Send + Sync + 'static {
    /// What goes on, and how far it is, in a sentence.
    fn words(&self) -> String;

    /// The same as a document, for `/status`.
    fn document(&self) -> Value;

    /// Whether the start moves on; otherwise why not.
    ///
    /// # Errors
    /// Says since when it does not.
    fn liveness(&self) -> Result<(), String>;
}

/// The service of the HTTP port until the node serves: health and progress, and 503 for all else.
pub fn starting_router(starting: Arc<dyn Starting>, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(unavailable))
        .route("/status", get(status))
        .route(
            "/metrics",
            get(move || async move { health::encoded(&metrics) }),
        )
        .fallback(unavailable)
        .with_state(starting)
}

async fn livez(Shared(starting): Shared<Arc<dyn Starting>>) -> Response {
    match starting.liveness() {
        Ok(()) => Json(json!({"status": "starting", "reason": starting.words()})).into_response(),
        Err(reason) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_live", reason).into_response()
        }
    }
}

async fn status(Shared(starting): Shared<Arc<dyn Starting>>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": false,
        "not_ready_reason": starting.words(),
        "starting": starting.document(),
    }))
}

async fn unavailable(Shared(starting): Shared<Arc<dyn Starting>>) -> ApiError {
    ApiError::unavailable("starting", starting.words())
}
