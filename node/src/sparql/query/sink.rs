//! From the thread that evaluates to the connection that sends: a bounded stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};

use super::{QueryError, QueryLimits};
use crate::sparql::evaluation::{Stop, Switch};

/// Bytes sent at once. A result that is smaller fails cleanly or arrives whole.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for a slow client before the evaluation does.
const WAITING_CHUNKS: usize = 4;
/// How often a thread that waits for a slow client looks whether it should stop.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// What is known before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) media_type: &'static str,
    pub(super) log_index: u64,
}

pub(super) enum Piece {
    Data(Bytes),
    Done,
    Failed(QueryError),
}

/// The end where the evaluation writes.
pub(super) struct Sink {
    buffer: Vec<u8>,
    head: Head,
    answer: Option<oneshot::Sender<Result<Head, QueryError>>>,
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
    switch: Switch,
    limits: QueryLimits,
    /// Instead of a deadline for the whole: how long the client may take nothing.
    patience: Option<Duration>,
    bytes: u64,
}

/// Counts the rows, or triples, or quads, of one result.
pub(super) struct RowCounter {
    switch: Switch,
    limits: QueryLimits,
    rows: u64,
}

/// The end where the connection reads. Dropping it stops the evaluation.
#[derive(Debug)]
pub struct ResultStream {
    pieces: mpsc::Receiver<Piece>,
    switch: Switch,
    ended: bool,
}

/// A sink, the promise of its head, and the stream.
pub(super) fn channel(
    limits: QueryLimits,
    switch: &Switch,
    patience: Option<Duration>,
) -> (
    Sink,
    oneshot::Receiver<Result<Head, QueryError>>,
    ResultStream,
) {
    let (answer, head) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(WAITING_CHUNKS);
    let sink = Sink {
        buffer: Vec::new(),
        head: Head {
            media_type: "",
            log_index: 0,
        },
        answer: Some(answer),
        pieces: sender,
        runtime: Handle::current(),
        switch: switch.clone(),
        limits,
        patience,
        bytes: 0,
    };
    let stream = ResultStream {
        pieces: receiver,
        switch: switch.clone(),
        ended: false,
    };
    (sink, head, stream)
}

impl Sink {
    /// Says what will be written. Nothing is sent before there is something to send.
    pub(super) fn describe(&mut self, head: Head) {
        self.head = head;
    }

    /// A counter for what is written here.
    pub(super) fn row_counter(&self) -> RowCounter {
        RowCounter {
            switch: self.switch.clone(),
            limits: self.limits,
            rows: 0,
        }
    }

    pub(super) fn look(&self) -> Result<(), QueryError> {
        look(&self.switch, self.limits)
    }

    /// Sends the rest and, if all went well, the end.
    pub(super) fn finish(mut self, result: Result<(), QueryError>) -> Result<(), QueryError> {
        let result = result.and_then(|()| self.send_buffer());
        match (&result, self.answer.take()) {
            (Err(error), Some(answer)) => {
                // Nobody is there any more if this fails.
                let _gone = answer.send(Err(error.clone()));
            }
            (Err(error), None) => {
                let _gone = self.send(Piece::Failed(error.clone()));
            }
            (Ok(()), answer) => {
                if let Some(answer) = answer {
                    let _gone = answer.send(Ok(self.head));
                }
                let _gone = self.send(Piece::Done);
            }
        }
        result
    }

    fn send_buffer(&mut self) -> Result<(), QueryError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.look()?;
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limits.maximum_bytes {
            return Err(QueryError::TooLarge(format!(
                "it has more than {} bytes",
                self.limits.maximum_bytes
            )));
        }
        if let Some(answer) = self.answer.take()
            && answer.send(Ok(self.head)).is_err()
        {
            return Err(QueryError::Disconnected);
        }
        self.send(Piece::Data(chunk))
    }

    /// Waits for the client, but not when the evaluation should stop.
    fn send(&self, mut piece: Piece) -> Result<(), QueryError> {
        let start = Instant::now();
        // Whoever reads a failed stream learns of the failure even if that is why it stopped.
        let is_failure = matches!(piece, Piece::Failed(_));
        loop {
            let sent = self
                .runtime
                .block_on(self.pieces.send_timeout(piece, LOOK_AROUND));
            match sent {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Closed(_)) => return Err(QueryError::Disconnected),
                Err(SendTimeoutError::Timeout(back)) => {
                    if is_failure {
                        // The stream also counts as failed when it ends without an end.
                        return Ok(());
                    }
                    self.look()?;
                    if self
                        .patience
                        .is_some_and(|patience| start.elapsed() > patience)
                    {
                        return Err(stopped(Stop::TimedOut, self.limits));
                    }
                    piece = back;
                }
            }
        }
    }
}

impl RowCounter {
    /// One more row.
    pub(super) fn count(&mut self) -> Result<(), QueryError> {
        look(&self.switch, self.limits)?;
        self.rows += 1;
        if self.rows > self.limits.maximum_rows {
            return Err(QueryError::TooLarge(format!(
                "it has more than {} rows",
                self.limits.maximum_rows
            )));
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

fn look(switch: &Switch, limits: QueryLimits) -> Result<(), QueryError> {
    match switch.notice() {
        None => Ok(()),
        Some(stop) => Err(stopped(stop, limits)),
    }
}

/// What a stopped evaluation is called.
pub(super) fn stopped(stop: Stop, limits: QueryLimits) -> QueryError {
    match stop {
        Stop::TimedOut => QueryError::TimedOut {
            timeout_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
        },
        Stop::Disconnected => QueryError::Disconnected,
        Stop::OutOfMemory => QueryError::OutOfMemory,
        Stop::StoreDamaged => QueryError::StoreDamaged,
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.send_buffer().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ResultStream {
    type Item = Result<Bytes, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        self.ended = !matches!(piece, Some(Piece::Data(_)));
        Poll::Ready(match piece {
            Some(Piece::Data(bytes)) => Some(Ok(bytes)),
            Some(Piece::Done) => None,
            Some(Piece::Failed(error)) => Some(Err(error)),
            // The end of the document was never sent: it must not look whole.
            None => Some(Err(QueryError::Internal(
                "the evaluation ended early".into(),
            ))),
        })
    }
}

impl Drop for ResultStream {
    fn drop(&mut self) {
        if !self.ended {
            self.switch.stop(Stop::Disconnected);
        }
    }
}
