//! Sending batches, several at a time, and again where the outcome is not known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::batches::{Batch, Batches, SourceError};
use super::progress::Progress;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where and how to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The address of a cluster or a node, such as `http://127.0.0.1:7878`.
    pub endpoint: Url,
    /// How many batches are under way at once.
    pub parallel: usize,
    /// How long a batch is tried before the whole load fails.
    pub deadline: Duration,
    /// Distinguishes this load from others: batches of equal run and number are written once.
    pub run: Uuid,
}

/// What a load did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: Uuid,
    pub quads: u64,
    pub batches: u64,
    pub bytes: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
    pub seconds: f64,
    pub quads_per_second: f64,
    /// The longest time that a batch took, retries included: an interruption shows here.
    pub longest_batch_seconds: f64,
    /// The highest log index that was acknowledged.
    pub log_index: u64,
}

/// Why a load did not end well.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the endpoint {0} cannot carry a path")]
    Endpoint(Url),
    #[error("failed to make the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("batch {batch} was refused with {status}: {message}")]
    Refused {
        batch: u64,
        status: StatusCode,
        message: String,
    },
    #[error(
        "batch {batch} was not acknowledged within {} s; the last attempt ended with: {last}",
        .deadline.as_secs_f64()
    )]
    DeadlinePassed {
        batch: u64,
        deadline: Duration,
        last: String,
    },
}

/// Sends every batch and returns when all are acknowledged. `progress` hears of each one.
///
/// # Errors
///
/// When the source cannot be read, a batch is refused for a reason that will not pass, or a batch
/// is not acknowledged in time. What was acknowledged before stays written.
pub async fn load(
    batches: Batches,
    options: &LoadOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Summary, LoadError> {
    let store = options
        .endpoint
        .join("store")
        .map_err(|_| LoadError::Endpoint(options.endpoint.clone()))?;
    let sender = Sender {
        client: Client::builder().build().map_err(LoadError::Client)?,
        store,
        deadline: options.deadline,
        run: options.run,
        retries: AtomicU64::new(0),
    };
    let start = Instant::now();
    let done = stream::unfold(read_ahead(batches, options.parallel), |mut queue| async {
        queue.recv().await.map(|batch| (batch, queue))
    })
    .map(|batch| async { sender.send(batch?).await })
    .buffer_unordered(options.parallel.max(1))
    .try_fold(Acknowledged::default(), |sum, one| {
        let sum = sum.and(&one);
        progress(Progress {
            quads: sum.quads,
            bytes: sum.bytes,
        });
        std::future::ready(Ok(sum))
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Summary {
        run: options.run,
        quads: done.quads,
        batches: done.batches,
        bytes: done.bytes,
        retries: sender.retries.into_inner(),
        seconds,
        quads_per_second: done.quads as f64 / seconds.max(f64::EPSILON),
        longest_batch_seconds: done.longest.as_secs_f64(),
        log_index: done.log_index,
    })
}

/// Makes batches on a thread of their own, a few ahead of those that are being sent.
fn read_ahead(batches: Batches, ahead: usize) -> mpsc::Receiver<Result<Batch, SourceError>> {
    let (sender, receiver) = mpsc::channel(ahead.max(1));
    tokio::task::spawn_blocking(move || {
        for batch in batches {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

#[derive(Clone, Debug, Default)]
struct Acknowledged {
    quads: u64,
    batches: u64,
    bytes: u64,
    log_index: u64,
    longest: Duration,
}

impl Acknowledged {
    fn and(self, other: &Self) -> Self {
        Self {
            quads: self.quads + other.quads,
            batches: self.batches + other.batches,
            bytes: self.bytes + other.bytes,
            log_index: self.log_index.max(other.log_index),
            longest: self.longest.max(other.longest),
        }
    }
}

/// What one attempt came to.
enum Attempt {
    Acknowledged {
        log_index: u64,
    },
    Refused(StatusCode, String),
    /// Sending it again may help.
    Passing {
        reason: String,
        pause: Option<Duration>,
    },
}

struct Sender {
    client: Client,
    store: Url,
    deadline: Duration,
    run: Uuid,
    retries: AtomicU64,
}

impl Sender {
    async fn send(&self, batch: Batch) -> Result<Acknowledged, LoadError> {
        let start = Instant::now();
        let key = format!("{}-{}", self.run, batch.number);
        let bytes = batch.text.len() as u64;
        // Shared between attempts, not copied.
        let text = bytes::Bytes::from(batch.text);
        let mut pause = SHORTEST_PAUSE;
        loop {
            let left = self.deadline.saturating_sub(start.elapsed());
            let (reason, asked) = match self.attempt(&key, text.clone(), left).await {
                Attempt::Acknowledged { log_index } => {
                    return Ok(Acknowledged {
                        quads: batch.quads,
                        batches: 1,
                        bytes,
                        log_index,
                        longest: start.elapsed(),
                    });
                }
                Attempt::Refused(status, message) => {
                    return Err(LoadError::Refused {
                        batch: batch.number,
                        status,
                        message,
                    });
                }
                Attempt::Passing { reason, pause } => (reason, pause),
            };
            let wait = asked.unwrap_or(pause).min(LONGEST_PAUSE);
            if start.elapsed() + wait >= self.deadline {
                return Err(LoadError::DeadlinePassed {
                    batch: batch.number,
                    deadline: self.deadline,
                    last: reason,
                });
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, key: &str, text: bytes::Bytes, left: Duration) -> Attempt {
        let answer = self
            .client
            .post(self.store.clone())
            .header("content-type", "application/n-quads")
            .header("idempotency-key", key)
            .timeout(left)
            .body(text)
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => Attempt::Acknowledged {
                log_index: header(&answer, "quadraft-log-index").unwrap_or(0),
            },
            Ok(answer) => {
                let status = answer.status();
                let pause = header(&answer, "retry-after").map(Duration::from_secs);
                let message = answer.text().await.unwrap_or_default();
                if may_pass(status) {
                    let reason = format!("{status} {message}");
                    Attempt::Passing { reason, pause }
                } else {
                    Attempt::Refused(status, message)
                }
            }
            Err(error) => Attempt::Passing {
                reason: with_causes(&error),
                pause: None,
            },
        }
    }
}

/// Whether the same request may be answered differently later: no leader or too busy, or an
/// outcome that is not known.
fn may_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn header(answer: &Response, name: &str) -> Option<u64> {
    answer.headers().get(name)?.to_str().ok()?.parse().ok()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
