//! An operator that dies again and again while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Kubectl, KubectlError};

/// Kills the operator once.
///
/// # Errors
/// When kubectl fails.
pub async fn kill_operator() -> Result<(), KubectlError> {
    Kubectl::new("quadraft-system")
        .run(&[
            "delete",
            "pods",
            "--selector=app.kubernetes.io/name=quadraft-operator",
            "--grace-period=0",
            "--force",
        ])
        .await
        .map(|_| ())
}

/// Kills the operator again and again until it is dropped. Another takes its place when the Lease of the
/// one before it has run out, after 15 s.
#[derive(Debug)]
pub struct OperatorKiller {
    stop: Arc<AtomicBool>,
}

impl OperatorKiller {
    /// Kills it at once, and then every `period`.
    #[must_use]
    pub fn start(period: Duration) -> Self {
        let killer = Self {
            stop: Arc::default(),
        };
        let stop = killer.stop.clone();
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let _ = kill_operator().await;
                tokio::time::sleep(period).await;
            }
        });
        killer
    }
}

impl Drop for OperatorKiller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
