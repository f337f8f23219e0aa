//! One ordered queue in front of the disk.
//!
//! Votes, appends, truncations and purges go through one queue to one thread, so that a completed
//! operation means that everything queued before it is durable too. What is waiting when the
//! thread comes back from an fsync is written together with the next one. Entries can be read as
//! soon as they are queued; they are acknowledged only when they are durable.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::contents::{EntryLocation, LogContents};
use super::error::LogError;
use super::files::LogFiles;
use super::layout::RecordKind;
use super::open::OpenedLog;
use super::segment::SegmentReaders;
use crate::identity::{IdentityError, StoredVote, SuperblockFile, VoteError, VoteFile};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

/// Entries kept in memory behind those that still wait for the disk.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Records written and synced together.
const MAXIMUM_BATCH_RECORDS: usize = 4096;
const MAXIMUM_BATCH_BYTES: usize = 32 * 1024 * 1024;
/// When nothing was written for so long, the mark of what is flushed is made durable by itself.
const IDLE: Duration = Duration::from_millis(20);

/// Called once the operation, and every one before it, is durable or has failed.
pub type Completion = Box<dyn FnOnce(Result<(), io::Error>) + Send>;

/// Why an operation on the log failed. After the first failure of the disk none succeeds.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Vote(#[from] VoteError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl StoreFailure {
    /// Whether the disk itself failed, rather than what was asked of it.
    #[must_use]
    pub fn is_disk_failure(&self) -> bool {
        !matches!(
            self,
            Self::Vote(VoteError::Backwards { .. })
                | Self::Log(LogError::Inconsistent(_) | LogError::TooLarge { .. })
        )
    }
}

enum Operation {
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
type Work = Box<dyn FnOnce(&mut Alone<'_>) -> Result<(), StoreFailure> + Send>;

/// The files, while nobody writes to them.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    pub(crate) files: &'a mut LogFiles,
    pub(crate) vote: &'a mut VoteFile,
    pub(crate) superblock: &'a Mutex<SuperblockFile>,
}

/// The log as its readers see it: with what is queued already in place.
struct View {
    /// What is on the disk.
    contents: LogContents,
    /// The newest entries, consecutive, among them all that are not on the disk yet.
    cache: VecDeque<(LogPosition, Bytes)>,
    cache_bytes: usize,
    /// Entries from the front of the cache that are on the disk already.
    written: usize,
    last: Option<LogPosition>,
    purged: Option<LogPosition>,
    committed: Option<LogPosition>,
    durable_committed_index: Option<u64>,
    vote: Option<StoredVote>,
    failure: Option<String>,
    /// Something waits because there is no room for it on the disk.
    waits_for_space: bool,
}

/// The ends of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    pub last: Option<LogPosition>,
    pub purged: Option<LogPosition>,
    pub committed: Option<LogPosition>,
    /// Index of the last entry that is known to be durable and committed: no later start may find
    /// the log to end before it.
    pub durable_committed_index: Option<u64>,
}

/// The log of a running node. Clones share it; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct LogStore {
    view: Arc<Mutex<View>>,
    readers: SegmentReaders,
    queue: Queue,
    failed: watch::Sender<bool>,
    /// The last entry on the disk.
    durable: watch::Sender<Option<LogPosition>>,
}

