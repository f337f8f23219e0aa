//! What operators and people ask a node about itself.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use quadraft_protocol::RecoveryReport;
use serde_json::{Value, json};

use super::error::ApiError;
use super::router::SharedService;
use crate::metrics::{MEDIA_TYPE, Metrics};

pub(super) async fn livez(Shared(service): SharedService) -> Response {
    match service.database.liveness() {
        Ok(()) => Json(json!({"status": "live"})).into_response(),
        Err(reason) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_live", reason).into_response()
        }
    }
}

pub(super) async fn readyz(Shared(service): SharedService) -> Response {
    match service.database.readiness() {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(reason) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).into_response()
        }
    }
}

pub(super) async fn recovery(Shared(service): SharedService) -> Json<RecoveryReport> {
    Json(service.database.recovery_report())
}

pub(super) async fn status(Shared(service): SharedService) -> Json<Value> {
    Json(service.database.status())
}

pub(super) async fn metrics(Shared(service): SharedService) -> Response {
    encoded(&service.metrics)
}

pub(super) fn encoded(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the metrics could not be written: {error}"),
        )
        .into_response(),
    }
}
