//! What is remembered of the members: how far each of them had come, by its own word and by what it
//! answered. A volume that comes back below that was set back in time.
//!
//! docs/decisions/0010-volumes-set-back.md says why it is done so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quadraft_protocol::v1;
use uuid::Uuid;

use crate::disk::{OpenMode, SharedFileSystem, Twin, TwinError};

const MAGIC: [u8; 8] = *b"QDRPEERS";
const VERSION: u32 = 1;
/// node id (8), incarnation (16), boot count, vote term, end of the log (8 each).
const MEMBER_BYTES: usize = 48;
/// So many fit into one record.
const MAXIMUM_MEMBERS: usize = 64;

/// How far one incarnation of a node had come, at the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) boot_count: u64,
    pub(crate) vote_term: u64,
    /// The index after the last entry that it holds durably and that is committed; 0 for none.
    pub(crate) log_end: u64,
}

impl Marks {
    fn raise(&mut self, other: &Self) -> bool {
        let before = *self;
        self.boot_count = self.boot_count.max(other.boot_count);
        self.vote_term = self.vote_term.max(other.vote_term);
        self.log_end = self.log_end.max(other.log_end);
        *self != before
    }
}

/// Why a volume is not what a peer has seen of its node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a peer has seen this node at {what} {seen}, but it stands at {ours}: this volume was set back in time"
)]
pub struct SetBack {
    pub(crate) what: &'static str,
    pub(crate) seen: u64,
    pub(crate) ours: u64,
}

/// Whether a node that stands at `ours` is below what was `seen` of it. A node that has just
/// started has told nobody of this start yet: its number is known only when another process, on
/// another copy of the volume, had it.
///
/// An entry that was acknowledged and not committed can be voided by a later leader: only committed
/// ones count.
pub(crate) fn judge(ours: Marks, seen: Marks, just_started: bool) -> Result<(), SetBack> {
    let set_back = |what, seen, ours| Err(SetBack { what, seen, ours });
    if seen.boot_count > ours.boot_count || (just_started && seen.boot_count == ours.boot_count) {
        return set_back("boot count", seen.boot_count, ours.boot_count);
    }
    if seen.vote_term > ours.vote_term {
        return set_back("vote term", seen.vote_term, ours.vote_term);
    }
    if seen.log_end > ours.log_end {
        return set_back(
            "log index",
            seen.log_end - 1,
            ours.log_end.saturating_sub(1),
        );
    }
    Ok(())
}

/// What is remembered of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenMember {
    pub(crate) incarnation: Uuid,
    pub(crate) marks: Marks,
}

impl SeenMember {
    pub(crate) fn message(&self) -> v1::SeenOf {
        v1::SeenOf {
            incarnation: self.incarnation.to_string(),
            boot_count: self.marks.boot_count,
            vote_term: self.marks.vote_term,
            acknowledged_index: self.marks.log_end,
        }
    }

    /// The inverse of [`Self::message`]; `None` when it names no incarnation.
    pub(crate) fn read(message: &v1::SeenOf) -> Option<Self> {
        Some(Self {
            incarnation: Uuid::parse_str(&message.incarnation).ok()?,
            marks: Marks {
                boot_count: message.boot_count,
                vote_term: message.vote_term,
                log_end: message.acknowledged_index,
            },
        })
    }
}

/// What is remembered of all nodes, by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenTable(pub(crate) BTreeMap<u64, SeenMember>);

impl SeenTable {
    /// Takes in what was seen of a node; tells whether that was news. Another incarnation of a known
    /// node is none: ids are never used again.
    pub(crate) fn raise(&mut self, node_id: u64, seen: SeenMember) -> bool {
        if self.0.len() >= MAXIMUM_MEMBERS && !self.0.contains_key(&node_id) {
            self.forget_the_longest_gone();
        }
        let mut is_new = false;
        let known = self.0.entry(node_id).or_insert_with(|| {
            is_new = true;
            seen
        });
        is_new || (known.incarnation == seen.incarnation && known.marks.raise(&seen.marks))
    }

