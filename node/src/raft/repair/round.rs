//! What the peers said of entries that cannot be read here, and what follows from it.

use std::collections::BTreeMap;

use super::PeerEntry;
use crate::position::LogPosition;

/// An entry that no peer gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// This peer has let it go for a snapshot, which holds what it did.
    InSnapshotOf(u64),
    /// Every peer has answered, and none can give it. `lacking` are those that do not have it; the
    /// others have it and cannot read it either.
    Nowhere { lacking: Vec<u64> },
}

/// The answers of all peers in one round.
#[derive(Debug, Default)]
pub(super) struct Round(BTreeMap<LogPosition, Vec<(u64, PeerEntry)>>);

impl Round {
    /// Notes what `peer` said of each name, in their order.
    pub(super) fn note(&mut self, peer: u64, names: &[LogPosition], entries: &[PeerEntry]) {
        for (name, entry) in names.iter().zip(entries) {
            self.0.entry(*name).or_default().push((peer, entry.clone()));
        }
    }

    /// The entries that nobody gave, where that is known: one peer having a snapshot is enough, as it
    /// is as good as the entry; else all `peers` must have answered.
    pub(super) fn elsewhere(&self, peers: usize) -> BTreeMap<LogPosition, Elsewhere> {
        let judge = |answers: &Vec<(u64, PeerEntry)>| {
            let held = |(_, answer): &(u64, PeerEntry)| matches!(answer, PeerEntry::Held(_));
            if answers.iter().any(held) {
                return None;
            }
            let purged = |(peer, answer): &(u64, PeerEntry)| {
                (*answer == PeerEntry::Purged).then_some(Elsewhere::InSnapshotOf(*peer))
            };
            let nowhere = || Elsewhere::Nowhere {
                lacking: answers
                    .iter()
                    .filter(|(_, answer)| *answer == PeerEntry::NotHeld)
                    .map(|(peer, _)| *peer)
                    .collect(),
            };
            answers
                .iter()
                .find_map(purged)
                .or_else(|| (answers.len() == peers).then(nowhere))
        };
        self.0
            .iter()
            .filter_map(|(name, answers)| Some((*name, judge(answers)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_snapshot_takes_the_place_of_an_entry_only_where_nobody_holds_it() {
        let name = LogPosition { term: 1, index: 7 };
        let judge = |answers: &[PeerEntry]| {
            let mut round = Round::default();
            for (peer, answer) in (1..).zip(answers) {
                round.note(peer, &[name], std::slice::from_ref(answer));
            }
            round.elsewhere(2).remove(&name)
        };
        let held = PeerEntry::Held(Bytes::new());
        let (purged, not_held) = (PeerEntry::Purged, PeerEntry::NotHeld);
        let unreadable = PeerEntry::Unreadable;
        assert_eq!(judge(&[]), None);
        assert_eq!(
            judge(std::slice::from_ref(&not_held)),
            None,
            "one has not answered, and may hold it"
        );
        assert_eq!(
            judge(std::slice::from_ref(&purged)),
            Some(Elsewhere::InSnapshotOf(1))
        );
        assert_eq!(
            judge(&[unreadable.clone(), purged.clone()]),
            Some(Elsewhere::InSnapshotOf(2))
        );
        assert_eq!(judge(&[purged, held.clone()]), None);
        assert_eq!(judge(&[held, unreadable.clone()]), None);
        assert_eq!(
            judge(&[not_held, unreadable]),
            Some(Elsewhere::Nowhere { lacking: vec![1] })
        );
    }
}
