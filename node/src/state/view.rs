//! Consistent views of the store for readers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oxigraph::store::{Store, Transaction};
use oxrdf::{NamedOrBlankNode, Quad};

use super::digest::QuadHasher;
use super::effects::{RESERVED, is_reserved};
use super::{Digest, StateError, StateStatus, records};

/// One folder with a RocksDB store in it, or one store in memory. Installing a snapshot makes the
/// next generation.
#[derive(Debug)]
pub(crate) struct Generation {
    // Declared first, so that the store is closed before its folder is removed.
    pub(crate) store: OpenStore,
    pub(crate) number: u64,
    /// None when the store is in memory.
    pub(crate) folder: Option<Folder>,
}

/// A store, with a `Debug` that does not print its content.
pub(crate) struct OpenStore(pub(crate) Store);

impl std::fmt::Debug for OpenStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Store")
    }
}

/// The folder of a generation, removed when the last reader of a replaced generation is done.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) replaced: AtomicBool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            // Not fatal: the next start removes what is left.
            tracing::warn!(path = %self.path.display(), %error, "could not remove a replaced store");
        }
    }
}

/// The store as it is when something is read from it; cheap to clone.
///
/// Dereferences to the Oxigraph store. Everything read through it sees at least what
/// [`View::status`] says, and each single query or iteration is consistent in itself; use
/// [`View::read`] for several reads of the same state or for the exact position of what is read.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) generation: Arc<Generation>,
    pub(crate) status: Arc<StateStatus>,
}

impl View {
    /// What was known when the view was taken: the store shows this state or a later one.
    pub fn status(&self) -> &StateStatus {
        &self.status
    }

    /// Starts reading one state of the store, whatever is applied meanwhile.
    pub fn read(&self) -> Result<Reading<'_>, StateError> {
        let transaction = self.generation.store.0.start_transaction()?;
        let status = records::read_status(&transaction)?;
        Ok(Reading {
            transaction,
            status,
        })
    }
}

impl std::ops::Deref for View {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.generation.store.0
    }
}

/// One state of the store, with its exact position.
pub struct Reading<'a> {
    transaction: Transaction<'a>,
    status: StateStatus,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reading")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl<'a> Reading<'a> {
    pub(crate) fn of(transaction: Transaction<'a>, status: StateStatus) -> Self {
        Self {
            transaction,
            status,
        }
    }

    /// Position, digest and the rest, exactly as of this state.
    pub fn status(&self) -> &StateStatus {
        &self.status
    }

    /// The transaction to evaluate queries on. It is never committed.
    pub fn transaction(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// Gives the transaction away, to be written to by an evaluation that is never committed.
    pub(crate) fn into_parts(self) -> (Transaction<'a>, StateStatus) {
        (self.transaction, self.status)
    }

    /// All quads of the users, without the reserved graph.
    pub fn quads(&self) -> impl Iterator<Item = Result<Quad, StateError>> + '_ {
        self.transaction
            .iter()
            .filter(|quad| !matches!(quad, Ok(quad) if is_reserved(&quad.graph_name)))
            .map(|quad| quad.map_err(StateError::from))
    }

    /// Hands the canonical line of each quad of the users to `each`, with the number of quads so far;
    /// gives the digest and the number of them all.
    pub(crate) fn digest_lines<E: From<StateError>>(
        &self,
        mut each: impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(Digest, u64), E> {
        let mut hasher = QuadHasher::default();
        let (mut digest, mut quads) = (Digest::ZERO, 0);
        for quad in self.quads() {
            digest = digest.plus(hasher.hash(&quad?));
            quads += 1;
            each(hasher.line(), quads)?;
        }
        Ok((digest, quads))
    }

    /// All named graphs of the users, empty ones too, without the reserved graph.
    pub fn named_graphs(&self) -> impl Iterator<Item = Result<NamedOrBlankNode, StateError>> + '_ {
        self.transaction
            .named_graphs()
            .filter(|name| {
                !matches!(name, Ok(NamedOrBlankNode::NamedNode(name)) if name.as_ref() == RESERVED)
            })
            .map(|name| name.map_err(StateError::from))
    }
}