    /// Terms grow for all who are there: who is at the lowest has been gone for longest.
    fn forget_the_longest_gone(&mut self) {
        let gone = self.0.iter().min_by_key(|(_, member)| {
            let marks = member.marks;
            (marks.vote_term, marks.log_end, marks.boot_count)
        });
        if let Some(gone) = gone.map(|(node_id, _)| *node_id) {
            self.0.remove(&gone);
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * MEMBER_BYTES);
        for (node_id, member) in self.0.iter().take(MAXIMUM_MEMBERS) {
            bytes.extend_from_slice(&node_id.to_le_bytes());
            bytes.extend_from_slice(member.incarnation.as_bytes());
            bytes.extend_from_slice(&member.marks.boot_count.to_le_bytes());
            bytes.extend_from_slice(&member.marks.vote_term.to_le_bytes());
            bytes.extend_from_slice(&member.marks.log_end.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut members = BTreeMap::new();
        for member in bytes.chunks(MEMBER_BYTES) {
            let number = |offset: usize| {
                let bytes = member.get(offset..offset + 8)?;
                Some(u64::from_le_bytes(bytes.try_into().ok()?))
            };
            let marks = Marks {
                boot_count: number(24)?,
                vote_term: number(32)?,
                log_end: number(40)?,
            };
            let incarnation = Uuid::from_slice(member.get(8..24)?).ok()?;
            members.insert(number(0)?, SeenMember { incarnation, marks });
        }
        (members.len() <= MAXIMUM_MEMBERS).then_some(Self(members))
    }
}

/// The table as it stands on this volume. docs/formats/peers.md gives the layout.
#[derive(Debug)]
pub(crate) struct SeenFile {
    file_system: SharedFileSystem,
    path: PathBuf,
    twin: Option<Twin>,
}

impl SeenFile {
    /// Reads what an earlier start remembered. It is no promise of this node: what is damaged is
    /// forgotten, and written anew.
    pub(crate) fn open(file_system: SharedFileSystem, data: &Path) -> (Self, SeenTable) {
        let path = data.join("peers");
        let mut file = Self {
            file_system,
            path,
            twin: None,
        };
        let read = file.read();
        let (twin, table) = match read {
            Ok(Some((twin, table))) => (Some(twin), table),
            Ok(None) => (None, SeenTable::default()),
            Err(error) => {
                tracing::warn!(%error, "what was remembered of the other members is lost");
                (None, SeenTable::default())
            }
        };
        file.twin = twin;
        (file, table)
    }

    fn read(&self) -> Result<Option<(Twin, SeenTable)>, TwinError> {
        let io_error = |source| TwinError::Io {
            action: "look for",
            path: self.path.clone(),
            source,
        };
        if !self.file_system.exists(&self.path).map_err(io_error)? {
            return Ok(None);
        }
        let (mut twin, read) = Twin::open(
            self.file_system.as_ref(),
            &self.path,
            MAGIC,
            VERSION,
            OpenMode::ReadWrite,
        )?;
        twin.mend(&read)?;
        let table = SeenTable::decode(&read.payload).ok_or_else(|| TwinError::BothDamaged {
            path: self.path.clone(),
        })?;
        Ok(Some((twin, table)))
    }

    /// Writes the table; durable when it returns.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn save(&mut self, table: &SeenTable) -> Result<(), TwinError> {
        let payload = table.encode();
        match &mut self.twin {
            Some(twin) => twin.write(&payload),
            None => {
                let file_system = self.file_system.as_ref();
                let twin = Twin::create(file_system, &self.path, MAGIC, VERSION, &payload)?;
                self.twin = Some(twin);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::simulated::{Damage, SimulatedDisk};
    use crate::disk::twin::{copies_of_file, file_of_stored_copies};

    fn marks(boot_count: u64, vote_term: u64, log_end: u64) -> Marks {
        Marks {
            boot_count,
            vote_term,
            log_end,
        }
    }

    fn member(incarnation: u128, marks: Marks) -> SeenMember {
        SeenMember {
            incarnation: Uuid::from_u128(incarnation),
            marks,
        }
    }

    #[test]
    fn whatever_went_back_is_named() {
        let ours = marks(4, 7, 100);
        judge(ours, marks(3, 7, 100), true).unwrap();
        judge(ours, marks(4, 7, 100), false).unwrap();
        for (seen, just_started, what) in [
            (marks(5, 0, 0), false, "boot count"),
            // A copy that was made while the node ran, and that starts for the same time.
            (marks(4, 0, 0), true, "boot count"),
            (marks(3, 8, 0), true, "vote term"),
            (marks(3, 7, 101), true, "log index"),
        ] {
            assert_eq!(judge(ours, seen, just_started).unwrap_err().what, what);
        }
    }

    #[test]
    fn marks_only_grow_and_an_id_has_one_incarnation() {
        let mut table = SeenTable::default();
        assert!(table.raise(1, member(5, marks(1, 2, 3))));
        assert!(!table.raise(1, member(5, marks(1, 1, 3))));
        assert!(table.raise(1, member(5, marks(0, 1, 9))));
        assert_eq!(table.0[&1].marks, marks(1, 2, 9));
        assert!(!table.raise(1, member(6, marks(9, 9, 9))));
        assert_eq!(table.0[&1], member(5, marks(1, 2, 9)));
        let read = SeenMember::read(&table.0[&1].message());
        assert_eq!(read, Some(table.0[&1]));
    }

    #[test]
    fn a_full_table_forgets_who_has_been_gone_for_longest() {
        let mut table = SeenTable::default();
        let members = MAXIMUM_MEMBERS as u64;
        // Ids are random: they say nothing of who is there.
        for number in 0..2 * members {
            table.raise(u64::MAX - number, member(1, marks(1, number, number)));
            assert!(table.0.contains_key(&(u64::MAX - number)));
        }
        let kept: Vec<u64> = table
            .0
            .values()
            .map(|member| member.marks.vote_term)
            .collect();
        assert_eq!(kept, (members..2 * members).rev().collect::<Vec<_>>());
        assert_eq!(SeenTable::decode(&table.encode()), Some(table));
    }

    /// Format version 1: both copies of the file, without what lies between.
    const STORED: &[u8] = include_bytes!("../recovery/fixtures/peers-1.bin");

    fn stored_table() -> SeenTable {
        let mut table = SeenTable::default();
        table.raise(0x0123_4567_89ab_cdef, member(0x33, marks(4, 2, 8)));
        table.raise(0x77, member(0x44, marks(1, 2, 0)));
        table
    }

    fn written() -> Vec<u8> {
        let disk = SimulatedDisk::new();
        let (mut file, _) = SeenFile::open(Arc::new(disk.clone()), Path::new("/"));
        file.save(&stored_table()).unwrap();
        copies_of_file(&disk.read(Path::new("/peers")).unwrap())
    }

    #[test]
    fn the_stored_file_is_read_and_is_what_is_written() {
        let advice = "docs/formats/versions.md says how a format is changed";
        assert!(written() == STORED, "{advice}");
        let bytes = file_of_stored_copies(STORED);
        let disk = SimulatedDisk::new();
        disk.write(Path::new("/peers"), &bytes).unwrap();
        let read = SeenFile::open(Arc::new(disk), Path::new("/")).1;
        assert_eq!(read, stored_table(), "{advice}");
    }

    /// Writes the stored file to the folder in `QUADRAFT_FIXTURES`.
    #[test]
    #[ignore = "writes files"]
    fn write_fixtures() {
        let folder = PathBuf::from(std::env::var("QUADRAFT_FIXTURES").unwrap());
        std::fs::write(folder.join("peers-1.bin"), written()).unwrap();
    }

    #[test]
    fn what_is_remembered_survives_a_start_and_the_damage_of_one_copy() {
        let disk = SimulatedDisk::new();
        let shared: SharedFileSystem = Arc::new(disk.clone());
        let data = Path::new("/");
        let (mut file, mut table) = SeenFile::open(shared.clone(), data);
        assert_eq!(table, SeenTable::default());
        for node_id in 1..=3 {
            table.raise(node_id, member(u128::from(node_id), marks(node_id, 2, 3)));
            file.save(&table).unwrap();
        }
        assert_eq!(SeenFile::open(shared.clone(), data).1, table);
        let flip = |offset_bytes| Damage::FlipBit {
            offset_bytes,
            bit: 1,
        };
        disk.damage(Path::new("/peers"), flip(40)).unwrap();
        assert_eq!(SeenFile::open(shared.clone(), data).1, table);
        // Both copies: it is forgotten, and can be written again.
        disk.damage(Path::new("/peers"), flip(40)).unwrap();
        disk.damage(Path::new("/peers"), flip(1024 * 1024 + 40))
            .unwrap();
        let (mut file, forgotten) = SeenFile::open(shared.clone(), data);
        assert_eq!(forgotten, SeenTable::default());
        file.save(&table).unwrap();
        assert_eq!(SeenFile::open(shared, data).1, table);
    }
}
