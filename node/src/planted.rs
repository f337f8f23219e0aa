//! Bugs that are put in on purpose, to see the tests fail: tests that find none of these prove
//! nothing about the ones that nobody put in.
//!
//! A bug lives where it would have been written. In tests it is chosen for the whole process by the
//! variable `QUADRAFT_PLANTED_BUG`; everywhere else [`is_planted`] is `false` at compile time.

/// What a bug breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(PartialOrd, Ord))]
pub(crate) enum Bug {
    /// A new file's name is not synced: the file is gone after a power loss.
    DirectoryNotSynced,
    /// A file gets its name before its content is synced.
    RenamedBeforeSync,
    /// The first copy of vote and superblock is not synced before the second is written: one crash
    /// can tear both.
    TwinCopiesTogether,
    /// Vote and superblock are never synced.
    TwinNotSynced,
    /// Of two whole copies the older one is believed.
    TwinOlderCopyBelieved,
    /// A copy of vote or superblock is believed whatever its checksum.
    TwinChecksumIgnored,
    /// Two unreadable copies of the vote are taken for no vote.
    VoteFromNone,
    /// A vote may be replaced by any other.
    VoteGoesBack,
    /// The superblock never says that promises were made: a lost log is taken for a new one.
    PromisesNotMarked,
    /// The superblock says so before there is a log.
    PromisesMarkedFirst,
    /// An append is acknowledged before it is synced.
    AppendNotSynced,
    /// An append is acknowledged as soon as it is queued.
    AcknowledgedWhenQueued,
    /// A batch is marked as flushed together with its writing.
    FlushedTooEarly,
    /// The space of a new segment is not marked as free.
    NothingMarkedFree,
    /// Whatever cannot be read at the end of the log is cut off.
    EveryBadEndIsTorn,
    /// A mark that cannot be read is taken for a mark that was never made.
    UnreadableMarkMeansNone,
    /// The chain over the batches is not compared.
    ChainIgnored,
    /// Checksums do not say where a record belongs.
    PlaceNotInChecksum,
    /// A new segment's name is not synced.
    SegmentNameNotSynced,
    /// A segment is sealed before the next one exists.
    SealedBeforeNext,
    /// Segments are removed before the purge is recorded.
    RemovedBeforePurge,
    /// What stands behind the end of the log when it is opened is not cleared.
    TailNotCleared,
    /// What a killed process left is believed without a sync.
    KilledWritesBelieved,
    /// A damaged header of a segment is not written anew.
    HeaderNotMended,
    /// The payload of an entry is not compared with its checksum.
    PayloadIgnored,
    /// The log ends before the first entry that cannot be read.
    UnreadableMeansAbsent,
    /// An entry that cannot be read is applied as an empty one.
    UnreadableSkipped,
    /// A leader goes on leading that holds an entry which nobody can give.
    LeadsOverUnreadable,
    /// A peer's payload is not compared with the stored digest.
    OtherPayloadTaken,
    /// A repaired entry is not synced.
    RepairNotSynced,
    /// A snapshot is used before it is synced.
    SnapshotNotSynced,
    /// A snapshot's name is not synced before the log is purged.
    SnapshotNameNotSynced,
    /// A snapshot's checksums are not compared.
    SnapshotChecksumIgnored,
    /// A store that is ahead of its log is served from.
    LogBehindStoreBelieved,
    /// What the others have committed is applied before it is durable in the own log.
    AppliedBeforeDurable,
    /// Entries may be applied again, or out of order.
    AppliedTwice,
    /// A leader that restarts goes on leading its term without an election.
    LeaderRestored,
    /// Two processes may use one volume.
    LockIgnored,
    /// What is moved to quarantine replaces what was kept there.
    QuarantineReplaced,
    /// `recover` lets go of entries without a copy of their segments.
    LetGoWithoutCopy,
    /// `export` gives a store that holds other data than was applied to it.
    FalseStoreExported,
    /// `export` gives entries that may never have been committed.
    UncommittedExported,
    /// A segment of the version before is gone on with in the newest.
    OtherVersionInSegment,
}

/// Whether this process is to have the bug.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use tests::is_planted;

#[cfg(test)]
mod tests;
