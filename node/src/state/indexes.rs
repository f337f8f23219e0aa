//! Comparing the indexes of a store with each other.
//!
//! Oxigraph keeps each quad in several orders: of a named graph gspo, gpos, gosp, spog, posg and
//! ospg, of the default graph spo, pos and osp; each lies in tables of its own. Which one answers a
//! pattern follows from what is given of it. One order is gone through, and each quad of it is
//! looked up in those in which a few others lie beside it; in the orders that begin with the
//! predicate, where many may, all of each predicate are gone through and their digests summed up.

use std::collections::BTreeMap;

use oxigraph::store::{QuadIter, Store};
use oxrdf::{GraphName, NamedNode, Quad, QuadRef};

use super::digest::QuadHasher;
use super::effects::is_reserved;
use super::records;
use super::{Digest, StateError, StateStatus, named};
use crate::disk::Interrupted;

/// What a store holds, as all its orders agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) status: StateStatus,
    /// Of the users' quads.
    pub(super) digest: Digest,
    pub(super) quads: u64,
}

/// Why the orders were not compared to their end.
#[derive(Debug)]
pub(super) enum CompareFailure {
    Interrupted(Interrupted),
    State(StateError),
}

impl<E: Into<StateError>> From<E> for CompareFailure {
    fn from(error: E) -> Self {
        Self::State(error.into())
    }
}

/// The quads with one predicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    digest: Digest,
    quads: u64,
}

impl Sum {
    fn add(&mut self, hash: Digest) {
        self.digest = self.digest.plus(hash);
        self.quads += 1;
    }
}

/// Compares all orders. `each` is told the bytes of a quad as a line for each time when it is read,
/// and how many of the users' quads were gone through.
pub(super) fn compare(
    store: &Store,
    mut each: impl FnMut(u64, u64) -> Result<(), Interrupted>,
) -> Result<Compared, CompareFailure> {
    let status = records::status_of_store(store)?;
    let mut walk = Walk {
        store,
        hasher: QuadHasher::default(),
        predicates: BTreeMap::new(),
        in_graph: None,
    };
    let mut users = Sum::default();
    for quad in store {
        let quad = quad?;
        let hash = walk.look_up(&quad)?;
        if !is_reserved(&quad.graph_name) {
            users.add(hash);
        }
        let bytes = walk.hasher.line().len() as u64;
        each(bytes, users.quads).map_err(CompareFailure::Interrupted)?;
    }
    walk.end_graph()?;
    for graph in store.named_graphs() {
        let _can_be_read = graph?;
    }
    walk.compare_predicates(|bytes| each(bytes, users.quads))?;
    Ok(Compared {
        status,
        digest: users.digest,
        quads: users.quads,
    })
}

/// One walk over a store.
struct Walk<'a> {
    store: &'a Store,
    hasher: QuadHasher,
    predicates: BTreeMap<String, Sum>,
    /// The graph that is gone through, and what it has of each predicate.
    in_graph: Option<(GraphName, BTreeMap<String, Sum>)>,
}

impl Walk<'_> {
    /// Looks a quad up in the other orders and counts it; gives its hash.
    fn look_up(&mut self, quad: &Quad) -> Result<Digest, CompareFailure> {
        let QuadRef {
            subject,
            predicate,
            object,
            graph_name,
        } = quad.as_ref();
        let (s, p, o, g) = (
            Some(subject),
            Some(predicate),
            Some(object),
            Some(graph_name),
        );
        for (order, mut found) in [
            // spog or spo, ospg or osp, and gosp.
            ("subject", self.store.quads_for_pattern(s, p, o, None)),
            ("object", self.store.quads_for_pattern(s, None, o, None)),
            ("graph", self.store.quads_for_pattern(s, None, o, g)),
        ] {
            if !contains(&mut found, quad)? {
                return Err(missing(order, quad).into());
            }
        }
        let hash = self.hasher.hash(quad);
        if self
            .in_graph
            .as_ref()
            .is_none_or(|(graph, _)| *graph != quad.graph_name)
        {
            self.end_graph()?;
            self.in_graph = Some((quad.graph_name.clone(), BTreeMap::new()));
        }
        let predicate = predicate.as_str();
        let in_graph = self.in_graph.as_mut().map(|(_, sums)| sums);
        for sums in in_graph.into_iter().chain([&mut self.predicates]) {
            match sums.get_mut(predicate) {
                Some(sum) => sum.add(hash),
                None => {
                    let mut sum = Sum::default();
                    sum.add(hash);
                    sums.insert(predicate.to_owned(), sum);
                }
            }
        }
        Ok(hash)
    }

    /// Compares the order of a graph by predicates with what was gone through: gpos or pos.
    fn end_graph(&mut self) -> Result<(), CompareFailure> {
        let Some((graph, sums)) = self.in_graph.take() else {
            return Ok(());
        };
        if let Some(name) = named(&graph)
            && !self.store.contains_named_graph(&name)?
        {
            let what = format!("the graph {name} has quads and does not exist");
            return Err(StateError::Inconsistent(what).into());
        }
        for (predicate, expected) in sums {
            let node = NamedNode::new_unchecked(predicate.as_str());
            let quads =
                self.store
                    .quads_for_pattern(None, Some(node.as_ref()), None, Some(graph.as_ref()));
            if self.sum(quads, &mut |_| Ok(()))? != expected {
                return Err(different(&predicate).into());
            }
        }
        Ok(())
    }

    /// Compares the order of everything by predicates: posg and pos.
    fn compare_predicates(
        &mut self,
        mut each: impl FnMut(u64) -> Result<(), Interrupted>,
    ) -> Result<(), CompareFailure> {
        for (predicate, expected) in std::mem::take(&mut self.predicates) {
            let node = NamedNode::new_unchecked(predicate.as_str());
            let quads = self
                .store
                .quads_for_pattern(None, Some(node.as_ref()), None, None);
            if self.sum(quads, &mut each)? != expected {
                return Err(different(&predicate).into());
            }
        }
        Ok(())
    }

    fn sum(
        &mut self,
        quads: QuadIter<'_>,
        each: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
    ) -> Result<Sum, CompareFailure> {
        let mut sum = Sum::default();
        for quad in quads {
            sum.add(self.hasher.hash(&quad?));
            let bytes = self.hasher.line().len() as u64;
            each(bytes).map_err(CompareFailure::Interrupted)?;
        }
        Ok(sum)
    }
}

fn contains(found: &mut QuadIter<'_>, wanted: &Quad) -> Result<bool, StateError> {
    for quad in found {
        if quad? == *wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn missing(order: &str, quad: &Quad) -> StateError {
    StateError::Inconsistent(format!("{quad} is missing where quads lie by {order}"))
}

fn different(predicate: &str) -> StateError {
    StateError::Inconsistent(format!(
        "where quads lie by predicate, others have <{predicate}> than elsewhere"
    ))
}
