//! Disks that run full under a cluster, and get space again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::node::Node;
use super::super::writer::WriterAnswer;
use super::super::{StopReason, WriteFailure};
use super::cluster::{LIMITS, Patience, Running, form, run};
use crate::disk::FileSystem as _;
use crate::disk::simulated::SimulatedDisk;
use crate::sparql::update::Write;
use crate::state::RequestId;

const ENTRIES: usize = 3;

/// Leaves so many bytes on a disk.
fn leave(disk: &SimulatedDisk, available_bytes: u64) {
    disk.set_capacity_bytes(Some(1 << 40));
    let used = (1 << 40) - disk.available_bytes(Path::new("/")).unwrap();
    disk.set_capacity_bytes(Some(used + available_bytes));
}

fn free(disk: &SimulatedDisk) {
    disk.set_capacity_bytes(None);
}

async fn update(node: &Arc<Node>, number: u8) -> WriterAnswer {
    let write = Write::Update {
        text: format!("INSERT DATA {{ <urn:a> <urn:b> {number} }}"),
        base_iri: None,
        using_graphs: None,
    };
    // By the clock of the simulation.
    let deadline = (Instant::now() + Duration::from_secs(10)).into_std();
    node.writer()
        .write(RequestId([200 + number; 16]), write, deadline)
        .await
}

async fn running() -> Running {
    // The reserve is held first, so that it is not what makes a disk full.
    let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
    let running = Running::start(stopped.disks, ENTRIES).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for disk in &running.disks {
        assert!(disk.files().contains(&"/data/reserve".into()));
    }
    running
}

#[test]
fn a_leader_that_is_short_of_space_hands_leadership_to_a_member_that_is_not() {
    run(async {
        let mut cluster = running().await;
        let (first, node) = cluster.leader().await;
        leave(&cluster.disks[first], LIMITS.reserve_bytes - 1);
        let mut patience = Patience::default();
        while node.is_leader() {
            patience.pause("another leader").await;
        }
        let (second, successor) = cluster.leader().await;
        assert_ne!(first, second);
        assert!(matches!(
            update(&successor, 1).await,
            WriterAnswer::Committed(_)
        ));
        // The one that is short still takes what the cluster has decided.
        cluster.agree(&[0, 1, 2]).await;
        assert!(node.status().disk_is_short && !successor.status().disk_is_short);
    });
}

#[test]
fn with_all_disks_nearly_full_writes_are_refused_unproposed_and_go_on_by_themselves_later() {
    run(async {
        let mut cluster = running().await;
        for disk in &cluster.disks {
            leave(disk, LIMITS.reserve_bytes - 1);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (_, leader) = cluster.leader().await;
        let before = leader.log().state().last;
        let answer = update(&leader, 1).await;
        assert!(
            matches!(answer, WriterAnswer::Failed(WriteFailure::DiskFull(_))),
            "{answer:?}"
        );
        assert_eq!(leader.log().state().last, before, "nothing was proposed");
        assert_eq!(leader.state().quads(), ENTRIES as u64, "reads go on");
        // A little more than the reserve is not enough yet.
        for disk in &cluster.disks {
            leave(disk, LIMITS.reserve_bytes + 1000);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (_, leader) = cluster.leader().await;
        assert!(matches!(
            update(&leader, 2).await,
            WriterAnswer::Failed(WriteFailure::DiskFull(_))
        ));
        cluster.disks.iter().for_each(free);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut patience = Patience::default();
        loop {
            // Leadership may just be on its way to the first that has space.
            let (_, leader) = cluster.leader().await;
            match update(&leader, 3).await {
                WriterAnswer::Committed(_) => break,
                WriterAnswer::NotLeader
                | WriterAnswer::Lost
                | WriterAnswer::Failed(WriteFailure::NoLeader) => {}
                other => panic!("{other:?}"),
            }
            patience.pause("a write").await;
        }
        cluster.agree(&[0, 1, 2]).await;
    });
}

#[test]
fn a_follower_without_any_space_acknowledges_what_it_has_room_for_and_waits_for_the_rest() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let full = (leader + 1) % 3;
        let others = [leader, (leader + 2) % 3];
        leave(&cluster.disks[full], 0);
        // More than its segment takes.
        for _ in 0..60 {
            cluster.write().await;
        }
        let node = cluster.members[full].node().await.unwrap();
        cluster.agree(&others).await;
        let (_, leading) = cluster.leader().await;
        let mut patience = Patience::default();
        while !node.log().waits_for_space() {
            patience.pause("the log to be without space").await;
        }
        let matching = leading
            .status()
            .progress
            .into_iter()
            .find(|progress| progress.node_id == node.node_id().0)
            .unwrap()
            .matching
            .unwrap();
        let durable = inspect_last(&cluster.disks[full]);
        assert!(
            matching.index <= durable,
            "acknowledged up to {} and durable up to {durable}",
            matching.index
        );
        assert!(durable < leading.log().state().last.unwrap().index);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(node.is_alive() && node.log().failure().is_none());
        assert!(node.state().quads() > 0, "reads go on");

        free(&cluster.disks[full]);
        cluster.agree(&[0, 1, 2]).await;
        assert!(!node.log().waits_for_space());
        // Nothing is wrong with what was written around the gap.
        let disk = cluster.disks[full].kill();
        cluster.restart(full, disk).await;
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
    });
}

/// Index of the last entry that the log on a disk has.
fn inspect_last(disk: &SimulatedDisk) -> u64 {
    let report = crate::recovery::verify_volume(
        &(Arc::new(disk.fork()) as crate::disk::SharedFileSystem),
        Path::new("/data"),
    );
    let last = report.log_last.unwrap();
    last.split_once('.').unwrap().1.parse().unwrap()
}

#[test]
fn a_node_starts_on_a_full_disk_serves_what_it_has_and_goes_on_with_space() {
    run(async {
        let mut cluster = running().await;
        for _ in 0..5 {
            cluster.write().await;
        }
        cluster.agree(&[0, 1, 2]).await;
        let (leader, _) = cluster.leader().await;
        let full = (leader + 1) % 3;
        cluster.members[full].kill(&cluster.wires).await;
        leave(&cluster.disks[full], 0);
        // Starting again and again on a full disk uses nothing up.
        for _ in 0..3 {
            let disk = cluster.disks[full].kill();
            cluster.restart(full, disk).await;
            cluster.nodes().await;
            cluster.agree(&[0, 1, 2]).await;
        }
        let node = cluster.members[full].node().await.unwrap();
        assert!(node.status().disk_is_short);
        assert_eq!(node.state().quads(), ENTRIES as u64 + 5);
        free(&cluster.disks[full]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!node.status().disk_is_short);
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
    });
}

/// A node that cannot go on says so; one on a full disk can.
#[test]
fn a_full_disk_ends_no_node() {
    run(async {
        let mut cluster = running().await;
        for disk in &cluster.disks {
            leave(disk, 0);
        }
        let nodes = cluster.nodes().await;
        let stopped = async {
            let (one, two, three) = (nodes[0].stopped(), nodes[1].stopped(), nodes[2].stopped());
            tokio::select! { reason = one => reason, reason = two => reason, reason = three => reason }
        };
        let ended: Result<StopReason, _> =
            tokio::time::timeout(Duration::from_secs(120), stopped).await;
        assert!(ended.is_err(), "{ended:?}");
        cluster.disks.iter().for_each(free);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
    });
}