/// Where operations go.
#[derive(Clone)]
enum Queue {
    /// To the thread that owns the files.
    Thread(Sender<Operation>),
    /// To the files at once, in the caller's thread: simulations have no second thread whose pace
    /// would decide what happens.
    Inline(Arc<Mutex<Writer>>),
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Thread(_) => "Thread",
            Self::Inline(_) => "Inline",
        })
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("View")
            .field("last", &self.last)
            .field("purged", &self.purged)
            .finish_non_exhaustive()
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Starts the thread that owns the files.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        opened: OpenedLog,
        vote: VoteFile,
        superblock: Arc<Mutex<SuperblockFile>>,
    ) -> Result<Self, io::Error> {
        let mut writer = Writer::new(opened, vote, superblock);
        let (view, readers) = (writer.view.clone(), writer.files.readers());
        let (failed, durable) = (writer.failed.clone(), writer.durable.clone());
        let (queue, operations) = channel();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&operations))?;
        Ok(Self {
            view,
            readers,
            queue: Queue::Thread(queue),
            failed,
            durable,
        })
    }

    /// As [`Self::start`], without a thread: each operation is done when its call returns.
    ///
    /// # Errors
    /// None.
    pub fn start_inline(
        opened: OpenedLog,
        vote: VoteFile,
        superblock: Arc<Mutex<SuperblockFile>>,
    ) -> Result<Self, io::Error> {
        let writer = Writer::new(opened, vote, superblock);
        Ok(Self {
            view: writer.view.clone(),
            readers: writer.files.readers(),
            failed: writer.failed.clone(),
            durable: writer.durable.clone(),
            queue: Queue::Inline(Arc::new(Mutex::new(writer))),
        })
    }

    /// As [`Self::start`], with a task in place of the thread, which lets every operation wait for a
    /// time by the runtime's clock: in simulations, what it takes a disk to do it.
    ///
    /// # Errors
    /// None.
    #[cfg(test)]
    pub(crate) fn start_delayed<const DELAY_MS: u64>(
        opened: OpenedLog,
        vote: VoteFile,
        superblock: Arc<Mutex<SuperblockFile>>,
    ) -> Result<Self, io::Error> {
        use std::sync::mpsc::TryRecvError;

        let mut writer = Writer::new(opened, vote, superblock);
        let (view, readers) = (writer.view.clone(), writer.files.readers());
        let (failed, durable) = (writer.failed.clone(), writer.durable.clone());
        let (queue, operations) = channel();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(DELAY_MS)).await;
                match operations.try_recv() {
                    Ok(operation) => writer.run_one(operation),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break,
                }
            }
        });
        Ok(Self {
            view,
            readers,
            queue: Queue::Thread(queue),
            failed,
            durable,
        })
    }

    /// Alive as long as anybody may still write to the log's files.
    #[cfg(test)]
    pub(crate) fn life(&self) -> std::sync::Weak<dyn Send + Sync> {
        let view: Arc<dyn Send + Sync> = self.view.clone();
        Arc::downgrade(&view)
    }

    /// The ends of the log, with what is queued.
    #[must_use]
    pub fn state(&self) -> LogState {
        let view = lock(&self.view);
        LogState {
            last: view.last,
            purged: view.purged,
            committed: view.committed,
            durable_committed_index: view.durable_committed_index,
        }
    }

    /// The last entry that is durable, or the one up to which all is purged.
    pub(crate) fn durable_last(&self) -> Option<LogPosition> {
        *self.durable.borrow()
    }

    /// Waits until the entry at `index`, which is queued, is durable.
    ///
    /// # Errors
    /// When the disk has failed.
    pub(crate) async fn durable_through(&self, index: u64) -> Result<(), io::Error> {
        let mut durable = self.durable.subscribe();
        let reached = durable.wait_for(|last| last.is_some_and(|last| last.index >= index));
        tokio::select! {
            // This holds a sender: the wait does not end otherwise.
            _ = reached => Ok(()),
            () = self.failed() => Err(io::Error::other(
                self.failure()
                    .unwrap_or_else(|| "the log has stopped".to_owned()),
            )),
        }
    }

    /// Which entry is held at an index.
    #[must_use]
    pub fn position(&self, index: u64) -> Option<LogPosition> {
        let view = lock(&self.view);
        let cached = view.cached(index).map(|(position, _)| *position);
        cached.or_else(|| Some(view.contents.get(index)?.position))
    }

    /// The newest durable vote.
    #[must_use]
    pub fn vote(&self) -> Option<StoredVote> {
        lock(&self.view).vote
    }

    /// Hands an operation on. `view`, which shows it already, is held until the queue has it: both
    /// must agree on the order of operations.
    fn send(&self, view: MutexGuard<'_, View>, operation: Operation) {
        let queue = match &self.queue {
            Queue::Thread(queue) => queue,
            Queue::Inline(writer) => {
                drop(view);
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                return writer.run_one(operation);
            }
        };
        if let Err(refused) = queue.send(operation) {
            drop(view);
            let error = || io::Error::other("the log has stopped");
            match refused.0 {
                Operation::Append(_, completion)
                | Operation::TruncateAfter(_, completion)
                | Operation::Purge(_, completion)
                | Operation::Vote(_, completion) => completion(Err(error())),
                Operation::Committed(_) | Operation::Alone(_) | Operation::TryAgain => {}
            }
        }
    }

    /// Has something done where nothing is written meanwhile, after everything that is queued.
    /// Keep it short: writing waits for it.
    ///
    /// # Errors
    /// Those of the work, after which the log stops when the disk failed; or that it has stopped.
    pub(crate) fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Alone<'_>) -> Result<T, StoreFailure> + Send + 'static,
    ) -> Result<T, io::Error> {
        let (sender, receiver) = channel();
        let done = move |alone: &mut Alone<'_>| {
            let done = work(alone)?;
            // Nobody waits any more.
            let _ = sender.send(done);
            Ok(())
        };
        self.send(lock(&self.view), Operation::Alone(Box::new(done)));
        receiver.recv().map_err(|_| {
            io::Error::other(
                self.failure()
                    .unwrap_or_else(|| "the log has stopped".to_owned()),
            )
        })
    }

    /// Who reads while the log is written to.
    pub(crate) fn readers(&self) -> &SegmentReaders {
        &self.readers
    }

    #[cfg(test)]
    pub(super) fn located(&self, index: u64) -> Option<EntryLocation> {
        lock(&self.view).contents.get(index)
    }

    /// The entry whose record stands at this place, if it still counts, with its payload when that
    /// is in memory.
    pub(crate) fn entry_at(
        &self,
        segment: u64,
        offset_bytes: u64,
        index: u64,
    ) -> Option<(EntryLocation, Option<Bytes>)> {
        let view = lock(&self.view);
        let location = view.contents.get(index)?;
        let payload = view
            .cached(index)
            .filter(|(position, _)| *position == location.position)
            .map(|(_, payload)| payload.clone());
        (location.segment == segment && location.offset_bytes == offset_bytes)
            .then_some((location, payload))
    }

    /// Tries again what waits for space on the disk. Nothing of it was synced or acknowledged.
    pub fn try_again(&self) {
        self.send(lock(&self.view), Operation::TryAgain);
    }

    /// Whether something waits because there is no room for it on the disk.
    #[must_use]
    pub fn waits_for_space(&self) -> bool {
        lock(&self.view).waits_for_space
    }

    /// Queues entries; they can be read when this returns, and are durable at the completion.
    pub fn append(&self, entries: Vec<(LogPosition, Bytes)>, completion: Completion) {
        let mut view = lock(&self.view);
        for (position, payload) in &entries {
            view.cache_bytes += payload.len();
            view.cache.push_back((*position, payload.clone()));
            view.last = Some(*position);
        }
        self.send(view, Operation::Append(entries, completion));
    }

    /// Voids all entries after `keep` (all, when `None`).
    pub fn truncate_after(&self, keep: Option<LogPosition>, completion: Completion) {
        let mut view = lock(&self.view);
        let keep_index = keep.map(|keep| keep.index);
        while view
            .cache
            .back()
            .is_some_and(|(position, _)| Some(position.index) > keep_index)
        {
            if let Some((_, payload)) = view.cache.pop_back() {
                view.cache_bytes -= payload.len();
            }
        }
        view.written = view.written.min(view.cache.len());
        view.last = keep.max(view.purged);
        self.send(view, Operation::TruncateAfter(keep_index, completion));
    }

    /// Lets go of all entries up to `position`, which a durable snapshot holds.
    pub fn purge(&self, position: LogPosition, completion: Completion) {
        let mut view = lock(&self.view);
        while view
            .cache
            .front()
            .is_some_and(|(held, _)| held.index <= position.index)
        {
            if let Some((_, payload)) = view.cache.pop_front() {
                view.cache_bytes -= payload.len();
                view.written = view.written.saturating_sub(1);
            }
        }
        view.purged = view.purged.max(Some(position));
        view.last = view.last.max(Some(position));
        view.committed = view.committed.max(Some(position));
        self.send(view, Operation::Purge(position, completion));
    }

    /// Notes how far the log is committed; written with the next batch, as losing it loses nothing.
    pub fn note_committed(&self, position: LogPosition) {
        let mut view = lock(&self.view);
        if view.committed >= Some(position) {
            return;
        }
        view.committed = Some(position);
        self.send(view, Operation::Committed(position));
    }

    /// Casts a vote.
    pub fn save_vote(&self, vote: StoredVote, completion: Completion) {
        self.send(lock(&self.view), Operation::Vote(vote, completion));
    }

    /// Reads entries from `start` up to and without `end`, stopping early once `maximum_bytes` are
    /// passed, but never before the first.
    ///
    /// # Errors
    /// When an entry cannot be read, with its name.
    pub fn read(
        &self,
        start: u64,
        end: u64,
        maximum_bytes: usize,
    ) -> Result<Vec<(LogPosition, Bytes)>, LogError> {
        enum Source {
            Memory(LogPosition, Bytes),
            Disk(EntryLocation),
        }
        let sources: Vec<Source> = {
            let view = lock(&self.view);
            let end = end.min(view.last.map_or(0, |last| last.index + 1));
            let mut bytes = 0;
            let mut sources = Vec::new();
            for index in start..end {
                let source = if let Some((position, payload)) = view.cached(index) {
                    bytes += payload.len();
                    Source::Memory(*position, payload.clone())
                } else if let Some(location) = view.contents.get(index) {
                    bytes += location.payload_bytes;
                    Source::Disk(location)
                } else {
                    break;
                };
                sources.push(source);
                if bytes >= maximum_bytes {
                    break;
                }
            }
            sources
        };
        sources
            .into_iter()
            .map(|source| match source {
                Source::Memory(position, payload) => Ok((position, payload)),
                Source::Disk(location) => Ok((
                    location.position,
                    Bytes::from(self.readers.read(&location)?),
                )),
            })
            .collect()
    }

    /// The entries that are known by name only, in order.
    #[must_use]
    pub fn unreadable(&self) -> Vec<LogPosition> {
        let view = lock(&self.view);
        view.contents
            .unreadable()
            .map(|location| location.position)
            .collect()
    }

    /// Notes that an entry was found to be unreadable.
    pub fn mark_unreadable(&self, position: LogPosition) {
        let mut view = lock(&self.view);
        if view.holds(position) {
            view.contents.mark_unreadable(position.index);
        }
    }

    /// Writes an entry's payload anew where it had been; durable and read back when it returns. The
    /// payload is compared with the digest that was stored apart from it. An entry that is not held
    /// any more needs no repair.
    ///
    /// # Errors
    /// When it is another payload, or cannot be written.
    pub fn repair(&self, position: LogPosition, payload: &Bytes) -> Result<(), LogError> {
        let location = {
            let view = lock(&self.view);
            if let Some(failure) = &view.failure {
                return Err(stopped(failure, Path::new("log")));
            }
            if !view.holds(position) {
                return Ok(());
            }
            view.contents.get(position.index)
        };
        let Some(location) = location else {
            return Ok(());
        };
        match self.readers.repair(&location, payload) {
            Ok(()) => {}
            // It was let go meanwhile, with its segment.
            Err(LogError::MissingSegment { .. }) if !lock(&self.view).holds(position) => {}
            Err(error @ LogError::Io { .. }) => {
                fail(&self.view, &self.failed, &describe(&error));
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        lock(&self.view).contents.mark_repaired(position.index);
        Ok(())
    }

    /// Why the log has stopped, once it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.view).failure.clone()
    }

    /// Takes it that the disk has failed: nothing may follow.
    pub(crate) fn stop_for(&self, error: &str) {
        fail(&self.view, &self.failed, error);
    }

    /// Waits until the disk has failed a write or a sync of the log or the vote.
    pub async fn failed(&self) {
        // The log itself holds a sender.
        let _ = self.failed.subscribe().wait_for(|failed| *failed).await;
    }
}

