//! Followers that lag, behind leaders that cannot read what they need.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;

use super::cluster::{Patience, Running, form, insert, place_of, run};
use crate::disk::simulated::{Damage, SimulatedDisk};

const ENTRIES: usize = 3;
/// More than a leader reads ahead for a follower that it does not reach.
const MISSED: u64 = 80;

/// A cluster one of whose members is down and has missed entries, of which the others, started since,
/// have nothing in memory: its number, and the index of the last of them.
async fn with_a_lagging_member() -> (Running, usize, u64) {
    let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
    let mut cluster = Running::start(stopped.disks, ENTRIES).await;
    let (leader, _) = cluster.leader().await;
    let lagging = (leader + 1) % 3;
    let others = [leader, (leader + 2) % 3];
    cluster.members[lagging].kill(&cluster.wires).await;
    for _ in 0..MISSED {
        cluster.write().await;
    }
    cluster.agree(&others).await;
    for number in others {
        let disk = cluster.disks[number].kill();
        cluster.restart(number, disk).await;
    }
    cluster.agree(&others).await;
    (cluster, lagging, stopped.last_index + MISSED - 1)
}

fn damage_payload(disk: &SimulatedDisk, index: u64) {
    let (path, location) = place_of(disk, index);
    let damage = Damage::FlipBit {
        offset_bytes: location.offset_bytes + 60,
        bit: 1,
    };
    disk.damage(&path, damage).unwrap();
}

#[test]
fn a_leader_repairs_an_entry_before_it_sends_it() {
    run(async {
        let (mut cluster, lagging, index) = with_a_lagging_member().await;
        let (leader, node) = cluster.leader().await;
        damage_payload(&cluster.disks[leader], index);
        assert_eq!(node.log().unreadable(), []);

        let disk = cluster.disks[lagging].kill();
        cluster.restart(lagging, disk).await;
        cluster.agree(&[0, 1, 2]).await;
        assert_eq!(node.repaired_from_peers().len(), 1);
    });
}

/// What it did is applied on both members that had it: a snapshot takes its place.
#[test]
fn what_nobody_can_send_any_more_is_sent_as_a_snapshot() {
    run(async {
        let (mut cluster, lagging, index) = with_a_lagging_member().await;
        for number in (0..3).filter(|number| *number != lagging) {
            // These nodes have their store in memory, and restore it from this.
            let node = cluster.members[number].node().await.unwrap();
            node.take_snapshot(Duration::from_secs(10)).await.unwrap();
            assert_eq!(node.log().state().purged, None);
            damage_payload(&cluster.disks[number], index);
        }
        let disk = cluster.disks[lagging].kill();
        cluster.restart(lagging, disk).await;
        let mut patience = Patience::default();
        loop {
            for number in 0..3 {
                let node = cluster.members[number].node().await;
                // What a pod's restart does.
                if node.is_some_and(|node| !node.is_alive()) {
                    let disk = cluster.disks[number].kill();
                    cluster.restart(number, disk).await;
                }
            }
            let node = cluster.members[lagging].node().await;
            let applied = node.and_then(|node| node.state().applied());
            if applied.is_some_and(|applied| applied.index >= index) {
                break;
            }
            patience.pause("the lagging member to catch up").await;
        }
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
        let node = cluster.members[lagging].node().await.unwrap();
        let purged = node.log().state().purged.map(|purged| purged.index);
        assert!(purged >= Some(index), "{purged:?}");
    });
}

/// Nobody but the leader has it, and the leader cannot read it: as long as it leads, nothing can be
/// written.
#[test]
fn leadership_goes_away_from_an_entry_that_nobody_can_give() {
    run(async {
        let stopped = tokio::task::spawn_blocking(|| form(ENTRIES)).await.unwrap();
        let mut cluster = Running::start(stopped.disks, ENTRIES).await;
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
        let (leader, node) = cluster.leader().await;
        let mut others = cluster.nodes().await;
        others.remove(leader);
        for other in &others {
            other.raft().runtime_config().elect(false);
        }
        let ids = others.iter().map(|other| other.node_id().0);
        cluster.wires.cut_off(ids);
        let before = node.log().state().last.map_or(0, |last| last.index);
        let base = node.state().data_index();
        // The first one is in memory no more when all of them are appended.
        for number in 0..=40 {
            let node = node.clone();
            tokio::spawn(async move {
                let bytes = if number == 0 { 700 } else { 1 << 20 };
                let command = insert(1_000 + number, base, bytes);
                // Nobody acknowledges it.
                let _ = node.raft().client_write(command).await;
            });
        }
        let last = before + 41;
        let mut patience = Patience::default();
        while node.log().state().last.map(|last| last.index) < Some(last) {
            patience.pause("the entries to be appended").await;
        }
        damage_payload(&cluster.disks[leader], before + 1);
        // What it read ahead for the others it forgets when it is elected anew, which it is, as
        // they have seen another term.
        let term = node.raft().metrics().borrow_watched().current_term;
        for other in &others {
            other.raft().trigger().elect(false).await.unwrap();
            let mut patience = Patience::default();
            while other.raft().metrics().borrow_watched().current_term <= term {
                patience.pause("another term").await;
            }
        }
        cluster.wires.cut_off([]);
        let mut patience = Patience::default();
        while !(node.is_leader() && node.raft().metrics().borrow_watched().current_term > term) {
            patience.pause("the leader to lead again").await;
        }
        for other in &others {
            other.raft().runtime_config().elect(true);
        }
        let mut patience = Patience::default();
        while node.is_leader() {
            patience.pause("another leader").await;
        }
        assert!(node.raft().metrics().borrow_watched().current_term > term + 1);
        drop(others);
        cluster.write().await;
        cluster.agree(&[0, 1, 2]).await;
        assert_eq!(node.log().unreadable(), []);
        assert_eq!(node.repaired_from_peers(), []);
    });
}
