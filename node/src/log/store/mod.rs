//! One ordered queue in front of the disk.
//!
//! Votes, appends, truncations and purges go through one queue to one thread, so that a completed
//! operation means that everything queued before it is durable too. What is waiting when the
//! thread comes back from an fsync is written together with the next one. Entries can be read as
//! soon as they are queued; they are acknowledged only when they are durable.

mod view;
mod writer;

use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
#[cfg(test)]
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use self::view::{View, lock};
use self::writer::{Operation, Writer, fail, stopped};
use super::contents::EntryLocation;
use super::error::LogError;
use super::open::OpenedLog;
use super::segment::SegmentReaders;
use crate::describe::describe;
use crate::identity::{IdentityError, StoredVote, SuperblockFile, VoteError, VoteFile};
use crate::position::LogPosition;

pub(crate) use self::writer::Alone;

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
        let (queue, operations) = channel();
        let store = Self::of(&writer, Queue::Thread(queue));
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&operations))?;
        Ok(store)
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
        let writer = Arc::new(Mutex::new(Writer::new(opened, vote, superblock)));
        let owned = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Self::of(&owned, Queue::Inline(writer.clone()));
        drop(owned);
        Ok(store)
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
        let (queue, operations) = channel();
        let store = Self::of(&writer, Queue::Thread(queue));
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
        Ok(store)
    }

    fn of(writer: &Writer, queue: Queue) -> Self {
        Self {
            view: writer.view.clone(),
            readers: writer.files.readers(),
            queue,
            failed: writer.failed.clone(),
            durable: writer.durable.clone(),
        }
    }

    /// Queues an operation by `start`, and waits until it is durable.
    ///
    /// # Errors
    /// When the disk has failed.
    pub(crate) async fn durably(
        &self,
        start: impl FnOnce(&Self, Completion),
    ) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        let done = move |result| {
            // Nobody waits any more when the node is stopping.
            let _ = sender.send(result);
        };
        start(self, Box::new(done));
        receiver
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log has stopped")))
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
        view.append(&entries);
        self.send(view, Operation::Append(entries, completion));
    }

    /// Voids all entries after `keep` (all, when `None`).
    pub fn truncate_after(&self, keep: Option<LogPosition>, completion: Completion) {
        let mut view = lock(&self.view);
        view.truncate_after(keep);
        let keep_index = keep.map(|keep| keep.index);
        self.send(view, Operation::TruncateAfter(keep_index, completion));
    }

    /// Lets go of all entries up to `position`, which a durable snapshot holds.
    pub fn purge(&self, position: LogPosition, completion: Completion) {
        let mut view = lock(&self.view);
        view.purge(position);
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
