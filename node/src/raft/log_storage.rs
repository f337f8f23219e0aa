//! openraft's log on our log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::codec::{decode_entry, encode_payload};
use super::order_watch::OrderWatch;
use super::repair::Repairer;
use super::types::{
    Entry, LogId, TypeConfig, Vote, to_log_id, to_position, to_stored_vote, to_vote,
};
use crate::log::{LogError, LogStore};
use crate::planted::{Bug, is_planted};

/// Bytes of entries sent to a follower at once.
const MAXIMUM_REPLICATION_BYTES: usize = 4 * 1024 * 1024;

/// The seam between openraft and [`LogStore`].
#[derive(Clone, Debug)]
pub(crate) struct LogStorage {
    log: LogStore,
    repairer: Arc<Repairer>,
    order: OrderWatch,
}

impl LogStorage {
    pub(crate) fn new(log: LogStore, repairer: Arc<Repairer>, order: OrderWatch) -> Self {
        Self {
            log,
            repairer,
            order,
        }
    }

    async fn read(
        &self,
        start: u64,
        end: u64,
        maximum_bytes: usize,
    ) -> Result<Vec<Entry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let entries = loop {
            let log = self.log.clone();
            let read = tokio::task::spawn_blocking(move || log.read(start, end, maximum_bytes))
                .await
                .map_err(io::Error::other)?;
            match read {
                Ok(entries) => break entries,
                Err(LogError::Unreadable { entry, .. }) if is_planted(Bug::UnreadableSkipped) => {
                    break vec![(entry, encode_payload(&openraft::EntryPayload::Blank))];
                }
                // An error would end the core. The entry exists: whoever reads it waits for it.
                Err(LogError::Unreadable { entry, .. }) => self
                    .repairer
                    .wait_for(entry)
                    .await
                    .map_err(io::Error::other)?,
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        entries
            .into_iter()
            .map(|(position, payload)| decode_entry(position, &payload).map_err(io::Error::other))
            .collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote().map(to_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, MAXIMUM_REPLICATION_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(to_log_id),
            last_log_id: state.last.map(to_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log
            .durably(|log, done| log.save_vote(to_stored_vote(vote), done))
            .await?;
        self.order.after("a vote");
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.note_committed(to_position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.state().committed.map(to_log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries
            .into_iter()
            .map(|entry| (to_position(&entry.log_id), encode_payload(&entry.payload)))
            .collect();
        if is_planted(Bug::AcknowledgedWhenQueued) {
            self.log.append(entries, Box::new(|_| {}));
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.log.append(
            entries,
            Box::new(move |result| callback.io_completed(result)),
        );
        self.order.after("an append");
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log
            .durably(|log, done| log.truncate_after(last_log_id.as_ref().map(to_position), done))
            .await?;
        self.order.after("a truncation");
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log
            .durably(|log, done| log.purge(to_position(&log_id), done))
            .await?;
        self.order.after("a purge");
        Ok(())
    }
}
