//! Volumes that come back as they were some time ago.

use std::time::Duration;

use super::super::node::NodeError;
use super::super::retirement::Retired;
use super::cluster::{Member, Patience, Running, form, place_of, run};
use super::wires::Wires;
use crate::disk::SharedFileSystem;
use crate::disk::simulated::{Damage, SeededChoice, SimulatedDisk, SplitMix};
use crate::identity::VoteFile;

const ENTRIES: usize = 3;

fn vote_on(disk: &SimulatedDisk) -> Option<crate::identity::StoredVote> {
    let shared: SharedFileSystem = std::sync::Arc::new(disk.fork());
    let opened = VoteFile::open(shared, "/data".as_ref(), crate::disk::OpenMode::Read);
    opened.unwrap().0.current()
}

/// How a member that is being started ends, when it does not run.
async fn refusal(member: &mut Member) -> NodeError {
    let mut patience = Patience::default();
    loop {
        match member.started().await {
            None => patience.pause("a start to end").await,
            Some(Ok(node)) => panic!("node {} runs", node.node_id()),
            Some(Err(error)) => return error,
        }
    }
}

async fn running() -> Running {
    let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
    Running::start(stopped.disks, ENTRIES).await
}

#[test]
fn an_older_copy_of_a_volume_is_refused_before_it_promises_anything() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        // Copied while the node runs.
        let copy = cluster.disks[victim].kill();
        for _ in 0..5 {
            cluster.write().await;
        }
        cluster.agree(&[0, 1, 2]).await;
        cluster.members[victim].kill(&cluster.wires).await;
        let vote = vote_on(&copy);
        cluster.members[victim] = Member::start(&copy, &cluster.wires)
            .map_err(|refusal| refusal.report)
            .unwrap();
        let error = refusal(&mut cluster.members[victim]).await;
        assert!(
            matches!(error, NodeError::Retired(Retired::SetBack(_))),
            "{error}"
        );
        assert_eq!(vote_on(&copy), vote);
        // From now on the volume itself says so.
        let refused = Member::start(&copy.kill(), &Wires::default())
            .err()
            .unwrap();
        assert_eq!(
            refused.report.reason,
            Some(quadraft_protocol::RefusalReason::SetBack)
        );
        cluster.write().await;
    });
}

#[test]
fn what_was_seen_outlives_a_start_of_everybody() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let copy = cluster.disks[victim].kill();
        for _ in 0..5 {
            cluster.write().await;
        }
        cluster.agree(&[0, 1, 2]).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        for member in &mut cluster.members {
            member.kill(&cluster.wires).await;
        }
        for number in 0..3 {
            let disk = if number == victim {
                copy.clone()
            } else {
                cluster.disks[number].kill()
            };
            cluster.members[number] = Member::start(&disk, &cluster.wires)
                .map_err(|refusal| refusal.report)
                .unwrap();
            cluster.disks[number] = disk;
        }
        let error = refusal(&mut cluster.members[victim]).await;
        assert!(
            matches!(error, NodeError::Retired(Retired::SetBack(_))),
            "{error}"
        );
        cluster.write().await;
    });
}

/// The member that saw it is away; it had told the third.
#[test]
fn what_one_member_saw_is_known_to_the_third() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let copy = cluster.disks[victim].kill();
        for _ in 0..5 {
            cluster.write().await;
        }
        cluster.agree(&[0, 1, 2]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.members[leader].kill(&cluster.wires).await;
        cluster.members[victim].kill(&cluster.wires).await;
        cluster.members[victim] = Member::start(&copy, &cluster.wires)
            .map_err(|refusal| refusal.report)
            .unwrap();
        let error = refusal(&mut cluster.members[victim]).await;
        assert!(
            matches!(error, NodeError::Retired(Retired::SetBack(_))),
            "{error}"
        );
    });
}

