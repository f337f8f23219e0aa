//! The fault matrix: three nodes by four entries, every pattern of intact and damaged copies, by
//! every kind of damage (after Alagappan et al., "Protocol-Aware Recovery for Consensus-Based
//! Storage", FAST 2018, section 5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::{Member, Stopped, form, place_of, run};
use super::wires::Wires;
use crate::disk::simulated::{Damage, SimulatedDisk};
use crate::log::EntryLocation;

const ENTRIES: usize = 4;
const NODES: usize = 3;
const PATTERNS: u32 = 1 << (NODES * ENTRIES);
/// How long a cluster may take, by its own clock.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    BitInPayload,
    ByteInHeader,
    HeaderAndPayload,
    ZeroedSector,
    GarbageSector,
    Zeroed4KiB,
    UnreadableSector,
    StaleBlock,
    MisdirectedWrite,
    Identifier,
}

const KINDS: [Kind; 10] = [
    Kind::BitInPayload,
    Kind::ByteInHeader,
    Kind::HeaderAndPayload,
    Kind::ZeroedSector,
    Kind::GarbageSector,
    Kind::Zeroed4KiB,
    Kind::UnreadableSector,
    Kind::StaleBlock,
    Kind::MisdirectedWrite,
    Kind::Identifier,
];

impl Kind {
    /// Whether the payload of a damaged entry has to come from elsewhere.
    fn takes_the_payload(self) -> bool {
        !matches!(self, Self::ByteInHeader | Self::Identifier)
    }

    fn of(self, location: &EntryLocation) -> Vec<Damage> {
        let record = location.offset_bytes;
        let payload = record + 56;
        let block = record / 4096 * 4096;
        let flip = |offset_bytes| Damage::FlipBit {
            offset_bytes,
            bit: 3,
        };
        match self {
            Self::BitInPayload => vec![flip(payload + location.payload_bytes as u64 / 2)],
            Self::ByteInHeader => vec![flip(record + 26)],
            Self::HeaderAndPayload => vec![flip(record + 26), flip(payload + 5)],
            Self::ZeroedSector => vec![Damage::ZeroSector {
                offset_bytes: block + 512,
            }],
            Self::GarbageSector => vec![Damage::GarbageSector {
                offset_bytes: block,
                seed: location.position.index,
            }],
            Self::Zeroed4KiB => vec![Damage::Zero4KiB {
                offset_bytes: block,
            }],
            Self::UnreadableSector => vec![Damage::UnreadableSector {
                offset_bytes: block + 512,
            }],
            Self::StaleBlock => vec![Damage::StaleRange {
                offset_bytes: block,
                length_bytes: 4096,
            }],
            // Something else was written over it.
            Self::MisdirectedWrite => vec![Damage::MisdirectedWrite {
                from_offset_bytes: 100 * 1024,
                to_offset_bytes: block,
                length_bytes: 4096,
            }],
            Self::Identifier => vec![flip(
                4096 + location.slot / 10 * 512 + 32 + location.slot % 10 * 48,
            )],
        }
    }
}

/// Where each entry stands on each node.
type Places = Vec<Vec<(PathBuf, EntryLocation)>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every node has every entry again.
    Healed,
    /// Entries that no node can read are named, and nothing beyond them is served.
    RefusedRightly,
}

fn is_damaged(pattern: u32, node: usize, entry: usize) -> bool {
    pattern >> (node * ENTRIES + entry) & 1 == 1
}

fn damage(stopped: &Stopped, places: &Places, kind: Kind, pattern: u32) -> Vec<SimulatedDisk> {
    let disks: Vec<SimulatedDisk> = stopped.disks.iter().map(SimulatedDisk::fork).collect();
    for (node, disk) in disks.iter().enumerate() {
        for (entry, (path, location)) in places[node].iter().enumerate() {
            if is_damaged(pattern, node, entry) {
                for damage in kind.of(location) {
                    disk.damage(path, damage.clone())
                        .unwrap_or_else(|error| panic!("{kind:?} {damage:?}: {error}"));
                }
            }
        }
    }
    disks
}

/// Entries, by index, that no node can read.
fn lost(stopped: &Stopped, kind: Kind, pattern: u32) -> BTreeSet<u64> {
    (0..ENTRIES)
        .filter(|entry| {
            kind.takes_the_payload() && (0..NODES).all(|node| is_damaged(pattern, node, *entry))
        })
        .map(|entry| stopped.data_indices[entry])
        .collect()
}

