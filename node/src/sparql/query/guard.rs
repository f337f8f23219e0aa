//! Stops an evaluation that Oxigraph alone would not stop in time.
//!
//! Oxigraph looks at its cancellation token whenever it reads from the store, and then yields an
//! error in place of each further quad: operators that collect their input collect those errors
//! to the end of the scan, and what only works in memory never looks. So calls of a function of
//! ours are put into the query, see [`super::shield`]. When the query is to stop, that function
//! unwinds the thread's stack up to [`run`], past all operators. The token is cancelled a little
//! later, for what reads from the store without coming by a call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use oxigraph::sparql::{CancellationToken, SparqlEvaluator};
use oxrdf::{Literal, NamedNode, Term};
use tokio::sync::Notify;

use super::QueryError;

/// The function that unwinds the stack when the query is to stop, and else returns a constant.
pub(super) const FUNCTION: &str = "urn:quadraft:function:continue";

/// Why an evaluation is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stop {
    TimedOut = 1,
    Disconnected = 2,
    OutOfMemory = 3,
}

/// The switch that stops one evaluation; clones share it.
#[derive(Clone, Default)]
pub(super) struct Switch {
    reason: Arc<AtomicU8>,
    stopped: Arc<Notify>,
    token: CancellationToken,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Switch")
            .field(&self.reason())
            .finish()
    }
}

impl Switch {
    /// Asks the evaluation to stop. The first reason counts.
    pub(super) fn stop(&self, reason: Stop) {
        let _already =
            self.reason
                .compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
        self.stopped.notify_one();
    }

    /// Waits until the evaluation was asked to stop. One waits at a time.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Asks Oxigraph too.
    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    pub(super) fn reason(&self) -> Option<Stop> {
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(Stop::TimedOut),
            2 => Some(Stop::Disconnected),
            3 => Some(Stop::OutOfMemory),
            _ => None,
        }
    }
}

/// The panic payload of an evaluation that was stopped.
struct Stopped;

/// Runs an evaluation. `Err(None)` means that it was stopped.
pub(super) fn run<T>(work: impl FnOnce() -> T) -> Result<T, Option<QueryError>> {
    // What the closure leaves behind is dropped or, like the store, consistent at any time.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        if panic.is::<Stopped>() {
            return None;
        }
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Some(QueryError::Internal(format!(
            "the evaluation failed: {message}"
        )))
    })
}

/// An evaluator that knows [`FUNCTION`].
pub(super) fn evaluator(switch: &Switch) -> SparqlEvaluator {
    let looked_at = switch.clone();
    // Nothing is cheaper to make and to test for truth than a short string.
    let truth = Term::from(Literal::new_simple_literal("1"));
    SparqlEvaluator::new()
        .with_cancellation_token(switch.token.clone())
        .with_custom_function(NamedNode::new_unchecked(FUNCTION), move |_| {
            if looked_at.reason().is_some() {
                // Unlike a panic this calls no hook, which would log it.
                resume_unwind(Box::new(Stopped));
            }
            Some(truth.clone())
        })
}
