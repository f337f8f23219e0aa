//! Every planted bug is found, by a test that finds nothing without it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Bug;

const VARIABLE: &str = "QUADRAFT_PLANTED_BUG";

/// Whether this process is to have the bug.
pub(crate) fn is_planted(bug: Bug) -> bool {
    static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let found = FOUND_BY.iter().find(|(bug, _)| format!("{bug:?}") == name);
        Some(found.unwrap_or_else(|| panic!("no bug is named {name}")).0)
    });
    *planted == Some(bug)
}

/// Which test finds which bug.
const FOUND_BY: &[(Bug, &str)] = &[
    (
        Bug::DirectoryNotSynced,
        "write_durably_leaves_the_old_or_the_new_content",
    ),
    (
        Bug::RenamedBeforeSync,
        "write_durably_leaves_the_old_or_the_new_content",
    ),
    (
        Bug::TwinCopiesTogether,
        "a_twin_has_a_whole_copy_in_every_crash_state",
    ),
    (
        Bug::TwinNotSynced,
        "a_twin_has_a_whole_copy_in_every_crash_state",
    ),
    (Bug::TwinOlderCopyBelieved, "a_crash_between_the_two_copies"),
    (
        Bug::TwinChecksumIgnored,
        "any_byte_of_one_copy_may_be_damaged",
    ),
    (Bug::VoteFromNone, "a_lost_vote_is_missed"),
    (Bug::VoteGoesBack, "a_vote_survives_and_never_goes_back"),
    (
        Bug::PromisesNotMarked,
        "damaged_files_of_a_volume_are_mended",
    ),
    (Bug::PromisesMarkedFirst, "a_power_loss_at_any_moment"),
    (Bug::AppendNotSynced, "every_crash_state_opens"),
    (Bug::AcknowledgedWhenQueued, "a_power_loss_at_any_moment"),
    (Bug::FlushedTooEarly, "every_crash_state_opens"),
    (Bug::NothingMarkedFree, "every_crash_state_opens"),
    (Bug::EveryBadEndIsTorn, "damage_at_any_one_sector"),
    (Bug::UnreadableMarkMeansNone, "a_mark_that_cannot_be_read"),
    (Bug::ChainIgnored, "a_segment_of_another_history_is_refused"),
    (Bug::PlaceNotInChecksum, "a_misdirected_write_is_noticed"),
    (Bug::SegmentNameNotSynced, "every_crash_state_opens"),
    (Bug::SealedBeforeNext, "every_crash_state_opens"),
    (Bug::RemovedBeforePurge, "a_power_loss_at_any_moment"),
    (Bug::TailNotCleared, "every_crash_state_opens"),
    (
        Bug::KilledWritesBelieved,
        "what_a_killed_process_left_is_durable",
    ),
    (Bug::HeaderNotMended, "damage_at_any_one_sector"),
    (Bug::PayloadIgnored, "damage_at_any_one_sector"),
    (Bug::UnreadableMeansAbsent, "damage_at_any_one_sector"),
    (Bug::UnreadableSkipped, "a_leader_repairs_an_entry_before"),
    (
        Bug::LeadsOverUnreadable,
        "leadership_goes_away_from_an_entry",
    ),
    (Bug::OtherPayloadTaken, "damage_at_any_one_sector"),
    (Bug::RepairNotSynced, "damage_at_any_one_sector"),
    (Bug::SnapshotNotSynced, "a_power_loss_at_any_moment"),
    (Bug::SnapshotNameNotSynced, "a_power_loss_at_any_moment"),
    (
        Bug::SnapshotChecksumIgnored,
        "every_changed_or_missing_byte_of_a_snapshot",
    ),
    (
        Bug::LogBehindStoreBelieved,
        "a_store_ahead_of_the_log_is_lawful_only",
    ),
    (
        Bug::AppliedBeforeDurable,
        "a_leader_that_lost_what_its_followers_hold",
    ),
    (Bug::AppliedTwice, "state::tests"),
    (
        Bug::LeaderRestored,
        "a_leader_that_lost_what_its_followers_hold",
    ),
    (Bug::LockIgnored, "a_second_holder_is_refused"),
    (Bug::QuarantineReplaced, "quarantine"),
    (
        Bug::LetGoWithoutCopy,
        "what_the_store_has_applied_is_let_go_and_kept",
    ),
    (
        Bug::FalseStoreExported,
        "without_a_store_the_snapshot_is_taken",
    ),
    (
        Bug::UncommittedExported,
        "with_other_voters_nothing_is_taken",
    ),
    (
        Bug::OtherVersionInSegment,
        "a_segment_of_the_version_before",
    ),
];

/// What tests come to with a bug: the names of those that fail.
fn failures(bug: Bug, filters: &[&str]) -> Vec<String> {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(filters)
        .args(["--skip", "planted::tests"])
        .env(VARIABLE, format!("{bug:?}"))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        output.contains("running ") && !output.contains("running 0 tests"),
        "{bug:?}: no test is named {filters:?}"
    );
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_planted_bug_is_found_by_its_test() {
    let mut missed = Vec::new();
    for (bug, test) in FOUND_BY {
        let found = failures(*bug, &[test]);
        println!(
            "{:28} {}",
            format!("{bug:?}"),
            if found.is_empty() { "MISSED" } else { test }
        );
        if found.is_empty() {
            missed.push(bug);
        }
    }
    assert!(FOUND_BY.len() >= 25);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn the_documentation_names_them_all() {
    let page = include_str!("../../../docs/planted-bugs.md");
    for (bug, test) in FOUND_BY {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{bug:?}` |")));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!("| `{test}` |"))),
            "docs/planted-bugs.md: {bug:?} is found by {test}"
        );
    }
}

#[test]
#[ignore = "takes long: make planted"]
fn which_tests_find_which_planted_bug() {
    println!("| Bug | found by |\n|---|---|");
    let mut missed = Vec::new();
    for (bug, _) in FOUND_BY {
        let found = failures(
            *bug,
            &[
                "disk::",
                "identity::",
                "log::",
                "raft::",
                "recovery::",
                "scrub::",
                "state::",
            ],
        );
        println!("| {bug:?} | {} |", found.join(", "));
        if found.is_empty() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
