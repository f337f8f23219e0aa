//! Stops an evaluation that Oxigraph alone would not stop in time.
//!
//! Oxigraph looks at its cancellation token whenever it reads from the store, and then yields an
//! error in place of each further quad: operators that collect their input collect those errors
//! to the end of the scan, and what only works in memory never looks. So calls of a function of
//! ours are put into the query, see [`super::points`]. When the query is to stop, that function
//! unwinds the thread's stack up to [`run`], past all operators. The token is cancelled a little
//! later, for what reads from the store without coming by a call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use oxigraph::sparql::{CancellationToken, SparqlEvaluator};
use oxrdf::{Literal, NamedNode, Term};

use super::unreadable;

/// The function that unwinds the stack when the query is to stop, and else returns a constant.
pub(super) const FUNCTION: &str = "urn:quadraft:function:continue";

/// Why an evaluation is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::sparql) enum Stop {
    TimedOut = 1,
    Disconnected = 2,
    OutOfMemory = 3,
    /// The store holds something that cannot be read.
    StoreDamaged = 4,
}

/// The switch that stops one evaluation; clones share it.
#[derive(Clone, Default)]
pub(in crate::sparql) struct Switch {
    reason: Arc<AtomicU8>,
    noticed: Arc<AtomicBool>,
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
    pub(in crate::sparql) fn stop(&self, reason: Stop) {
        let _already =
            self.reason
                .compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks Oxigraph too.
    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    pub(in crate::sparql) fn reason(&self) -> Option<Stop> {
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(Stop::TimedOut),
            2 => Some(Stop::Disconnected),
            3 => Some(Stop::OutOfMemory),
            4 => Some(Stop::StoreDamaged),
            _ => None,
        }
    }

    /// Why to stop, if the evaluation is to. From then on it is known to have noticed.
    pub(in crate::sparql) fn notice(&self) -> Option<Stop> {
        let reason = self.reason();
        if reason.is_some() {
            self.noticed.store(true, Ordering::Relaxed);
        }
        reason
    }

    /// Whether the evaluation knows that it is to stop, and is on its way to its end.
    pub(super) fn is_noticed(&self) -> bool {
        self.noticed.load(Ordering::Relaxed)
    }

    /// Unwinds the stack up to [`run`].
    pub(super) fn unwind(&self) -> ! {
        self.noticed.store(true, Ordering::Relaxed);
        // Unlike a panic this calls no hook, which would log it.
        resume_unwind(Box::new(Stopped));
    }
}

/// The panic payload of an evaluation that was stopped.
struct Stopped;

/// Why an evaluation did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sparql) enum Broken {
    /// It was stopped by its switch.
    Stopped,
    /// It panicked with this message.
    Panicked(String),
}

/// Runs an evaluation.
pub(in crate::sparql) fn run<T>(work: impl FnOnce() -> T) -> Result<T, Broken> {
    // What the closure leaves behind is dropped or, like the store, consistent at any time.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        if panic.is::<Stopped>() {
            return Broken::Stopped;
        }
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Broken::Panicked(format!("the evaluation failed: {message}"))
    })
}

/// An evaluator that knows the functions which [`super::prepare`] puts into queries.
pub(in crate::sparql) fn evaluator(switch: &Switch) -> SparqlEvaluator {
    let looked_at = switch.clone();
    // Nothing is cheaper to make and to test for truth than a short string.
    let truth = Term::from(Literal::new_simple_literal("1"));
    let evaluator = SparqlEvaluator::new()
        .with_cancellation_token(switch.token.clone())
        .with_custom_function(NamedNode::new_unchecked(FUNCTION), move |_| {
            if looked_at.reason().is_some() {
                looked_at.unwind();
            }
            Some(truth.clone())
        });
    unreadable::with_functions(evaluator, switch)
}
