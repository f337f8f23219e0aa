//! The node before it serves: its HTTP port answers, and says how far it is. However long a start takes,
//! nobody has to end it; one that hangs is told from one that is slow.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::progress::{Watched, volume_bytes};
use crate::disk::SharedFileSystem;
use crate::http::{self, Starting};
use crate::metrics::Metrics;

/// A volume that is being opened and of which nothing was read or written for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(600);
const DRAIN: Duration = Duration::from_secs(1);

/// What a node does before it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    OpeningVolume,
    WaitingForSpace,
    WaitingForCluster,
    JoiningCluster,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::OpeningVolume => "opening_volume",
            Self::WaitingForSpace => "waiting_for_space",
            Self::WaitingForCluster => "waiting_for_cluster",
            Self::JoiningCluster => "joining_cluster",
        }
    }
}

/// How far a start is.
#[derive(Debug)]
pub(super) struct Start {
    state: Mutex<State>,
    read_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What was read and written when that was looked at last, and since when it is so.
    moved_bytes: u64,
    since: Instant,
}

impl Start {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                phase: Phase::OpeningVolume,
                moved_bytes: 0,
                since: Instant::now(),
            }),
            read_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes over to another phase.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        (state.phase, state.since) = (phase, Instant::now());
    }

    /// A file system through which the volume at `data` is read, so that it is known how far that is.
    pub(super) fn watched(
        self: &Arc<Self>,
        file_system: &SharedFileSystem,
        data: &Path,
    ) -> SharedFileSystem {
        let total_bytes = volume_bytes(file_system, data);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.read_bytes.store(0, Ordering::Relaxed);
        let start = self.clone();
        Watched::counting(file_system, move |bytes| {
            start.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    /// Answers on a listener until the sender of `finished` says so.
    pub(super) fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        metrics: Metrics,
        mut finished: watch::Receiver<bool>,
    ) -> JoinHandle<std::io::Result<()>> {
        let router = http::starting_router(self.clone(), metrics);
        let shutdown = async move {
            // A sender that is gone has nothing to say any more either.
            let _ = finished.wait_for(|finished| *finished).await;
        };
        tokio::spawn(http::serve(listener, router, shutdown, DRAIN))
    }

    /// Whether the start moves on, when so much was read and written by `now`.
    fn moves_on(&self, moved_bytes: u64, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        if state.phase != Phase::OpeningVolume || state.moved_bytes != moved_bytes {
            (state.moved_bytes, state.since) = (moved_bytes, now);
            return Ok(());
        }
        let still = now.duration_since(state.since);
        if still < HANGS_AFTER {
            Ok(())
        } else {
            Err(still)
        }
    }
}

impl Starting for Start {
    fn words(&self) -> String {
        match self.lock().phase {
            Phase::OpeningVolume => format!(
                "the volume is being opened: {} of {} bytes are read",
                self.read_bytes.load(Ordering::Relaxed),
                self.total_bytes.load(Ordering::Relaxed)
            ),
            Phase::WaitingForSpace => "the disk is full: waiting for space".to_owned(),
            Phase::WaitingForCluster => {
                "waiting for the first member to claim this volume".to_owned()
            }
            Phase::JoiningCluster => "the node joins its cluster".to_owned(),
        }
    }

    fn document(&self) -> Value {
        json!({
            "phase": self.lock().phase.name(),
            "read_bytes": self.read_bytes.load(Ordering::Relaxed),
            "total_bytes": self.total_bytes.load(Ordering::Relaxed),
        })
    }

    fn liveness(&self) -> Result<(), String> {
        let moved_bytes = self.read_bytes.load(Ordering::Relaxed) + storage_bytes();
        self.moves_on(moved_bytes, Instant::now()).map_err(|still| {
            format!(
                "nothing was read or written for {} s while the volume was being opened",
                still.as_secs()
            )
        })
    }
}

/// Bytes that this process has read from disks and written to them: the store's library does so by
/// itself. 0 when the kernel does not say.
fn storage_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| ["read_bytes", "write_bytes"].contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_is_alive_and_one_that_stands_still_is_not() {
        let start = Start::new();
        let begun = Instant::now();
        let mut bytes = 1;
        assert_eq!(start.moves_on(bytes, begun), Ok(()));
        // A byte in nine minutes, for days.
        for minutes in (9..10_000).step_by(9) {
            bytes += 1;
            let now = begun + Duration::from_secs(60 * minutes);
            assert_eq!(start.moves_on(bytes, now), Ok(()), "{minutes}");
        }
        let last = begun + Duration::from_secs(60 * 9_999);
        assert_eq!(start.moves_on(bytes, last + HANGS_AFTER / 2), Ok(()));
        assert!(start.moves_on(bytes, last + HANGS_AFTER).is_err());
        // Whoever waits for space or for others does not hang.
        start.enter(Phase::WaitingForSpace);
        assert_eq!(start.moves_on(bytes, last + HANGS_AFTER * 9), Ok(()));
    }
}
