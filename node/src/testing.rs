//! What the tests of this crate share.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is there again.
    Healed,
    /// It was refused, or named, as it must be where nothing can be done here.
    Refused,
    Unsafe,
}

/// Counts of verdicts by place and kind of damage.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<(&'static str, String), [usize; 3]>);

impl Tally {
    pub(crate) fn count(&mut self, place: &'static str, kind: impl Into<String>, verdict: Verdict) {
        let counts = self.0.entry((place, kind.into())).or_default();
        counts[verdict as usize] += 1;
    }

    pub(crate) fn total(&self, verdict: Verdict) -> usize {
        self.0.values().map(|counts| counts[verdict as usize]).sum()
    }

    /// Prints a row for each place and kind.
    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}\n| Place | Damage | tried | healed | refused rightly | unsafe |");
        println!("|---|---|---|---|---|---|");
        for ((place, kind), [healed, refused, unsafe_cases]) in &self.0 {
            let tried = healed + refused + unsafe_cases;
            println!("| {place} | {kind} | {tried} | {healed} | {refused} | {unsafe_cases} |");
        }
    }
}

/// Says how far a long run is, ten times.
pub(crate) fn show_progress(what: &str, done: u64, total: u64) {
    if total >= 500 && done.is_multiple_of(total / 10) {
        println!("{what}: {done} of {total}");
    }
}

/// How many cases to try: so many, times `QUADRAFT_FAULTS_FACTOR` when that is set.
pub(crate) fn cases(usual: u64) -> u64 {
    std::env::var("QUADRAFT_FAULTS_FACTOR")
        .ok()
        .and_then(|factor| factor.parse::<u64>().ok())
        .map_or(usual, |factor| usual * factor)
}
