//! Every target on its stored cases, on cases made from real encodings, and for some seconds on
//! mutations of these.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{TARGETS, mutations, seeds};
use crate::disk::simulated::SplitMix;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

fn stored(target: &str) -> Vec<Vec<u8>> {
    let folder = corpus(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    // Equal seeds give equal cases on every machine.
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Runs one case; one that fails is kept.
fn run(target: &str, case: &[u8]) {
    let (_, function) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("the target is listed");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(case))) {
        let digest = crate::log::PayloadDigest::of(case);
        let path = std::env::temp_dir().join(format!("quadraft-{target}-{digest}"));
        std::fs::write(&path, case).unwrap();
        println!(
            "{target} fails on {}: copy it to fuzz/corpus/{target} to keep it as a test",
            path.display()
        );
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

fn run_target(target: &str) {
    let mut cases = stored(target);
    cases.extend(seeds::seeds(target));
    for case in &cases {
        run(target, case);
    }
    let mut random = SplitMix::new(number("QUADRAFT_FUZZ_SEED", 1));
    let seconds = number("QUADRAFT_FUZZ_SECONDS", 2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    while Instant::now() < end {
        run(target, &mutations::mutated(&cases, &mut random));
        count += 1;
    }
    println!("{target}: {} stored cases, {count} mutations", cases.len());
}

macro_rules! targets {
    ($($target:ident),* $(,)?) => {
        $(
            #[test]
            fn $target() {
                run_target(stringify!($target));
            }
        )*

        #[test]
        fn every_target_has_a_test() {
            assert_eq!(
                TARGETS.map(|(name, _)| name).to_vec(),
                [$(stringify!($target)),*]
            );
        }
    };
}

targets!(
    backup_manifest,
    command,
    http_request,
    log_parts,
    log_segments,
    peer_message,
    peers_file,
    raft_payload,
    rdf_upload,
    snapshot,
    sparql_query,
    sparql_update,
    store_records,
    twin,
);

/// What coverage-guided fuzzing begins with: writes the cases made from real encodings to the folder
/// in `QUADRAFT_FUZZ_SEEDS`.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let folder = PathBuf::from(std::env::var("QUADRAFT_FUZZ_SEEDS").unwrap());
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for seed in seeds::seeds(target) {
            let name = crate::log::PayloadDigest::of(&seed).to_string();
            std::fs::write(folder.join(name), seed).unwrap();
        }
    }
}
