//! The only one that writes to the log and the vote.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::view::{View, lock};
use super::{Completion, StoreFailure};
use crate::describe::describe;
use crate::identity::{StoredVote, SuperblockFile, VoteFile};
use crate::log::error::LogError;
use crate::log::files::LogFiles;
use crate::log::layout::RecordKind;
use crate::log::open::OpenedLog;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

/// Records written and synced together.
const MAXIMUM_BATCH_RECORDS: usize = 4096;
const MAXIMUM_BATCH_BYTES: usize = 32 * 1024 * 1024;
/// When nothing was written for so long, the mark of what is flushed is made durable by itself.
const IDLE: Duration = Duration::from_millis(20);

/// What the queue holds.
pub(super) enum Operation {
    Append(Vec<(LogPosition, Bytes)>, Completion),
    TruncateAfter(Option<u64>, Completion),
    Purge(LogPosition, Completion),
    Committed(LogPosition),
    Vote(StoredVote, Completion),
    Alone(Work),
    /// What had to wait for space is tried again.
    TryAgain,
}

/// What the writer's thread does between two batches.
pub(super) type Work = Box<dyn FnOnce(&mut Alone<'_>) -> Result<(), StoreFailure> + Send>;

/// The files, while nobody writes to them.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    pub(crate) files: &'a mut LogFiles,
    pub(crate) vote: &'a mut VoteFile,
    pub(crate) superblock: &'a Mutex<SuperblockFile>,
}

/// The thread's side: the only one that writes.
pub(super) struct Writer {
    pub(super) view: Arc<Mutex<View>>,
    pub(super) files: LogFiles,
    vote: VoteFile,
    superblock: Arc<Mutex<SuperblockFile>>,
    pub(super) failed: watch::Sender<bool>,
    pub(super) durable: watch::Sender<Option<LogPosition>>,
    /// Records for which there was no space, and what came after them: order is kept.
    parked: Option<Parked>,
}

/// What waits for space.
struct Parked {
    batch: Batch,
    behind: VecDeque<Operation>,
}

/// Records that are written and synced together.
#[derive(Default)]
struct Batch {
    records: Vec<(RecordKind, LogPosition, Bytes)>,
    bytes: usize,
    completions: Vec<Completion>,
    purge: Option<LogPosition>,
    /// The newest committed position, written once at the end of the batch.
    committed: Option<LogPosition>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.records.len() >= MAXIMUM_BATCH_RECORDS || self.bytes >= MAXIMUM_BATCH_BYTES
    }

    fn push(&mut self, kind: RecordKind, position: LogPosition, payload: Bytes) {
        self.bytes += payload.len();
        self.records.push((kind, position, payload));
    }
}

impl Writer {
    pub(super) fn new(
        mut opened: OpenedLog,
        vote: VoteFile,
        superblock: Arc<Mutex<SuperblockFile>>,
    ) -> Self {
        {
            let superblock = superblock.lock().unwrap_or_else(PoisonError::into_inner);
            let superblock = superblock.current();
            opened
                .files
                .set_writer(superblock.cluster_uuid, superblock.boot_count);
        }
        let durable = watch::Sender::new(opened.contents.last());
        let view = Arc::new(Mutex::new(View::new(opened.contents, vote.current())));
        Self {
            view,
            files: opened.files,
            vote,
            superblock,
            failed: watch::Sender::new(false),
            durable,
            parked: None,
        }
    }

    /// Puts an operation behind what waits for space, and tries again when it says so. `None` when
    /// it was dealt with.
    fn queue_behind(&mut self, operation: Operation) -> Option<Operation> {
        let Some(parked) = &mut self.parked else {
            return Some(operation);
        };
        if !matches!(operation, Operation::TryAgain) {
            parked.behind.push_back(operation);
            return None;
        }
        let Parked { mut batch, behind } = self.parked.take()?;
        self.flush(&mut batch);
        for operation in behind {
            self.run_one(operation);
        }
        None
    }

