//! Clients at all members of a cluster, which notice everything stale and everything slow while a
//! leader is cut off from its peers.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// No client waits longer for an answer, whatever it is.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(3);

/// How long a leader is cut off in tests.
#[must_use]
pub fn partition_seconds() -> u64 {
    std::env::var("QUADRAFT_PARTITION_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(8)
}

/// How long clients that ask again and again may be refused where writing must go on: until another
/// leader is elected, which may take more than one election.
pub const LONGEST_GAP: Duration = Duration::from_secs(5);

/// So many answers that a client has come to something.
pub const ENOUGH: usize = 50;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where clients ask.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub name: String,
    /// The URL without a path.
    pub url: String,
}

/// What was acknowledged, and when at the latest.
#[derive(Debug, Default)]
struct Acknowledged(Mutex<Vec<(Instant, u64)>>);

impl Acknowledged {
    fn add(&self, number: u64) {
        lock(&self.0).push((Instant::now(), number));
    }

    /// The highest number that was acknowledged before.
    fn before(&self, time: Instant) -> Option<u64> {
        lock(&self.0)
            .iter()
            .filter(|(acknowledged, _)| *acknowledged < time)
            .map(|(_, number)| *number)
            .max()
    }
}

/// What one client has seen so far.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    refused: AtomicUsize,
    oldest: Mutex<Duration>,
    longest: Mutex<Duration>,
    longest_gap: Mutex<Duration>,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn raise(longest: &Mutex<Duration>, time: Duration) {
        let mut longest = lock(longest);
        *longest = time.max(*longest);
    }

    fn wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Write,
    ReadLinearizable,
    ReadStale,
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Write => "writes",
            Self::ReadLinearizable => "linearizable reads",
            Self::ReadStale => "stale reads",
        })
    }
}

/// What one client came to.
#[derive(Clone, Debug)]
pub struct ClientReport {
    pub endpoint: String,
    pub work: Work,
    /// Writes that were acknowledged, reads that were right.
    pub answered: usize,
    /// Requests that were answered with 503 or 504.
    pub refused: usize,
    /// The greatest age that a stale read was answered with.
    pub oldest: Duration,
    /// The longest time until an answer.
    pub longest: Duration,
    /// The longest time between two that were not refused.
    pub longest_gap: Duration,
    /// Answers that no client must get.
    pub wrong: Vec<String>,
}

impl fmt::Display for ClientReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} at {}: {} answered, {} refused, {} wrong, the longest took {:.2} s, {:.2} s between two answered",
            self.work,
            self.endpoint,
            self.answered,
            self.refused,
            self.wrong.len(),
            self.longest.as_secs_f64(),
            self.longest_gap.as_secs_f64(),
        )?;
        if self.work == Work::ReadStale {
            write!(formatter, ", the oldest {:.2} s", self.oldest.as_secs_f64())?;
        }
        Ok(())
    }
}

struct Client {
    endpoint: String,
    work: Work,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// A writer and a reader of each kind at each endpoint, until they are told to stop.
pub struct PartitionClients {
    stop: Arc<AtomicBool>,
    clients: Vec<Client>,
}

impl fmt::Debug for PartitionClients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PartitionClients")
            .finish_non_exhaustive()
    }
}

impl PartitionClients {
    #[must_use]
    pub fn start(endpoints: &[Endpoint]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written: Vec<_> = (0..endpoints.len())
            .map(|number| (format!("w{number}"), Arc::new(Acknowledged::default())))
            .collect();
        let mut clients = Vec::new();
        for (endpoint, (name, done)) in endpoints.iter().zip(&written) {
            for work in [Work::Write, Work::ReadLinearizable, Work::ReadStale] {
                let seen = Arc::new(Seen::default());
                let (url, stop) = (endpoint.url.clone(), stop.clone());
                let task = match work {
                    Work::Write => {
                        tokio::spawn(write(url, name.clone(), done.clone(), seen.clone(), stop))
                    }
                    _ => tokio::spawn(read(url, work, written.clone(), seen.clone(), stop)),
                };
                clients.push(Client {
                    endpoint: endpoint.name.clone(),
                    work,
                    seen,
                    task,
                });
            }
        }
        Self { stop, clients }
    }

