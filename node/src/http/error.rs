//! Errors as clients see them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{ReadFailure, WriteFailure};
use crate::sparql::query::QueryError;
use crate::sparql::reserved::Refused;
use crate::sparql::update::WriteError;

/// An answer that says what went wrong.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    retry_after_seconds: Option<u32>,
    /// The connection is closed after the answer.
    closes: bool,
    document: Document,
}

#[derive(Debug, Serialize)]
struct Document {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            retry_after_seconds: None,
            closes: false,
            document: Document {
                error,
                message: message.into(),
                line: None,
                column: None,
            },
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        )
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn too_complex(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "too_complex", message)
    }

    pub(super) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", message)
    }

    /// The same request may succeed a little later.
    pub(super) fn unavailable(error: &'static str, message: impl Into<String>) -> Self {
        Self {
            retry_after_seconds: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error, message)
        }
    }

    /// The same request may succeed at another member. Whoever comes through a Service is led to one
    /// by a new connection only.
    fn unavailable_here(error: &'static str, message: impl Into<String>) -> Self {
        Self {
            closes: true,
            ..Self::unavailable(error, message)
        }
    }

    fn internal(message: &str) -> Self {
        tracing::error!(message, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn malformed(message: String, line: Option<u64>, column: Option<u64>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, "malformed", message);
        error.document.line = line;
        error.document.column = column;
        error
    }

    fn reserved_graph(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "reserved_graph", message)
    }

    fn unsupported(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unsupported", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.document)).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Malformed { line, column, .. } => Self::malformed(message, line, column),
            QueryError::Refused(Refused::ReservedGraph) => Self::reserved_graph(message),
            QueryError::Refused(Refused::Service) | QueryError::Unsupported(_) => {
                Self::unsupported(message)
            }
            QueryError::TooComplex(_) => Self::too_complex(message),
            QueryError::UnknownGraph(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_graph", message)
            }
            QueryError::NotAcceptable { .. } => {
                Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
            }
            QueryError::TimedOut { .. } => Self::timed_out(message),
            QueryError::TooLarge(_) => Self::too_large(message),
            QueryError::StoreDamaged => Self::unavailable_here("store_damaged", message),
            QueryError::OutOfMemory => Self::unavailable("out_of_memory", message),
            QueryError::Busy => Self::unavailable("too_busy", message),
            QueryError::Disconnected | QueryError::Internal(_) => Self::internal(&message),
        }
    }
}

impl From<ReadFailure> for ApiError {
    fn from(failure: ReadFailure) -> Self {
        let message = failure.to_string();
        match failure {
            ReadFailure::NoLeader => Self::unavailable_here("no_leader", message),
            ReadFailure::TimedOut => Self::unavailable_here("not_caught_up", message),
            ReadFailure::Stopped => Self::unavailable_here("stopping", message),
        }
    }
}

impl From<WriteFailure> for ApiError {
    fn from(failure: WriteFailure) -> Self {
        let message = failure.to_string();
        match failure {
            WriteFailure::Rejected(error) => error.into(),
            WriteFailure::NoLeader => Self::unavailable_here("no_leader", message),
            WriteFailure::Overloaded => Self::unavailable("too_busy", message),
            WriteFailure::Stopped => Self::unavailable_here("stopping", message),
            WriteFailure::DiskFull(_) => Self {
                retry_after_seconds: Some(10),
                ..Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
            },
            WriteFailure::OutcomeUnknown => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "outcome_unknown",
                "the write may or may not be committed, now or later: to be sure, send the same \
                 request again with the same Idempotency-Key, which never applies it twice",
            ),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::Malformed { line, column, .. } => Self::malformed(message, line, column),
            WriteError::UnknownGraph { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown_graph", message)
            }
            WriteError::GraphExists { .. } => {
                Self::new(StatusCode::CONFLICT, "graph_exists", message)
            }
            WriteError::ReservedGraph => Self::reserved_graph(message),
            WriteError::UnsupportedMediaType { .. } => Self::unsupported_media_type(message),
            WriteError::TooLarge { .. } => Self::too_large(message),
            WriteError::TooComplex { .. } => Self::too_complex(message),
            WriteError::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                message,
            ),
            WriteError::TimedOut { .. } => Self::timed_out(message),
            WriteError::Unsupported { .. } => Self::unsupported(message),
            WriteError::OutOfMemory => Self::unavailable("out_of_memory", message),
            WriteError::StoreDamaged => Self::unavailable_here("store_damaged", message),
            WriteError::Storage { .. } => Self::internal(&message),
        }
    }
}
