//! Watches over one running evaluation and stops it when its time or memory is over.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::guard::{Stop, Switch};
use super::memory;

/// How long a stopped evaluation may take to notice before Oxigraph's own token is cancelled.
const GRACE: Duration = Duration::from_millis(200);
/// How often the memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(50);

/// What one evaluation may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) deadline: Option<Instant>,
    /// How much the process may grow while this evaluation runs.
    pub(super) maximum_growth_bytes: u64,
}

/// Starts the watch. It ends when the evaluation drops the returned sender.
pub(super) fn watch(switch: Switch, allowance: Allowance) -> oneshot::Sender<()> {
    let (running, mut ended) = oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! {
            _ = &mut ended => return,
            () = switch.stopped() => {}
            () = deadline(allowance.deadline) => switch.stop(Stop::TimedOut),
            () = growth(allowance.maximum_growth_bytes) => switch.stop(Stop::OutOfMemory),
        }
        tokio::select! {
            _ = ended => {}
            () = sleep(GRACE) => switch.cancel(),
        }
    });
    running
}

async fn deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits until the process has grown by more than the bound. What an earlier evaluation used is
/// part of the base, because allocators keep what was freed for later.
async fn growth(maximum_bytes: u64) {
    let Some(base) = memory::resident_bytes() else {
        return std::future::pending().await;
    };
    let bound = base.saturating_add(maximum_bytes);
    loop {
        sleep(MEMORY_LOOK).await;
        if memory::resident_bytes().is_some_and(|bytes| bytes > bound) {
            return;
        }
    }
}
