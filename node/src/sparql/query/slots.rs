//! How many queries run and wait at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::QueryError;

/// Places for running queries, with a short queue in front.
#[derive(Debug)]
pub(super) struct Slots {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    maximum_waiting: usize,
}

/// One that waits, until dropped.
struct Waiting<'a>(&'a Slots);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(super) fn new(maximum_running: usize, maximum_waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(
                maximum_running.clamp(1, Semaphore::MAX_PERMITS),
            )),
            waiting: AtomicUsize::new(0),
            maximum_waiting,
        }
    }

    /// A place, at once or after a wait.
    pub(super) async fn acquire(&self, wait: Duration) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        if before >= self.maximum_waiting {
            return Err(QueryError::Busy);
        }
        match tokio::time::timeout(wait, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed: only the wait can be over.
            Ok(Err(_)) | Err(_) => Err(QueryError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn whoever_comes_when_the_queue_is_full_is_sent_away_at_once() {
        let slots = Arc::new(Slots::new(1, 1));
        let running = slots.acquire(LONG).await.unwrap();
        let queued = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.acquire(LONG).await.map(drop) }
        });
        while slots.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(slots.acquire(LONG).await.map(drop), Err(QueryError::Busy));
        drop(running);
        assert_eq!(queued.await.unwrap(), Ok(()));
        assert_eq!(slots.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_asked() {
        let slots = Slots::new(1, 1);
        let _running = slots.acquire(LONG).await.unwrap();
        let short = Duration::from_millis(5);
        assert_eq!(slots.acquire(short).await.map(drop), Err(QueryError::Busy));
        assert_eq!(slots.waiting.load(Ordering::Relaxed), 0);
    }
}
