//! A client that writes numbered statements and remembers what was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// What a writer sent, and what of it was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    pub acknowledged: BTreeSet<u64>,
    /// Sent, but never acknowledged: each may be there or not.
    pub uncertain: BTreeSet<u64>,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
}

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Acknowledged>,
}

impl Writer {
    /// Starts to write one numbered statement after another to the endpoints, going on to the next
    /// endpoint when one does not answer. A statement is repeated under the same key until it is
    /// acknowledged, or given up for uncertain after `patience`.
    #[must_use]
    pub fn start(update_endpoints: Vec<String>, name: &str, patience: Duration) -> Self {
        Self::start_at_pace(update_endpoints, name, patience, Duration::ZERO)
    }

    /// As [`Self::start`], with a `pause` behind each statement: data that grows without bound takes
    /// ever longer to transfer and to compare.
    #[must_use]
    pub fn start_at_pace(
        update_endpoints: Vec<String>,
        name: &str,
        patience: Duration,
        pause: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(
            update_endpoints,
            name.to_owned(),
            (patience, pause),
            stop.clone(),
        ));
        Self { stop, task }
    }

    /// Stops after the statement under way.
    ///
    /// # Errors
    /// When the writer itself failed.
    pub async fn finish(self) -> Result<Acknowledged, String> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.map_err(|error| error.to_string())
    }
}

async fn write(
    endpoints: Vec<String>,
    name: String,
    (patience, pause): (Duration, Duration),
    stop: Arc<AtomicBool>,
) -> Acknowledged {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(1))
        .build()
        .unwrap_or_default();
    let mut result = Acknowledged::default();
    let mut endpoint = 0;
    let mut last_acknowledgement = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{name}-{number}");
        let update = format!("INSERT DATA {{ <urn:test:{name}> <urn:test:wrote> {number} }}");
        let until = Instant::now() + patience;
        result.uncertain.insert(number);
        while Instant::now() < until {
            let answer = client
                .post(&endpoints[endpoint])
                .header("content-type", "application/sparql-update")
                .header("idempotency-key", &key)
                .body(update.clone())
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                result.uncertain.remove(&number);
                result.acknowledged.insert(number);
                result.longest_gap = result.longest_gap.max(last_acknowledgement.elapsed());
                last_acknowledgement = Instant::now();
                break;
            }
            endpoint = (endpoint + 1) % endpoints.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(pause).await;
    }
    result
}
