//! What one request may use: time, quads, bytes.

use std::time::{Duration, Instant};

use oxrdf::{Quad, Term};

use super::WriteError;
use crate::sparql::evaluation::{Allowance, Stop, Switch, Watch, watch};

/// The limits of each request of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationLimits {
    /// The most quads that a request may touch. Quads of a dropped graph count.
    pub maximum_effect_quads: usize,
    /// About the most bytes that the touched quads may have.
    pub maximum_effect_bytes: usize,
    /// The longest time that the evaluation may take.
    pub timeout: Duration,
    /// How much the process may grow while the evaluation runs, before it is stopped.
    pub maximum_growth_bytes: u64,
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self {
            maximum_effect_quads: 1_000_000,
            maximum_effect_bytes: 256 << 20,
            timeout: Duration::from_secs(10),
            maximum_growth_bytes: 1 << 30,
        }
    }
}

/// What is left for one request.
#[derive(Clone)]
pub(super) struct Budget {
    limits: EvaluationLimits,
    switch: Switch,
    deadline: Instant,
    quads: usize,
    bytes: usize,
    steps: usize,
}

/// The clock is read once in so many steps.
const STEPS_A_LOOK: usize = 256;

impl Budget {
    pub(super) fn new(limits: EvaluationLimits) -> Self {
        let now = Instant::now();
        Self {
            limits,
            switch: Switch::default(),
            // A timeout beyond what the clock can say is as good as an hour.
            deadline: now
                .checked_add(limits.timeout)
                .unwrap_or(now + Duration::from_secs(3600)),
            quads: 0,
            bytes: 0,
            steps: 0,
        }
    }

    /// The same limits and the same deadline, with nothing used yet.
    pub(super) fn another(&self) -> Self {
        Self {
            quads: 0,
            bytes: 0,
            steps: 0,
            ..self.clone()
        }
    }

    /// The switch that stops the evaluation.
    pub(super) fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Has the evaluation stopped when its time or memory is over, for as long as what is returned
    /// lives.
    pub(super) fn watch(&self) -> Watch {
        let allowance = Allowance {
            deadline: Some(self.deadline),
            maximum_growth_bytes: self.limits.maximum_growth_bytes,
        };
        watch(&self.switch, allowance)
    }

    /// What an evaluation that was stopped is answered.
    pub(super) fn stopped(&self) -> WriteError {
        match self.switch.notice() {
            Some(Stop::OutOfMemory) => WriteError::OutOfMemory,
            Some(Stop::StoreDamaged) => WriteError::StoreDamaged,
            Some(Stop::TimedOut | Stop::Disconnected) | None => WriteError::TimedOut {
                timeout_ms: u64::try_from(self.limits.timeout.as_millis()).unwrap_or(u64::MAX),
            },
        }
    }

    /// Notices that the evaluation is to stop, without looking each time.
    pub(super) fn step(&mut self) -> Result<(), WriteError> {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_A_LOOK) {
            return self.look();
        }
        Ok(())
    }

    /// Notices that the evaluation is to stop.
    pub(super) fn look(&self) -> Result<(), WriteError> {
        if self.switch.reason().is_some() || Instant::now() >= self.deadline {
            return Err(self.stopped());
        }
        Ok(())
    }

    /// Takes account of a quad that is kept in memory because of this request.
    pub(super) fn quad(&mut self, quad: &Quad) -> Result<(), WriteError> {
        self.step()?;
        self.quads += 1;
        self.bytes += size(quad);
        if self.quads > self.limits.maximum_effect_quads {
            return Err(WriteError::TooLarge {
                message: format!(
                    "it changes more than {} statements",
                    self.limits.maximum_effect_quads
                ),
            });
        }
        if self.bytes > self.limits.maximum_effect_bytes {
            return Err(WriteError::TooLarge {
                message: format!(
                    "the statements it changes have more than {} bytes",
                    self.limits.maximum_effect_bytes
                ),
            });
        }
        Ok(())
    }
}

/// About the bytes that a quad takes in an entry.
fn size(quad: &Quad) -> usize {
    const TAGS: usize = 8;
    let subject = match &quad.subject {
        oxrdf::NamedOrBlankNode::NamedNode(node) => node.as_str().len(),
        oxrdf::NamedOrBlankNode::BlankNode(node) => node.as_str().len(),
    };
    let object = match &quad.object {
        Term::NamedNode(node) => node.as_str().len(),
        Term::BlankNode(node) => node.as_str().len(),
        Term::Literal(literal) => {
            literal.value().len()
                + literal.language().map_or(0, str::len)
                + literal.datatype().as_str().len()
        }
    };
    let graph = match &quad.graph_name {
        oxrdf::GraphName::NamedNode(node) => node.as_str().len(),
        oxrdf::GraphName::BlankNode(node) => node.as_str().len(),
        oxrdf::GraphName::DefaultGraph => 0,
    };
    TAGS + subject + quad.predicate.as_str().len() + object + graph
}