    /// Waits until every client has been answered [`ENOUGH`] times more.
    ///
    /// # Errors
    /// Names one that has not, after a minute.
    pub async fn each_gets_answers(&self) -> Result<(), String> {
        let answered = |client: &Client| client.seen.answered.load(Ordering::SeqCst);
        let before: Vec<usize> = self.clients.iter().map(answered).collect();
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut pairs = self.clients.iter().zip(&before);
            let Some((client, before)) =
                pairs.find(|(client, before)| answered(client) < **before + ENOUGH)
            else {
                return Ok(());
            };
            if Instant::now() > until {
                let count = answered(client) - before;
                return Err(format!(
                    "{} at {}: {count} answers in a minute",
                    client.work, client.endpoint
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The greatest age that a stale read at this endpoint was answered with so far.
    #[must_use]
    pub fn oldest(&self, endpoint: &Endpoint) -> Duration {
        self.clients
            .iter()
            .filter(|client| client.endpoint == endpoint.name && client.work == Work::ReadStale)
            .map(|client| *lock(&client.seen.oldest))
            .max()
            .unwrap_or_default()
    }

    /// Stops them after the requests under way.
    ///
    /// # Errors
    /// When a client itself failed.
    pub async fn finish(self) -> Result<Vec<ClientReport>, String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut reports = Vec::new();
        for client in self.clients {
            client.task.await.map_err(|error| error.to_string())?;
            let seen = client.seen;
            reports.push(ClientReport {
                endpoint: client.endpoint,
                work: client.work,
                answered: seen.answered.load(Ordering::SeqCst),
                refused: seen.refused.load(Ordering::SeqCst),
                oldest: *lock(&seen.oldest),
                longest: *lock(&seen.longest),
                longest_gap: *lock(&seen.longest_gap),
                wrong: lock(&seen.wrong).clone(),
            });
        }
        Ok(reports)
    }
}

/// What must hold of all clients: nothing was wrong, nobody waited long, and each came to something.
/// Where writes must go on, at `served`, no long time lies between two.
///
/// # Errors
/// Says what does not hold.
pub fn check(reports: &[ClientReport], served: &[&Endpoint]) -> Result<(), String> {
    for report in reports {
        if let Some(wrong) = report.wrong.first() {
            return Err(format!("{report}: {wrong}"));
        }
        if report.answered <= ENOUGH {
            return Err(format!("{report}: it came to nothing"));
        }
        if report.work != Work::Write {
            continue;
        }
        let is_served = served
            .iter()
            .any(|endpoint| endpoint.name == report.endpoint);
        if report.longest > LONGEST_ANSWER || (is_served && report.longest_gap > LONGEST_GAP) {
            return Err(format!("{report}: too long"));
        }
    }
    Ok(())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap_or_default()
}

/// Writes growing numbers, one after another, under a name of its own.
async fn write(
    url: String,
    name: String,
    done: Arc<Acknowledged>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
) {
    let client = client();
    let mut number = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let update = format!(
            "DELETE {{ <u:{name}> <u:reached> ?n }} INSERT {{ <u:{name}> <u:reached> {number} }} \
             WHERE {{ OPTIONAL {{ <u:{name}> <u:reached> ?n }} }}"
        );
        let started = Instant::now();
        let answer = client
            .post(format!("{url}/update"))
            .header("content-type", "application/sparql-update")
            .body(update)
            .send()
            .await;
        Seen::raise(&seen.longest, started.elapsed());
        match answer {
            Ok(answer) if answer.status() == 204 => {
                done.add(number);
                seen.answered.fetch_add(1, Ordering::SeqCst);
                Seen::raise(&seen.longest_gap, last.elapsed());
                last = Instant::now();
            }
            Ok(answer) => {
                // Another number next time: this one may still come.
                let status = answer.status();
                if ![503, 504].contains(&status.as_u16()) {
                    let text = answer.text().await.unwrap_or_default();
                    seen.wrong(format!("{status}: {text}"));
                }
                seen.refused.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => seen.wrong(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads what was reached, and compares it with what must be seen.
async fn read(
    url: String,
    work: Work,
    written: Vec<(String, Arc<Acknowledged>)>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
) {
    let client = client();
    let level = if work == Work::ReadStale {
        "stale"
    } else {
        "linearizable"
    };
    let mut last = Instant::now();
    for (name, done) in written.iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let started = Instant::now();
        let answer = client
            .post(format!("{url}/query"))
            .header("content-type", "application/sparql-query")
            .header("accept", "text/csv")
            .header("quadraft-consistency", level)
            .body(format!("SELECT ?n {{ <u:{name}> <u:reached> ?n }}"))
            .send()
            .await;
        Seen::raise(&seen.longest, started.elapsed());
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                seen.wrong(error.to_string());
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if !answer.status().is_success() {
            seen.refused.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let age = answer
            .headers()
            .get("quadraft-age-milliseconds")
            .and_then(|age| age.to_str().ok()?.parse().ok())
            .map(Duration::from_millis);
        let found: Option<u64> = match answer.text().await {
            Ok(text) => text
                .lines()
                .nth(1)
                .and_then(|line| line.trim().parse().ok()),
            Err(error) => {
                seen.wrong(error.to_string());
                continue;
            }
        };
        let as_of = match (work, age) {
            (Work::ReadStale, Some(age)) => {
                Seen::raise(&seen.oldest, age);
                started.checked_sub(age)
            }
            // What has no age says nothing.
            (Work::ReadStale, None) => None,
            _ => Some(started),
        };
        let expected = as_of.and_then(|as_of| done.before(as_of));
        if found < expected {
            seen.wrong(format!(
                "{found:?} of {name} with age {age:?}, although {expected:?} was acknowledged before"
            ));
        }
        seen.answered.fetch_add(1, Ordering::SeqCst);
        Seen::raise(&seen.longest_gap, last.elapsed());
        last = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
