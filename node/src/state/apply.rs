//! Applying effects to the store.

use std::collections::HashSet;

use oxigraph::store::{StorageError, Transaction};
use oxrdf::{GraphName, GraphNameRef, NamedOrBlankNode, Quad};

use super::digest::QuadHasher;
use super::effects::{Command, Effects};
use super::normalise::normalise_quad;
use super::request::{
    MAXIMUM_REQUESTS_AN_ENTRY, REMEMBERED_REQUESTS, RequestId, RequestKey, RequestOutcome,
    RequestPlace, RequestTable,
};
use super::{LogPosition, StateError, StateStatus};
use crate::planted::{Bug, is_planted};

/// What one log entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A new membership of the cluster, opaque here.
    Membership(Vec<u8>),
    /// Changes of data.
    Command(Command),
}

/// What became of one log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to change in the data.
    Nothing,
    /// The command was applied; one outcome for each of its requests.
    Applied(Vec<RequestOutcome>),
    /// The command had been evaluated on another state and changed nothing.
    Conflict,
}

/// Quads of a dropped graph are removed in batches of this size.
const DROP_BATCH_QUADS: usize = 100_000;

/// A batch of entries on its way into one store transaction.
pub(crate) struct Batch<'a, 'b> {
    transaction: &'a mut Transaction<'b>,
    known_requests: &'a RequestTable,
    pub(crate) status: StateStatus,
    pub(crate) added_requests: Vec<(RequestId, RequestPlace)>,
    /// What differs from `known_requests`: keys that entered the table, keys that left it.
    entered: HashSet<RequestKey>,
    left: HashSet<RequestKey>,
    left_count: usize,
    /// Quads inserted and removed.
    pub(crate) changed_quads: u64,
    hasher: QuadHasher,
}

impl<'a, 'b> Batch<'a, 'b> {
    pub(crate) fn new(
        transaction: &'a mut Transaction<'b>,
        known_requests: &'a RequestTable,
        status: StateStatus,
    ) -> Self {
        Self {
            transaction,
            known_requests,
            status,
            added_requests: Vec::new(),
            entered: HashSet::new(),
            left: HashSet::new(),
            left_count: 0,
            changed_quads: 0,
            hasher: QuadHasher::default(),
        }
    }

    /// Applies the entry that follows the last applied one.
    pub(crate) fn apply(
        &mut self,
        position: LogPosition,
        entry: &Apply,
    ) -> Result<Outcome, StateError> {
        if !follows(self.status.applied, position) {
            return Err(StateError::OutOfOrder {
                entry: position,
                applied: self.status.applied,
            });
        }
        let outcome = match entry {
            Apply::Blank => Outcome::Nothing,
            Apply::Membership(membership) => {
                self.status.membership = Some(membership.clone());
                Outcome::Nothing
            }
            Apply::Command(command) => self.command(position.index, command)?,
        };
        self.status.applied = Some(position);
        Ok(outcome)
    }

