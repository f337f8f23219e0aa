//! The net changes of the request under evaluation, over a transaction that is never committed.
//!
//! Changes are collected in memory first. They are written to the transaction only when something
//! is about to be read that they could influence: most requests never need that.

use indexmap::IndexMap;
use oxigraph::store::Transaction;
use oxrdf::{GraphName, NamedOrBlankNode, Quad};

use super::WriteError;
use super::budget::Budget;
use super::reserved;
use crate::state::{Effects, Reading, StateError, StateStatus, named, normalise_quad};

/// One quad that the request touched.
#[derive(Clone, Copy, Debug)]
struct QuadChange {
    /// It existed before the request.
    before: bool,
    /// It exists now.
    now: bool,
    /// It exists in the transaction.
    written: bool,
}

/// One named graph that the request touched.
#[derive(Clone, Copy, Debug)]
struct GraphChange {
    before: bool,
    now: bool,
    written: bool,
    /// All its quads of before are gone, those that came back were inserted again.
    dropped: bool,
}

/// A transaction and the changes of one request over it.
pub(super) struct Workspace<'a> {
    reading: Reading<'a>,
    quads: IndexMap<Quad, QuadChange>,
    graphs: IndexMap<NamedOrBlankNode, GraphChange>,
    /// Quads and graphs that may differ from the transaction.
    unwritten_quads: Vec<usize>,
    unwritten_graphs: Vec<usize>,
    default_graph_dropped: bool,
}

impl<'a> Workspace<'a> {
    pub(super) fn new(reading: Reading<'a>) -> Self {
        Self {
            reading,
            quads: IndexMap::new(),
            graphs: IndexMap::new(),
            unwritten_quads: Vec::new(),
            unwritten_graphs: Vec::new(),
            default_graph_dropped: false,
        }
    }

    /// Position, digest and the rest of the state that is read.
    pub(super) fn status(&self) -> &StateStatus {
        self.reading.status()
    }

    /// What reading the store came to: damage is noted.
    pub(super) fn noted<T>(
        &self,
        result: Result<T, impl Into<StateError>>,
    ) -> Result<T, WriteError> {
        result.map_err(|error| {
            let error = error.into();
            self.reading.note(&error);
            error.into()
        })
    }

    /// The evaluation found that something cannot be read.
    pub(super) fn note_damage(&self, what: &str) -> WriteError {
        self.reading.note_damage(what);
        WriteError::StoreDamaged
    }

    /// Whether a named graph is in the transaction.
    fn has_graph(&self, graph: &NamedOrBlankNode) -> Result<bool, WriteError> {
        self.noted(self.reading.transaction().contains_named_graph(graph))
    }