/// The others have let the entry go: they have its data in their snapshots.
#[test]
fn an_entry_that_is_in_snapshots_only_comes_from_a_snapshot() {
    run(async {
        let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
        let (path, location) = place_of(&stopped.disks[1], stopped.data_indices[1]);
        let mut cluster = Running::start(stopped.disks, ENTRIES).await;
        let (leader, _) = cluster.leader().await;
        let victim = 1;
        if leader == victim {
            let (_, node) = cluster.leader().await;
            let deadline = Duration::from_secs(10);
            node.transfer_leadership(None, deadline).await.unwrap();
        }
        cluster.agree(&[0, 1, 2]).await;
        cluster.members[victim].kill(&cluster.wires).await;
        for number in [0, 2] {
            let node = cluster.members[number].node().await.unwrap();
            node.take_snapshot(Duration::from_secs(10)).await.unwrap();
            let upto = stopped.data_indices[1];
            node.raft().trigger().purge_log(upto).await.unwrap();
            let mut patience = Patience::default();
            while node.log().state().purged.map(|purged| purged.index) < Some(upto) {
                patience.pause("the log to be purged").await;
            }
        }
        let disk = cluster.disks[victim].kill();
        let offset_bytes = location.offset_bytes + 60;
        let flip = Damage::FlipBit {
            offset_bytes,
            bit: 1,
        };
        disk.damage(&path, flip).unwrap();
        cluster.members[victim] = Member::start(&disk, &cluster.wires)
            .map_err(|refusal| refusal.report)
            .unwrap();
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
        let node = cluster.members[victim].node().await.unwrap();
        assert_eq!(node.log().unreadable(), []);
        let purged = node.log().state().purged.map(|purged| purged.index);
        assert!(purged >= Some(stopped.data_indices[1]), "{purged:?}");
    });
}

/// Nobody answers while it starts: the first call that it gets tells.
#[test]
fn a_node_that_could_ask_nobody_stops_at_the_first_call() {
    run(async {
        let mut cluster = running().await;
        let (leader, _) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let copy = cluster.disks[victim].kill();
        for _ in 0..5 {
            cluster.write().await;
        }
        cluster.agree(&[0, 1, 2]).await;
        cluster.members[victim].kill(&cluster.wires).await;
        let vote = vote_on(&copy);
        let alone = Wires::default();
        let mut member = Member::start(&copy, &alone)
            .map_err(|refusal| refusal.report)
            .unwrap();
        let mut patience = Patience::default();
        let node = loop {
            match member.node().await {
                Some(node) => break node,
                None => patience.pause("the node to start").await,
            }
        };
        cluster.wires.serve(&node);
        let reason = tokio::time::timeout(Duration::from_secs(20), node.stopped())
            .await
            .unwrap();
        assert!(
            matches!(
                reason,
                super::super::StopReason::Retired(Retired::SetBack(_))
            ),
            "{reason:?}"
        );
        let now = vote_on(&copy).unwrap();
        // It may have called an election that nobody heard; it followed nobody.
        assert!(now.candidate == node.node_id() || Some(now) == vote);
        assert!(!node.is_leader());
    });
}

#[test]
fn a_node_that_lost_nothing_that_it_promised_is_never_refused() {
    let seeds = 12;
    let mut restarts = 0;
    for seed in 0..seeds {
        restarts += run(async move {
            let mut random = SplitMix::new(seed);
            let mut cluster = running().await;
            let mut restarts = 0;
            for _ in 0..12 {
                for _ in 0..random.below(4) {
                    cluster.write().await;
                }
                tokio::time::sleep(Duration::from_millis(random.below(4000) as u64)).await;
                let victim = random.below(3);
                let disk = if random.below(2) == 0 {
                    cluster.disks[victim].kill()
                } else {
                    cluster.disks[victim].crash(&mut SeededChoice::new(random.next_u64()))
                };
                cluster.restart(victim, disk).await;
                if random.below(2) == 0 {
                    cluster.nodes().await;
                }
                restarts += 1;
            }
            cluster.nodes().await;
            cluster.write().await;
            cluster.agree(&[0, 1, 2]).await;
            restarts
        });
    }
    println!("{restarts} restarts, none refused");
    assert_eq!(restarts, 12 * seeds);
}
