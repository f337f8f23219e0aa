//! Faults of single operations.

use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::state::from_the_top;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A read fails with EIO.
    ReadError,
    /// A write fails with EIO and writes nothing.
    WriteError,
    /// The first bytes of a write are written, and then it fails with EIO.
    ShortWriteThenError { written_bytes: usize },
    /// A write is acknowledged and shown by reads, but the platter keeps what it had: a crash or
    /// [`File::forget_cached`](super::super::File::forget_cached) tells. The length that the write
    /// gave the file is kept, as it is the file system's and not the block's.
    LostWrite,
    /// A write is acknowledged and shown by reads, but on the platter it went to another place in
    /// the same file, as far as that is durable already, at once: a crash or
    /// [`File::forget_cached`](super::super::File::forget_cached) tells.
    MisdirectedWrite { to_offset_bytes: u64 },
    /// An allocation fails with EIO and changes nothing.
    AllocateError,
    /// A sync of a file fails with EIO. What was pending never becomes durable; reads go on showing
    /// it until the cached pages are forgotten or the machine crashes; a later sync succeeds and
    /// changes nothing (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
    SyncError,
    /// A sync of a folder fails with EIO. What was pending may or may not survive a crash, and later
    /// syncs of the folder succeed and promise nothing.
    SyncDirectoryError,
    /// A rename fails with EIO and changes nothing. Either path may match.
    RenameError,
    /// Opening or creating a file fails with EIO.
    OpenError,
    /// Removing a file fails with EIO and changes nothing.
    RemoveError,
    /// Making a folder fails with EIO and changes nothing.
    CreateDirectoryError,
    /// Listing a folder fails with EIO.
    ListError,
}

/// An operation that a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Read,
    Write,
    Allocate,
    Sync,
    SyncDirectory,
    Rename,
    Open,
    Remove,
    CreateDirectory,
    List,
}

impl FaultKind {
    fn target(self) -> Target {
        match self {
            Self::ReadError => Target::Read,
            Self::WriteError
            | Self::ShortWriteThenError { .. }
            | Self::LostWrite
            | Self::MisdirectedWrite { .. } => Target::Write,
            Self::AllocateError => Target::Allocate,
            Self::SyncError => Target::Sync,
            Self::SyncDirectoryError => Target::SyncDirectory,
            Self::RenameError => Target::Rename,
            Self::OpenError => Target::Open,
            Self::RemoveError => Target::Remove,
            Self::CreateDirectoryError => Target::CreateDirectory,
            Self::ListError => Target::List,
        }
    }
}

/// Which paths a fault strikes. Relative paths start at the top, as everywhere on this disk.
#[derive(Clone)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// This path.
    Exactly(PathBuf),
    /// This path and what is below it.
    Under(PathBuf),
    /// Paths for which this holds. It must not use the disk, which is locked while it runs.
    Where(Arc<dyn Fn(&Path) -> bool + Send + Sync>),
}

impl Debug for PathMatch {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("Any"),
            Self::Exactly(path) => write!(formatter, "Exactly({})", path.display()),
            Self::Under(path) => write!(formatter, "Under({})", path.display()),
            Self::Where(_) => formatter.write_str("Where(..)"),
        }
    }
}

impl PathMatch {
    fn matches(&self, path: &Path) -> bool {
        let below = |path: &Path, top: &Path| from_the_top(path).starts_with(from_the_top(top));
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => from_the_top(path) == from_the_top(wanted),
            Self::Under(top) => below(path, top),
            Self::Where(holds) => holds(path),
        }
    }
}

/// A fault to come.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Where.
    pub path: PathMatch,
    /// At which operation that matches, from now on; 1 is the next.
    pub nth: u64,
    /// Whether it goes wrong at every later operation too.
    pub lasting: bool,
}

impl Fault {
    /// Strikes the next operation of its kind.
    #[must_use]
    pub fn next(kind: FaultKind) -> Self {
        Self::nth(kind, 1)
    }

    /// Strikes the n-th operation of its kind from now on; 1 is the next.
    #[must_use]
    pub fn nth(kind: FaultKind, nth: u64) -> Self {
        Self {
            kind,
            path: PathMatch::Any,
            nth,
            lasting: false,
        }
    }

    /// Counts and strikes operations on this path only.
    #[must_use]
    pub fn on(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = PathMatch::Exactly(path.into());
        self
    }

    /// Counts and strikes operations on this path and below it only.
    #[must_use]
    pub fn under(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = PathMatch::Under(path.into());
        self
    }

    /// Counts and strikes operations on paths for which this holds only.
    #[must_use]
    pub fn only_where(mut self, holds: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.path = PathMatch::Where(Arc::new(holds));
        self
    }

    /// Goes on striking once it began.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }
}

/// Faults to come, in the order in which they were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, mut fault: Fault) {
        fault.nth = fault.nth.max(1);
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts an operation, and says what strikes it. The earliest of two faults goes first, and the
    /// other waits for the next operation.
    pub(super) fn strike(&mut self, target: Target, paths: &[&Path]) -> Option<FaultKind> {
        let mut struck = None;
        self.0.retain_mut(|fault| {
            if fault.kind.target() != target || !paths.iter().any(|path| fault.path.matches(path)) {
                return true;
            }
            if fault.nth > 1 {
                fault.nth -= 1;
                return true;
            }
            if struck.is_some() {
                return true;
            }
            struck = Some(fault.kind);
            fault.lasting
        });
        struck
    }
}