/// What everybody is told once the disk has failed.
fn stopped(failure: &str, folder: &Path) -> LogError {
    let source = io::Error::other(failure.to_owned());
    LogError::io("go on writing to", folder, source)
}

/// Remembers the first failure of the disk: nothing may follow.
fn fail(view: &Mutex<View>, failed: &watch::Sender<bool>, error: &str) {
    tracing::error!(error, "the disk failed; the log stops");
    lock(view).failure.get_or_insert_with(|| error.to_owned());
    failed.send_replace(true);
}

impl View {
    fn holds(&self, position: LogPosition) -> bool {
        self.contents
            .get(position.index)
            .is_some_and(|location| location.position == position)
    }

    fn cached(&self, index: u64) -> Option<&(LogPosition, Bytes)> {
        let first = self.cache.front()?.0.index;
        self.cache
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Brings up to date how far the log is durable and can never be taken back. What is on the disk
    /// may still end in entries that another leader's are about to replace, so an index alone proves
    /// nothing: entries of one term come from one leader, in one order.
    fn note_durable(&mut self) {
        let (Some(last), Some(committed)) = (self.contents.last(), self.committed) else {
            return;
        };
        let holds_committed = self.contents.purged() >= Some(committed) || self.holds(committed);
        let index = if holds_committed {
            committed.index
        } else if last.term == committed.term && last.index < committed.index {
            last.index
        } else {
            return;
        };
        self.durable_committed_index = self.durable_committed_index.max(Some(index));
    }

    fn shrink_cache(&mut self) {
        while self.cache_bytes > CACHE_BYTES && self.written > 0 {
            if let Some((_, payload)) = self.cache.pop_front() {
                self.cache_bytes -= payload.len();
            }
            self.written -= 1;
        }
    }
}

/// The thread's side: the only one that writes.
struct Writer {
    view: Arc<Mutex<View>>,
    files: LogFiles,
    vote: VoteFile,
    superblock: Arc<Mutex<SuperblockFile>>,
    failed: watch::Sender<bool>,
    durable: watch::Sender<Option<LogPosition>>,
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
    fn new(mut opened: OpenedLog, vote: VoteFile, superblock: Arc<Mutex<SuperblockFile>>) -> Self {
        {
            let superblock = superblock.lock().unwrap_or_else(PoisonError::into_inner);
            let superblock = superblock.current();
            opened
                .files
                .set_writer(superblock.cluster_uuid, superblock.boot_count);
        }
        let durable = watch::Sender::new(opened.contents.last());
        let view = Arc::new(Mutex::new(View {
            last: opened.contents.last(),
            purged: opened.contents.purged(),
            committed: opened.contents.committed(),
            durable_committed_index: None,
            contents: opened.contents,
            cache: VecDeque::new(),
            cache_bytes: 0,
            written: 0,
            vote: vote.current(),
            failure: None,
            waits_for_space: false,
        }));
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
    fn run_one(&mut self, operation: Operation) {
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

    fn run(&mut self, operations: &Receiver<Operation>) {
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
            let last_written = view.contents.last();
            self.durable.send_replace(last_written);
            view.written = view.cache.partition_point(|(position, _)| {
                Some(position.index) <= last_written.map(|last| last.index)
            });
            view.note_durable();
            view.shrink_cache();
            debug_assert!(view.contents.validate_ends().is_ok());
        }
        if let Some(purged) = batch.purge {
            self.files.remove_purged(purged)?;
        }
        Ok(())
    }
}

/// An error with its causes, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