    fn command(&mut self, index: u64, command: &Command) -> Result<Outcome, StateError> {
        if !self.fits(command) {
            return Ok(Outcome::Conflict);
        }
        // All requests get their places before anything changes: a place that cannot be given
        // makes the whole command a conflict.
        let Some(places) = (0..command.requests.len())
            .map(|place| RequestPlace::new(index, place))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(Outcome::Conflict);
        };
        let mut outcomes = Vec::with_capacity(places.len());
        for ((id, effects), place) in command.requests.iter().zip(places) {
            self.effects(effects)?;
            self.entered.insert(id.key());
            self.added_requests.push((*id, place));
            outcomes.push(RequestOutcome {
                log_index: index,
                duplicate: false,
            });
        }
        self.let_oldest_leave();
        self.status.data_index = index;
        Ok(Outcome::Applied(outcomes))
    }

    /// Whether the command was evaluated on this very state and is one that a leader may propose.
    /// Every replica must come to the same answer.
    fn fits(&self, command: &Command) -> bool {
        let mut keys = HashSet::new();
        command.base_index == self.status.data_index
            && command.requests.len() <= MAXIMUM_REQUESTS_AN_ENTRY
            && command.requests.iter().all(|(id, effects)| {
                keys.insert(id.key())
                    && !self.remembers(id.key())
                    && !effects.touch_reserved_graph()
            })
    }

    /// Whether the table, as it is at this entry, has a request with this key.
    fn remembers(&self, key: RequestKey) -> bool {
        self.entered.contains(&key)
            || (self.known_requests.get(key).is_some() && !self.left.contains(&key))
    }

    /// Requests leave after each command as they would if it were applied alone: what is a
    /// duplicate must not depend on how entries are batched.
    fn let_oldest_leave(&mut self) {
        let known = self.known_requests.len();
        let excess = (known + self.added_requests.len()).saturating_sub(REMEMBERED_REQUESTS);
        self.left.extend(
            self.known_requests
                .ids(self.left_count..excess.min(known))
                .map(RequestId::key),
        );
        for place in self.left_count.max(known)..excess {
            self.entered
                .remove(&self.added_requests[place - known].0.key());
        }
        self.left_count = self.left_count.max(excess);
    }

    fn effects(&mut self, effects: &Effects) -> Result<(), StorageError> {
        for quad in &effects.deletes {
            self.delete(&normalise_quad(quad.clone()))?;
        }
        for graph in &effects.dropped_graphs {
            self.drop_graph(graph)?;
        }
        for graph in &effects.created_graphs {
            self.transaction.insert_named_graph(graph);
        }
        for quad in &effects.inserts {
            self.insert(&normalise_quad(quad.clone()))?;
        }
        Ok(())
    }

    fn insert(&mut self, quad: &Quad) -> Result<(), StorageError> {
        if !self.transaction.contains(quad)? {
            self.transaction.insert(quad);
            self.status.digest = self.status.digest.plus(self.hasher.hash(quad));
            self.status.quads += 1;
            self.changed_quads += 1;
        }
        Ok(())
    }

    fn delete(&mut self, quad: &Quad) -> Result<(), StorageError> {
        if self.transaction.contains(quad)? {
            self.remove(quad);
        }
        Ok(())
    }

    fn remove(&mut self, quad: &Quad) {
        self.transaction.remove(quad);
        self.status.digest = self.status.digest.minus(self.hasher.hash(quad));
        self.status.quads -= 1;
        self.changed_quads += 1;
    }

    fn drop_graph(&mut self, graph: &GraphName) -> Result<(), StorageError> {
        loop {
            let quads = self
                .transaction
                .quads_for_pattern(None, None, None, Some(graph.as_ref()))
                .take(DROP_BATCH_QUADS)
                .collect::<Result<Vec<_>, _>>()?;
            for quad in &quads {
                self.remove(quad);
            }
            if quads.len() < DROP_BATCH_QUADS {
                break;
            }
        }
        match graph.as_ref() {
            GraphNameRef::NamedNode(name) => self.transaction.remove_named_graph(name),
            GraphNameRef::BlankNode(name) => self.transaction.remove_named_graph(name),
            GraphNameRef::DefaultGraph => Ok(()),
        }
    }
}

/// The log has no gaps. Only the first entry of all may have any index.
fn follows(applied: Option<LogPosition>, next: LogPosition) -> bool {
    if is_planted(Bug::AppliedTwice) {
        return true;
    }
    applied.is_none_or(|applied| next.index == applied.index + 1 && next.term >= applied.term)
}

/// The graph as something that exists by itself: the default graph always does.
pub(crate) fn named(graph: &GraphName) -> Option<NamedOrBlankNode> {
    match graph {
        GraphName::NamedNode(node) => Some(node.clone().into()),
        GraphName::BlankNode(node) => Some(node.clone().into()),
        GraphName::DefaultGraph => None,
    }
}