fn try_case(
    stopped: &Stopped,
    places: &Places,
    kind: Kind,
    pattern: u32,
) -> Result<Outcome, String> {
    let disks = damage(stopped, places, kind, pattern);
    let lost = lost(stopped, kind, pattern);
    run(async {
        let wires = Wires::default();
        let mut members = Vec::new();
        for disk in &disks {
            let member = Member::start(disk, &wires)
                .map_err(|refusal| format!("a volume is refused: {}", refusal.report.message))?;
            members.push(member);
        }
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            let state = look(stopped, &mut members, &lost).await?;
            if let Ok(outcome) = state {
                for member in &mut members {
                    if let Some(node) = member.node().await {
                        node.raft()
                            .shutdown()
                            .await
                            .map_err(|error| error.to_string())?;
                    }
                }
                return Ok(outcome);
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("not within {DEADLINE:?}: {state:?}"));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    })
}

/// `Ok(Ok(…))`: it has come to its end; `Ok(Err(…))`: not yet; `Err`: something is wrong for ever.
async fn look(
    stopped: &Stopped,
    members: &mut [Member],
    lost: &BTreeSet<u64>,
) -> Result<Result<Outcome, String>, String> {
    for (number, member) in members.iter_mut().enumerate() {
        let log = member.log.clone().ok_or("no log")?;
        let unreadable: BTreeSet<u64> = log.unreadable().iter().map(|entry| entry.index).collect();
        if let Some(node) = member.node().await {
            let status = node.state().status();
            if let Some(applied) = status.applied
                && let Some(expected) = stopped.digests.get(&applied.index)
                && status.digest != *expected
            {
                return Err(format!("node {number} has other data at {applied}"));
            }
            if let Some(first) = lost.first()
                && status.applied.map(|applied| applied.index) >= Some(*first)
            {
                return Err(format!("node {number} applied what nobody can read"));
            }
            let applied = status.applied.map(|applied| applied.index);
            if lost.is_empty() && applied < Some(stopped.last_index) {
                return Ok(Err(format!("node {number} has applied {applied:?}")));
            }
        } else if lost.is_empty() {
            return Ok(Err(format!("node {number} has not started")));
        }
        if unreadable != *lost {
            return Ok(Err(format!("node {number} cannot read {unreadable:?}")));
        }
    }
    Ok(Ok(if lost.is_empty() {
        Outcome::Healed
    } else {
        Outcome::RefusedRightly
    }))
}

/// Tries every `step`-th pattern of every kind, and prints a table.
fn try_matrix(step: usize) {
    let stopped = form(ENTRIES);
    let places: Places = stopped
        .disks
        .iter()
        .map(|disk| {
            stopped
                .data_indices
                .iter()
                .map(|index| place_of(disk, *index))
                .collect()
        })
        .collect();
    let mut table: BTreeMap<Kind, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, kind) in KINDS.into_iter().enumerate() {
        let counts = table.entry(kind).or_default();
        // Each kind begins elsewhere, so that a part of the matrix has other patterns for each.
        let first = number as u32 % step as u32;
        for pattern in (first..PATTERNS).step_by(step) {
            match try_case(&stopped, &places, kind, pattern) {
                Ok(Outcome::Healed) => counts[0] += 1,
                Ok(Outcome::RefusedRightly) => counts[1] += 1,
                Err(error) => {
                    counts[2] += 1;
                    wrong.push(format!("{kind:?} {pattern:012b}: {error}"));
                }
            }
        }
        println!(
            "{:20} {:6} tried {:6} healed {:6} refused rightly {:6} unsafe",
            format!("{kind:?}"),
            counts.iter().sum::<usize>(),
            counts[0],
            counts[1],
            counts[2]
        );
    }
    assert!(
        wrong.is_empty(),
        "{}",
        wrong[..wrong.len().min(20)].join("\n")
    );
    let tried: usize = table.values().flatten().sum();
    assert!(tried >= KINDS.len() * (PATTERNS as usize / step), "{tried}");
    if step == 1 {
        // Of eight states of one entry on three nodes, one is hopeless.
        let healed = (2_usize.pow(NODES as u32) - 1).pow(ENTRIES as u32);
        for (kind, counts) in table {
            let expected = if kind.takes_the_payload() {
                healed
            } else {
                PATTERNS as usize
            };
            assert_eq!(counts[0], expected, "{kind:?}");
        }
    }
}

#[test]
fn every_damaged_copy_is_healed_from_any_intact_one() {
    try_matrix(13);
}

#[test]
#[ignore = "takes long: make faults"]
fn the_whole_matrix_of_three_nodes_by_four_entries() {
    try_matrix(1);
}
