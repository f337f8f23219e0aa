//! How recent this node's state can be said to be.
//!
//! The age of a state is the time for which writes may be missing from it: everything that was
//! acknowledged longer ago is in it. A leader knows it from the last time when a majority answered
//! it: until then nobody else can have led (Ongaro, "Consensus: Bridging Theory and Practice", 2014,
//! section 6.4). A follower knows it from what its leader sends, but not when that was sent: it may
//! have lain in the network for as long as that was cut. So each answer carries the follower's own
//! clock, and what the leader sends later carries it back: it was sent after that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quadraft_protocol::v1;

/// Marks that wait for entries to be applied. With more, the oldest are not needed.
const MAXIMUM_WAITING: usize = 1024;

/// What a leader knows of itself when it sends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leading {
    /// How long ago a majority answered what was sent to it.
    pub(crate) quorum_age: Duration,
    /// The last entry that is applied here: every write that was acknowledged is in it or before.
    pub(crate) applied_index: u64,
}

/// What this node has heard as a follower, and from its followers as a leader.
#[derive(Debug)]
pub(crate) struct Freshness {
    started: Instant,
    /// The clock begins here: another start of this node has another, so that what it said then is
    /// no time of this one.
    offset_ms: u64,
    /// The newest clocks of the peers.
    answers: Mutex<HashMap<u64, u64>>,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// When a leader that was heard, or this node as one, had a majority last.
    majority: Option<Instant>,
    /// Everything acknowledged before this is applied here.
    applied: Option<Instant>,
    /// Everything acknowledged before this is in the entries up to this one.
    waiting: VecDeque<(u64, Instant)>,
    /// The last entry that a leader had applied when it was heard last.
    leader_applied_index: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An age in whole milliseconds, the last one begun counted: what is said to be so old is not older.
pub(super) fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Freshness {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            offset_ms: rand::random_range(1..1 << 62),
            answers: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    /// This node's clock, for an answer to a leader.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.offset_ms + milliseconds(self.started.elapsed())
    }

    /// Remembers the clock in a peer's answer.
    pub(crate) fn note_answer(&self, peer: u64, answered_at: u64) {
        lock(&self.answers).insert(peer, answered_at);
    }

    /// Notes what this node knows as a leader: once it has stepped down it was still in contact until then.
    pub(crate) fn note_leading(&self, leading: Leading) {
        self.note_leading_at(Instant::now(), leading);
    }

    fn note_leading_at(&self, now: Instant, leading: Leading) {
        let as_of = now.checked_sub(leading.quorum_age);
        let mut heard = lock(&self.heard);
        heard.majority = heard.majority.max(as_of);
        heard.applied = heard.applied.max(as_of);
    }

    /// What goes along with entries and heartbeats for a peer.
    pub(crate) fn message(&self, peer: u64, leading: Option<Leading>) -> v1::Freshness {
        v1::Freshness {
            answered_at: lock(&self.answers).get(&peer).copied().unwrap_or(0),
            quorum_age_ms: leading.map(|leading| age_ms(leading.quorum_age)),
            applied_index: leading.map_or(0, |leading| leading.applied_index),
        }
    }

    /// Notes what came from a leader whose term is ours.
    pub(crate) fn note_leader(&self, message: &v1::Freshness) {
        self.note_leader_at(Instant::now(), message);
    }

    fn note_leader_at(&self, now: Instant, message: &v1::Freshness) {
        // Of messages that overtake each other the furthest counts: what is applied stays applied.
        {
            let mut heard = lock(&self.heard);
            heard.leader_applied_index = heard.leader_applied_index.max(message.applied_index);
        }
        let as_of = message.quorum_age_ms.and_then(|age_ms| {
            let answered = message.answered_at.checked_sub(self.offset_ms)?;
            // The clocks count whole milliseconds, and begin them.
            let since_start_ms = answered.checked_sub(age_ms)?;
            let as_of = self
                .started
                .checked_add(Duration::from_millis(since_start_ms))?;
            (as_of <= now).then_some(as_of)
        });
        let Some(as_of) = as_of else {
            return;
        };
        let mut heard = lock(&self.heard);
        heard.majority = heard.majority.max(Some(as_of));
        match heard.waiting.back_mut() {
            Some((index, known)) if *index == message.applied_index => {
                *known = (*known).max(as_of);
            }
            _ => heard.waiting.push_back((message.applied_index, as_of)),
        }
        if heard.waiting.len() > MAXIMUM_WAITING {
            heard.waiting.pop_front();
        }
    }

    /// How long ago a leader that was heard, or this node as one, had a majority; `None` if there was none.
    pub(crate) fn majority_age(&self) -> Option<Duration> {
        lock(&self.heard)
            .majority
            .map(|majority| majority.elapsed())
    }

    /// The last entry that the leader is known to have applied: a follower may not even have it.
    pub(crate) fn leader_applied_index(&self) -> u64 {
        lock(&self.heard).leader_applied_index
    }

    /// For how long writes may be missing from the state of a follower that has applied this
    /// entry; `None` when nothing is known.
    pub(crate) fn age(&self, applied_index: u64) -> Option<Duration> {
        self.applied_as_of(applied_index)
            .map(|as_of| as_of.elapsed())
    }

    fn applied_as_of(&self, applied_index: u64) -> Option<Instant> {
        let mut heard = lock(&self.heard);
        let (reached, waiting) = std::mem::take(&mut heard.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(index, _)| *index <= applied_index);
        heard.waiting = waiting.into();
        let newest = reached.into_iter().map(|(_, as_of)| as_of).max();
        heard.applied = heard.applied.max(newest);
        heard.applied
    }