    /// Does one operation by itself.
    pub(super) fn run_one(&mut self, operation: Operation) {
        let Some(operation) = self.queue_behind(operation) else {
            return;
        };
        let mut batch = Batch::default();
        match operation {
            Operation::Vote(vote, completion) => {
                let result = self.save_vote(vote);
                completion(self.settle(result));
            }
            Operation::Alone(work) => self.work_alone(work),
            Operation::Committed(position) => {
                batch.push(RecordKind::Committed, position, Bytes::new());
            }
            Operation::TryAgain => self.files.retry_preparation(),
            operation => Self::collect(operation, &mut batch),
        }
        self.flush(&mut batch);
        self.flush_mark();
    }

    pub(super) fn run(&mut self, operations: &Receiver<Operation>) {
        let mut batch = Batch::default();
        loop {
            let operation = if batch.records.is_empty() && batch.completions.is_empty() {
                match operations.recv_timeout(IDLE) {
                    Ok(operation) => Some(operation),
                    Err(RecvTimeoutError::Timeout) => {
                        self.flush_mark();
                        match operations.recv() {
                            Ok(operation) => Some(operation),
                            Err(_) => break,
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                operations.try_recv().ok()
            };
            let operation = match operation {
                Some(operation) => match self.queue_behind(operation) {
                    Some(operation) => Some(operation),
                    None => continue,
                },
                None => None,
            };
            let flush = match operation {
                Some(Operation::Vote(vote, completion)) => {
                    self.flush(&mut batch);
                    match self.parked.as_mut() {
                        // What comes before it waits for space.
                        Some(parked) => parked.behind.push_back(Operation::Vote(vote, completion)),
                        None => {
                            let result = self.save_vote(vote);
                            completion(self.settle(result));
                        }
                    }
                    false
                }
                Some(Operation::Alone(work)) => {
                    self.flush(&mut batch);
                    self.work_alone(work);
                    false
                }
                Some(Operation::TryAgain) => {
                    self.files.retry_preparation();
                    true
                }
                Some(operation) => {
                    Self::collect(operation, &mut batch);
                    batch.is_full()
                }
                None => true,
            };
            if flush {
                self.flush(&mut batch);
                self.prepare_next();
            }
        }
        self.flush(&mut batch);
        self.flush_mark();
    }

    fn prepare_next(&mut self) {
        match self.files.prepare_next() {
            Ok(()) => {}
            // Then it is made when there is space, or when it is needed.
            Err(error) if crate::disk::is_out_of_space(&error) => {
                tracing::warn!(%error, "space for the log is not made ahead");
            }
            Err(error) => fail(&self.view, &self.failed, &describe(&error)),
        }
    }

    fn flush_mark(&mut self) {
        lock(&self.view).note_durable();
        let result = self
            .check_alive()
            .and_then(|()| Ok(self.files.flush_mark()?));
        // Whoever comes next is told.
        let _ = self.settle(result);
    }

    fn collect(operation: Operation, batch: &mut Batch) {
        match operation {
            Operation::Append(entries, completion) => {
                for (position, payload) in entries {
                    batch.push(RecordKind::Entry, position, payload);
                }
                batch.completions.push(completion);
            }
            Operation::TruncateAfter(keep, completion) => {
                // Stored as the first index to void, so that "everything" is zero.
                let index = keep.map_or(0, |keep| keep + 1);
                batch.push(
                    RecordKind::TruncateAfter,
                    LogPosition { term: 0, index },
                    Bytes::new(),
                );
                batch.completions.push(completion);
            }
            Operation::Purge(position, completion) => {
                batch.push(RecordKind::Purged, position, Bytes::new());
                batch.purge = batch.purge.max(Some(position));
                batch.completions.push(completion);
            }
            Operation::Committed(position) => batch.committed = batch.committed.max(Some(position)),
            Operation::Vote(..) | Operation::Alone(_) | Operation::TryAgain => {}
        }
    }

    fn work_alone(&mut self, work: Work) {
        let result = self.check_alive().and_then(|()| {
            work(&mut Alone {
                files: &mut self.files,
                vote: &mut self.vote,
                superblock: &self.superblock,
            })
        });
        // Whoever waits is told by the end of the channel.
        let _ = self.settle(result);
    }

    fn flush(&mut self, batch: &mut Batch) {
        if batch.records.is_empty() && batch.completions.is_empty() {
            return;
        }
        let batch = std::mem::take(batch);
        let result = self.write(&batch);
        if let Err(StoreFailure::Log(error)) = &result
            && error.is_out_of_space()
        {
            tracing::warn!(error = %describe(error), "the log waits for space on the disk");
            lock(&self.view).waits_for_space = true;
            self.parked = Some(Parked {
                batch,
                behind: VecDeque::new(),
            });
            return;
        }
        lock(&self.view).waits_for_space = false;
        let result = self.settle(result);
        for completion in batch.completions {
            completion(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    /// Remembers the first failure: what is durable after it is unknown, so nothing may follow.
    fn settle(&self, result: Result<(), StoreFailure>) -> Result<(), io::Error> {
        let Err(failure) = result else {
            return Ok(());
        };
        let text = describe(&failure);
        if failure.is_disk_failure() {
            fail(&self.view, &self.failed, &text);
        }
        Err(io::Error::other(text))
    }

    fn check_alive(&self) -> Result<(), StoreFailure> {
        match &lock(&self.view).failure {
            None => Ok(()),
            Some(text) => Err(stopped(text, &self.files.folder).into()),
        }
    }

    /// The superblock says that promises exist before the first one does, and log and vote exist
    /// before the superblock says so: from then on the absence of any is known to be a loss.
    fn mark_promised(&mut self) -> Result<(), StoreFailure> {
        let mut superblock = self
            .superblock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if superblock.current().made_promises || is_planted(Bug::PromisesNotMarked) {
            return Ok(());
        }
        if is_planted(Bug::PromisesMarkedFirst) {
            superblock.update(|superblock| superblock.made_promises = true)?;
        }
        self.files.begin(&lock(&self.view).contents.clone_ends())?;
        self.vote.begin()?;
        Ok(superblock.update(|superblock| superblock.made_promises = true)?)
    }

    fn save_vote(&mut self, vote: StoredVote) -> Result<(), StoreFailure> {
        self.check_alive()?;
        self.mark_promised()?;
        self.vote.save(vote)?;
        lock(&self.view).vote = Some(vote);
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreFailure> {
        self.check_alive()?;
        self.mark_promised()?;
        let mut records: Vec<(RecordKind, LogPosition, &[u8])> = batch
            .records
            .iter()
            .map(|(kind, position, payload)| (*kind, *position, payload.as_ref()))
            .collect();
        if let Some(committed) = batch.committed {
            records.push((RecordKind::Committed, committed, &[]));
        }
        if is_planted(Bug::RemovedBeforePurge)
            && let Some(purged) = batch.purge
        {
            self.files.remove_purged(purged)?;
        }
        let contents = lock(&self.view).contents.clone_ends();
        let locations = self.files.append(&records, &contents)?;
        {
            let mut view = lock(&self.view);
            for ((kind, _, _), location) in records.iter().zip(locations) {
                view.contents
                    .apply(*kind, location)
                    .map_err(LogError::from)?;
            }
            self.durable.send_replace(view.note_written());
            debug_assert!(view.contents.validate_ends().is_ok());
        }
        if let Some(purged) = batch.purge {
            self.files.remove_purged(purged)?;
        }
        Ok(())
    }
}

/// What everybody is told once the disk has failed.
pub(super) fn stopped(failure: &str, folder: &Path) -> LogError {
    let source = io::Error::other(failure.to_owned());
    LogError::io("go on writing to", folder, source)
}

/// Remembers the first failure of the disk: nothing may follow.
pub(super) fn fail(view: &Mutex<View>, failed: &watch::Sender<bool>, error: &str) {
    tracing::error!(error, "the disk failed; the log stops");
    lock(view).failure.get_or_insert_with(|| error.to_owned());
    failed.send_replace(true);
}
