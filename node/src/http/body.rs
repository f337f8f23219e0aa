//! Reads bodies of requests within bounds.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::HttpOptions;
use super::error::ApiError;
use super::headers;
use crate::metrics::HttpMetrics;

/// The memory for all bodies together is handed out in pieces of this size.
const PIECE_BYTES: usize = 4096;

/// Reads bodies, and knows how much memory they take together.
#[derive(Debug)]
pub(super) struct BodyReader {
    memory: Arc<Semaphore>,
    options: HttpOptions,
    metrics: HttpMetrics,
}

/// A body, and its share of the memory as long as it is kept.
#[derive(Debug)]
pub(super) struct ReadBody {
    pub(super) bytes: Vec<u8>,
    memory: Option<OwnedSemaphorePermit>,
}

impl BodyReader {
    pub(super) fn new(options: HttpOptions, metrics: HttpMetrics) -> Self {
        let pieces = options
            .maximum_bodies_bytes
            .max(options.maximum_request_bytes)
            .div_ceil(PIECE_BYTES)
            .min(Semaphore::MAX_PERMITS);
        Self {
            memory: Arc::new(Semaphore::new(pieces)),
            options,
            metrics,
        }
    }

    /// Reads a whole body, or refuses it as soon as it is seen to be too large.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<ReadBody, ApiError> {
        headers::refuse_encoded_body(headers)?;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > self.options.maximum_request_bytes) {
            return Err(self.too_large());
        }
        let mut memory = None;
        let mut bytes = Vec::new();
        let mut stream = body.into_data_stream();
        while let Some(chunk) = timeout(self.options.body_patience, stream.next())
            .await
            .map_err(|_| ApiError::timed_out("the rest of the body did not arrive in time"))?
        {
            let chunk: Bytes = chunk.map_err(|error| {
                ApiError::bad_request(format!("the body could not be read: {error}"))
            })?;
            if bytes.len() + chunk.len() > self.options.maximum_request_bytes {
                return Err(self.too_large());
            }
            self.reserve(&mut memory, bytes.len() + chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        self.metrics.count_request_bytes(bytes.len());
        Ok(ReadBody { bytes, memory })
    }

    fn too_large(&self) -> ApiError {
        ApiError::too_large(format!(
            "the body has more than {} bytes",
            self.options.maximum_request_bytes
        ))
    }

    /// Takes what is still missing of the memory for so many bytes.
    fn reserve(
        &self,
        memory: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), ApiError> {
        let held = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(PIECE_BYTES).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing)
            .ok()
            .and_then(|missing| {
                Arc::clone(&self.memory)
                    .try_acquire_many_owned(missing)
                    .ok()
            })
            .ok_or_else(|| {
                ApiError::unavailable("too_busy", "too many large requests are being read")
            })?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
        Ok(())
    }
}

impl ReadBody {
    /// The body, to be kept as long as its share of the memory.
    pub(super) fn into_bytes(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.memory)
    }

    /// The same as text.
    pub(super) fn into_text(self) -> Result<(String, Option<OwnedSemaphorePermit>), ApiError> {
        let text = String::from_utf8(self.bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not UTF-8: {error}")))?;
        Ok((text, self.memory))
    }
}
