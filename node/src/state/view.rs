//! Consistent views of the store for readers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use oxigraph::store::{StorageError, Store, Transaction};
use oxrdf::{
    GraphNameRef, NamedNode, NamedNodeRef, NamedOrBlankNode, NamedOrBlankNodeRef, Quad, TermRef,
};

use super::digest::QuadHasher;
use super::effects::{RESERVED, is_reserved};
use super::{Damage, Digest, StateError, StateStatus, records};

/// One folder with a RocksDB store in it, or one store in memory. Installing a snapshot makes the
/// next generation.
#[derive(Debug)]
pub(crate) struct Generation {
    // Declared first, so that the store is closed before its folder is removed.
    pub(crate) store: OpenStore,
    pub(crate) number: u64,
    /// None when the store is in memory.
    pub(crate) folder: Option<Folder>,
    statuses: RwLock<Statuses>,
    flushing: Mutex<()>,
    damage: Arc<Damage>,
}

/// What a store shows now, and what it shows once the commit that is under way is done.
#[derive(Clone, Debug)]
struct Statuses {
    current: Arc<StateStatus>,
    next: Option<Arc<StateStatus>>,
}

impl Generation {
    pub(crate) fn new(
        store: Store,
        number: u64,
        folder: Option<Folder>,
        status: StateStatus,
        damage: Arc<Damage>,
    ) -> Self {
        Self {
            store: OpenStore(store),
            number,
            folder,
            statuses: RwLock::new(Statuses {
                current: Arc::new(status),
                next: None,
            }),
            flushing: Mutex::default(),
            damage,
        }
    }

    /// Position, digest and the rest, as of the last commit.
    pub(crate) fn status(&self) -> Arc<StateStatus> {
        self.statuses().current
    }

    fn statuses(&self) -> Statuses {
        self.statuses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether no commit was begun or done since this was known.
    fn is_still(&self, known: &Statuses) -> bool {
        let now = self.statuses();
        let next = |statuses: &Statuses| statuses.next.as_ref().map(Arc::as_ptr);
        Arc::ptr_eq(&now.current, &known.current) && next(&now) == next(known)
    }

    /// Commits a transaction after which the store has this status. One thread at a time does.
    pub(crate) fn commit(
        &self,
        transaction: Transaction<'_>,
        status: Arc<StateStatus>,
    ) -> Result<(), StateError> {
        let set = |change: &dyn Fn(&mut Statuses)| {
            change(
                &mut self
                    .statuses
                    .write()
                    .unwrap_or_else(PoisonError::into_inner),
            );
        };
        // Readers that come while it is committed must know both. After a failure it is not known
        // which of them the store has: that is for the store to say.
        set(&|statuses| statuses.next = Some(Arc::clone(&status)));
        transaction.commit()?;
        set(&|statuses| {
            *statuses = Statuses {
                current: Arc::clone(&status),
                next: None,
            }
        });
        Ok(())
    }

    /// Does something in which the store writes out what it has in memory, one thread at a time: of two
    /// at once, RocksDB may let one wait until something more is written, and that may be for ever.
    pub(crate) fn flushing<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StorageError>,
    ) -> Result<T, StateError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&self.store.0)?)
    }

    /// Does something with the store, and notes when it fails because that is damaged.
    pub(crate) fn noting<T>(
        &self,
        work: impl FnOnce() -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        work().inspect_err(|error| self.damage.note(self.number, error))
    }
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

    /// Starts reading one state of the store, whatever is applied meanwhile: with the status that
    /// belongs to the snapshot, which is known from memory. The snapshot tells by one record which
    /// one that is; reading all of them would take longer with each commit since the store was
    /// last compacted.
    pub fn read(&self) -> Result<Reading<'_>, StateError> {
        let generation = &self.generation;
        generation.noting(|| {
            loop {
                let known = generation.statuses();
                let transaction = generation.store.0.start_transaction()?;
                for status in [Some(&known.current), known.next.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    if records::is_at(&transaction, status)? {
                        return Ok(Reading {
                            transaction,
                            status: Arc::clone(status),
                            generation: Some(generation),
                        });
                    }
                }
                // More than one commit was done in between: the next look is at what they left.
                // When none was, the record is not what was written.
                if generation.is_still(&known) {
                    return Err(StateError::Inconsistent(
                        "the store has no record of the entry that was applied last".into(),
                    ));
                }
            }
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
    status: Arc<StateStatus>,
    /// None while it is being opened.
    generation: Option<&'a Generation>,
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
    /// A reading of a store that is not in force yet.
    pub(crate) fn of(transaction: Transaction<'a>, status: StateStatus) -> Self {
        Self {
            transaction,
            status: Arc::new(status),
            generation: None,
        }
    }

    /// Notes that something could not be read, when that is because the store is damaged.
    pub(crate) fn note(&self, error: &StateError) {
        if let Some(generation) = self.generation {
            generation.damage.note(generation.number, error);
        }
    }

    /// As [`Self::note`], for what is known to be damage.
    pub(crate) fn note_damage(&self, what: &str) {
        if let Some(generation) = self.generation {
            generation.damage.note_what(generation.number, what);
        }
    }

    /// Items of the store up to the first that cannot be read, and that error: an iterator of
    /// Oxigraph that has failed yields its error for ever.
    fn until_failure<'b, T, E: Into<StateError> + 'b>(
        &'b self,
        items: impl Iterator<Item = Result<T, E>> + 'b,
    ) -> impl Iterator<Item = Result<T, StateError>> + 'b {
        items
            .map(|item| item.map_err(Into::into))
            .scan(false, |has_failed, item| {
                if *has_failed {
                    return None;
                }
                if let Err(error) = &item {
                    self.note(error);
                    *has_failed = true;
                }
                Some(item)
            })
    }

    /// The quads that match, up to the first failure.
    pub(crate) fn quads_for_pattern<'b>(
        &'b self,
        subject: Option<NamedOrBlankNodeRef<'b>>,
        predicate: Option<NamedNodeRef<'b>>,
        object: Option<TermRef<'b>>,
        graph: Option<GraphNameRef<'b>>,
    ) -> impl Iterator<Item = Result<Quad, StateError>> + 'b {
        self.until_failure(
            self.transaction
                .quads_for_pattern(subject, predicate, object, graph),
        )
    }

    /// Position, digest and the rest, exactly as of this state.
    pub fn status(&self) -> &StateStatus {
        &self.status
    }

    /// The transaction to evaluate queries on. It is never committed.
    pub fn transaction(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// The transaction to write to in an evaluation that is never committed.
    pub(crate) fn transaction_mut(&mut self) -> &mut Transaction<'a> {
        &mut self.transaction
    }

    /// Whether a named graph exists.
    pub(crate) fn has_named_graph(&self, graph: &NamedNode) -> Result<bool, StateError> {
        let exists = self.transaction.contains_named_graph(graph);
        exists
            .map_err(StateError::from)
            .inspect_err(|error| self.note(error))
    }

    /// All quads of the users, without the reserved graph.
    pub fn quads(&self) -> impl Iterator<Item = Result<Quad, StateError>> + '_ {
        self.until_failure(self.transaction.iter())
            .filter(|quad| !matches!(quad, Ok(quad) if is_reserved(&quad.graph_name)))
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
        self.until_failure(self.transaction.named_graphs())
            .filter(|name| {
                !matches!(name, Ok(NamedOrBlankNode::NamedNode(name)) if name.as_ref() == RESERVED)
            })
    }
}