    /// The transaction with all changes so far in it.
    pub(super) fn transaction(&mut self) -> Result<&Transaction<'a>, WriteError> {
        self.write()?;
        Ok(self.reading.transaction())
    }

    /// The transaction as it was brought up to date last.
    pub(super) fn written(&self) -> &Transaction<'a> {
        self.reading.transaction()
    }

    /// The quad as the store would keep it, if the request may touch it at all.
    fn admit(quad: Quad) -> Result<Quad, WriteError> {
        reserved::check_quad(&quad)?;
        Ok(normalise_quad(quad))
    }

    /// Whether the quad, which must be in its stored form, exists now.
    fn contains(&self, quad: &Quad) -> Result<bool, WriteError> {
        match self.quads.get(quad) {
            Some(change) => Ok(change.now),
            None => self.noted(self.reading.transaction().contains(quad)),
        }
    }

    pub(super) fn graph_exists(&self, graph: &NamedOrBlankNode) -> Result<bool, WriteError> {
        match self.graphs.get(graph) {
            Some(change) => Ok(change.now),
            None => self.has_graph(graph),
        }
    }

    pub(super) fn insert(&mut self, quad: Quad, budget: &mut Budget) -> Result<(), WriteError> {
        let quad = Self::admit(quad)?;
        budget.step()?;
        if self.contains(&quad)? {
            return Ok(());
        }
        if let Some(graph) = named(&quad.graph_name) {
            self.create_graph(graph)?;
        }
        self.set(quad, true, budget)
    }

    pub(super) fn delete(&mut self, quad: Quad, budget: &mut Budget) -> Result<(), WriteError> {
        let quad = Self::admit(quad)?;
        budget.step()?;
        if !self.contains(&quad)? {
            return Ok(());
        }
        self.set(quad, false, budget)
    }

    /// Records the change of a quad that exists if and only if `now` is false.
    fn set(&mut self, quad: Quad, now: bool, budget: &mut Budget) -> Result<(), WriteError> {
        if let Some((place, _, change)) = self.quads.get_full_mut(&quad) {
            change.now = now;
            self.unwritten_quads.push(place);
            return Ok(());
        }
        budget.quad(&quad)?;
        let change = QuadChange {
            before: !now,
            now,
            written: !now,
        };
        let (place, _) = self.quads.insert_full(quad, change);
        self.unwritten_quads.push(place);
        Ok(())
    }

    fn graph_change(
        &mut self,
        graph: NamedOrBlankNode,
    ) -> Result<(usize, &mut GraphChange), WriteError> {
        let place = match self.graphs.get_index_of(&graph) {
            Some(place) => place,
            None => {
                let exists = self.has_graph(&graph)?;
                let change = GraphChange {
                    before: exists,
                    now: exists,
                    written: exists,
                    dropped: false,
                };
                self.graphs.insert_full(graph, change).0
            }
        };
        Ok((place, &mut self.graphs[place]))
    }

    /// Makes sure that the graph exists.
    pub(super) fn create_graph(&mut self, graph: NamedOrBlankNode) -> Result<(), WriteError> {
        let (place, change) = self.graph_change(graph)?;
        if !change.now {
            change.now = true;
            self.unwritten_graphs.push(place);
        }
        Ok(())
    }

    /// Takes all quads from a graph. A named graph goes on existing if it did before.
    pub(super) fn clear(
        &mut self,
        graph: &GraphName,
        budget: &mut Budget,
    ) -> Result<(), WriteError> {
        let existed = match named(graph) {
            Some(name) => self.graph_exists(&name)?,
            None => false,
        };
        self.drop_graph(graph, budget)?;
        if let Some(name) = named(graph)
            && existed
        {
            self.create_graph(name)?;
        }
        Ok(())
    }

    /// Takes all quads from a graph and ends its existence.
    pub(super) fn drop_graph(
        &mut self,
        graph: &GraphName,
        budget: &mut Budget,
    ) -> Result<(), WriteError> {
        self.write()?;
        let mut found = Vec::new();
        for quad in self
            .reading
            .quads_for_pattern(None, None, None, Some(graph.as_ref()))
        {
            let quad = quad?;
            if !self.quads.contains_key(&quad) {
                budget.quad(&quad)?;
            }
            found.push(quad);
        }
        for quad in found {
            let change = QuadChange {
                before: true,
                now: false,
                written: true,
            };
            let entry = self.quads.entry(quad);
            self.unwritten_quads.push(entry.index());
            entry
                .and_modify(|change| change.now = false)
                .or_insert(change);
        }
        match named(graph) {
            None => self.default_graph_dropped = true,
            Some(name) => {
                let (place, change) = self.graph_change(name)?;
                change.now = false;
                change.dropped = true;
                self.unwritten_graphs.push(place);
            }
        }
        Ok(())
    }

    /// All named graphs that exist now, without the reserved one.
    pub(super) fn named_graphs(&mut self) -> Result<Vec<NamedOrBlankNode>, WriteError> {
        self.write()?;
        let mut graphs = Vec::new();
        for graph in self.reading.named_graphs() {
            graphs.push(graph?);
        }
        Ok(graphs)
    }

    /// Brings the transaction up to date.
    fn write(&mut self) -> Result<(), WriteError> {
        let quads = std::mem::take(&mut self.unwritten_quads);
        let graphs = std::mem::take(&mut self.unwritten_graphs);
        for place in quads {
            if let Some((quad, change)) = self.quads.get_index_mut(place) {
                set_quad(
                    self.reading.transaction_mut(),
                    quad,
                    change.now,
                    &mut change.written,
                );
            }
        }
        for place in graphs {
            if let Some((graph, change)) = self.graphs.get_index_mut(place) {
                set_graph(
                    self.reading.transaction_mut(),
                    graph,
                    change.now,
                    &mut change.written,
                )?;
            }
        }
        Ok(())
    }

    /// Forgets the request: the transaction is as it was before it.
    pub(super) fn abandon(&mut self) -> Result<(), WriteError> {
        for (quad, change) in &mut self.quads {
            set_quad(
                self.reading.transaction_mut(),
                quad,
                change.before,
                &mut change.written,
            );
        }
        for (graph, change) in &mut self.graphs {
            // Inserting a quad makes its graph exist: what is written must be looked up.
            let transaction = self.reading.transaction_mut();
            let mut exists = transaction.contains_named_graph(graph)?;
            set_graph(transaction, graph, change.before, &mut exists)?;
        }
        self.forget();
        Ok(())
    }

    /// Ends the request and starts the next one on top of it.
    pub(super) fn finish(&mut self, another_follows: bool) -> Result<Effects, WriteError> {
        if another_follows {
            self.write()?;
        }
        let effects = self.effects();
        self.forget();
        Ok(effects)
    }

    fn forget(&mut self) {
        self.quads = IndexMap::new();
        self.graphs = IndexMap::new();
        self.unwritten_quads = Vec::new();
        self.unwritten_graphs = Vec::new();
        self.default_graph_dropped = false;
    }

    fn effects(&mut self) -> Effects {
        let mut effects = Effects::default();
        let graphs = std::mem::take(&mut self.graphs);
        let default_graph_dropped = self.default_graph_dropped;
        let dropped = |graph: &GraphName| match named(graph) {
            None => default_graph_dropped,
            Some(name) => graphs.get(&name).is_some_and(|change| change.dropped),
        };
        let mut filled = std::collections::HashSet::new();
        for (quad, change) in std::mem::take(&mut self.quads) {
            let gone_with_graph = dropped(&quad.graph_name);
            if change.now && (!change.before || gone_with_graph) {
                filled.insert(quad.graph_name.clone());
                effects.inserts.push(quad);
            } else if !change.now && change.before && !gone_with_graph {
                effects.deletes.push(quad);
            }
        }
        if default_graph_dropped {
            effects.dropped_graphs.push(GraphName::DefaultGraph);
        }
        for (graph, change) in graphs {
            let name = GraphName::from(graph.clone());
            let created = change.now && (!change.before || change.dropped);
            if change.dropped && change.before {
                effects.dropped_graphs.push(name.clone());
            }
            if created && !filled.contains(&name) {
                effects.created_graphs.push(graph);
            }
        }
        effects
    }
}

fn set_quad(transaction: &mut Transaction<'_>, quad: &Quad, wanted: bool, written: &mut bool) {
    if wanted == *written {
        return;
    }
    if wanted {
        transaction.insert(quad);
    } else {
        transaction.remove(quad);
    }
    *written = wanted;
}

fn set_graph(
    transaction: &mut Transaction<'_>,
    graph: &NamedOrBlankNode,
    wanted: bool,
    written: &mut bool,
) -> Result<(), WriteError> {
    if wanted == *written {
        return Ok(());
    }
    if wanted {
        transaction.insert_named_graph(graph);
    } else {
        transaction.remove_named_graph(graph)?;
    }
    *written = wanted;
    Ok(())
}
