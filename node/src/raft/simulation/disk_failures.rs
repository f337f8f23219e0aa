//! Disks that fail a write or a sync: the node stops at once, and nothing is tried again.

use std::time::Duration;

use super::super::StopReason;
use super::cluster::{Running, form, place_of, run};
use crate::disk::simulated::{Damage, Fault, FaultKind, OperationKind, SimulatedDisk};

const ENTRIES: usize = 3;
const LOG: &str = "/data/log";

async fn running() -> Running {
    let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
    Running::start(stopped.disks, ENTRIES).await
}

/// Operations on promises that came after the failure.
fn after_the_failure(disk: &SimulatedDisk) -> Vec<OperationKind> {
    let is_failure = |kind: &OperationKind| {
        matches!(
            kind,
            OperationKind::FailedSync | OperationKind::FailedSyncDirectory
        )
    };
    (1..=disk.operations())
        .filter_map(|ordinal| disk.operation(ordinal))
        .skip_while(|operation| !is_failure(&operation.kind))
        .skip(1)
        .filter(|operation| operation.path.starts_with(LOG) || operation.path.ends_with("vote"))
        .map(|operation| operation.kind)
        .collect()
}

/// Injects a fault into a follower's disk, goes on writing, and demands that the node stops for it.
fn stops_for(fault: Fault) {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let node = cluster.members[victim].node().await.unwrap();
        cluster.disks[victim].record();
        cluster.disks[victim].inject(fault);
        for _ in 0..60 {
            cluster.write().await;
        }
        let reason = tokio::time::timeout(Duration::from_secs(10), node.stopped())
            .await
            .unwrap();
        assert!(matches!(reason, StopReason::DiskFailed(_)), "{reason:?}");
        assert_eq!(cluster.disks[victim].faults_left(), 0);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = after_the_failure(&cluster.disks[victim]);
        assert!(after.is_empty(), "{after:?}");

        // The next start reads past the page cache, and the others make up for what is gone.
        let disk = cluster.disks[victim].kill();
        cluster.restart(victim, disk).await;
        cluster.nodes().await;
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
    });
}

#[test]
fn a_failed_sync_of_the_log_stops_the_node() {
    stops_for(Fault::next(FaultKind::SyncError).under(LOG));
}

#[test]
fn a_failed_sync_of_the_marks_behind_a_batch_stops_the_node() {
    stops_for(Fault::nth(FaultKind::SyncError, 2).under(LOG));
}

#[test]
fn a_failed_write_to_the_log_stops_the_node() {
    stops_for(Fault::next(FaultKind::WriteError).under(LOG));
}

#[test]
fn a_failed_sync_of_the_folder_of_the_log_stops_the_node() {
    stops_for(Fault::next(FaultKind::SyncDirectoryError).under(LOG));
}

#[test]
fn a_failed_sync_of_a_new_segment_stops_the_node() {
    stops_for(
        Fault::next(FaultKind::SyncError)
            .only_where(|path| path.extension().is_some_and(|extension| extension == "new")),
    );
}

#[test]
fn a_failed_sync_of_what_is_remembered_of_the_others_stops_the_node() {
    stops_for(Fault::next(FaultKind::SyncError).only_where(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("peers"))
    }));
}

#[test]
fn a_failed_sync_of_a_vote_stops_the_node() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let node = cluster.members[victim].node().await.unwrap();
        cluster.disks[victim].record();
        cluster.disks[victim].inject(Fault::next(FaultKind::SyncError).on("/data/vote"));
        // Its vote is asked for.
        cluster.members[leader].kill(&cluster.wires).await;
        let reason = tokio::time::timeout(Duration::from_secs(20), node.stopped())
            .await
            .unwrap();
        assert!(matches!(reason, StopReason::DiskFailed(_)), "{reason:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = after_the_failure(&cluster.disks[victim]);
        assert!(after.is_empty(), "{after:?}");
    });
}

#[test]
fn a_failed_sync_of_a_repair_stops_the_node() {
    run(async {
        let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
        let (path, location) = place_of(&stopped.disks[0], stopped.data_indices[1]);
        let disk = stopped.disks[0].fork();
        let offset_bytes = location.offset_bytes + 60;
        disk.damage(
            &path,
            Damage::FlipBit {
                offset_bytes,
                bit: 1,
            },
        )
        .unwrap();
        let disks = vec![
            disk.clone(),
            stopped.disks[1].fork(),
            stopped.disks[2].fork(),
        ];
        // Two syncs get the end of the log ready for writing; the next is that of the repair.
        disk.inject(Fault::nth(FaultKind::SyncError, 3).on(&path));
        let wires = super::wires::Wires::default();
        let mut members = Vec::new();
        disk.record();
        for disk in &disks {
            let started = super::cluster::Member::start(disk, &wires);
            members.push(started.map_err(|refusal| refusal.report).unwrap());
        }
        let log = members[0].log.clone().unwrap();
        tokio::time::timeout(Duration::from_secs(20), log.failed())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(disk.faults_left(), 0);
        let after = after_the_failure(&disk);
        assert!(after.is_empty(), "{after:?}");
    });
}