    /// How long this node is up.
    pub(crate) fn up(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn leading(quorum_age_ms: u64, applied_index: u64) -> Option<Leading> {
        Some(Leading {
            quorum_age: Duration::from_millis(quorum_age_ms),
            applied_index,
        })
    }

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// A follower whose clock is at this many milliseconds.
    struct Follower(Freshness);

    impl Follower {
        fn new() -> Self {
            Self(Freshness::new())
        }

        fn clock(&self, at_ms: u64) -> u64 {
            self.0.offset_ms + at_ms
        }

        /// What comes at `at_ms` from a leader that got the answer of `answered_ms`.
        fn hears(&self, at_ms: u64, answered_ms: u64, leading: Option<Leading>) {
            let leader = Freshness::new();
            leader.note_answer(7, self.clock(answered_ms));
            self.0
                .note_leader_at(self.0.started + ms(at_ms), &leader.message(7, leading));
        }

        fn as_of_ms(&self, applied_index: u64) -> Option<u64> {
            let as_of = self.0.applied_as_of(applied_index)?;
            Some(milliseconds(as_of.duration_since(self.0.started)))
        }
    }

    #[test]
    fn an_age_is_never_said_to_be_less_than_it_is() {
        for (nanoseconds, expected_ms) in
            [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)]
        {
            let age = Duration::from_nanos(nanoseconds);
            assert_eq!(age_ms(age), expected_ms, "{age:?}");
            let leading = Leading {
                quorum_age: age,
                applied_index: 5,
            };
            let message = Freshness::new().message(7, Some(leading));
            assert_eq!(message.quorum_age_ms, Some(expected_ms), "{age:?}");
        }
    }

    #[test]
    fn a_leader_that_steps_down_was_in_contact_until_then() {
        let Follower(node) = Follower::new();
        let at = |at_ms| Some(node.started + ms(at_ms));
        let leading = |at_ms, quorum_age_ms| {
            let leading = leading(quorum_age_ms, 5).unwrap();
            node.note_leading_at(node.started + ms(at_ms), leading);
            lock(&node.heard).majority
        };
        assert_eq!(leading(1000, 100), at(900));
        // What is older takes nothing back.
        assert_eq!(leading(1020, 150), at(900));
        assert_eq!(leading(1100, 100), at(1000));
        assert_eq!(node.applied_as_of(5), at(1000));
    }

    #[test]
    fn what_was_sent_is_as_recent_as_the_answer_that_it_carries_back() {
        let follower = Follower::new();
        follower.hears(1000, 800, leading(0, 5));
        assert_eq!(follower.as_of_ms(5), Some(800));
        follower.hears(1200, 1000, leading(50, 5));
        assert_eq!(follower.as_of_ms(5), Some(950));
    }

    #[test]
    fn what_lay_in_the_network_is_as_old_as_it_is() {
        let follower = Follower::new();
        follower.hears(1000, 800, leading(0, 5));
        // Sent before a cut of thirty seconds, and delivered after it.
        follower.hears(31_000, 990, leading(10, 6));
        assert_eq!(follower.as_of_ms(6), Some(980));
    }

    #[test]
    fn what_is_not_applied_yet_does_not_count() {
        let follower = Follower::new();
        follower.hears(1000, 900, leading(0, 5));
        follower.hears(1100, 1000, leading(0, 6));
        follower.hears(1200, 1100, leading(0, 7));
        assert_eq!(follower.as_of_ms(4), None);
        assert_eq!(follower.as_of_ms(6), Some(1000));
        assert_eq!(follower.as_of_ms(6), Some(1000));
        assert_eq!(follower.as_of_ms(9), Some(1100));
    }

    #[test]
    fn a_leader_without_a_majority_says_nothing_new() {
        let follower = Follower::new();
        follower.hears(1000, 900, leading(0, 5));
        follower.hears(2000, 1900, leading(1000, 5));
        follower.hears(3000, 2900, None);
        assert_eq!(follower.as_of_ms(5), Some(900));
        assert_eq!(
            lock(&follower.0.heard).majority,
            Some(follower.0.started + ms(900))
        );
    }

    #[test]
    fn how_far_the_leader_is_is_known_whatever_the_clocks_say() {
        let follower = Follower::new();
        assert_eq!(follower.0.leader_applied_index(), 0);
        follower.hears(1000, 900, leading(0, 70));
        follower.hears(1100, 1000, leading(0, 60));
        assert_eq!(follower.0.leader_applied_index(), 70);
    }

    #[test]
    fn the_clock_of_an_earlier_start_says_nothing() {
        let (before, now) = (Follower::new(), Follower::new());
        let leader = Freshness::new();
        leader.note_answer(7, before.clock(5000));
        let at = now.0.started + ms(6000);
        now.0.note_leader_at(at, &leader.message(7, leading(0, 5)));
        now.0.note_leader_at(at, &leader.message(8, leading(0, 5)));
        assert_eq!(now.as_of_ms(5), None);
    }

    #[test]
    fn marks_that_wait_are_bounded() {
        let follower = Follower::new();
        for index in 0..5000 {
            follower.hears(index + 1, index, leading(0, index));
        }
        assert_eq!(lock(&follower.0.heard).waiting.len(), MAXIMUM_WAITING);
        assert_eq!(follower.as_of_ms(4999), Some(4999));
    }
}
