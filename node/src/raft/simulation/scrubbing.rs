//! Damage that is found while whole clusters run.

use std::sync::Arc;
use std::time::Duration;

use super::super::node::Node;
use super::cluster::{Member, Patience, Stopped, form, insert, place_of, run};
use super::wires::Wires;
use crate::disk::Unthrottled;
use crate::disk::simulated::{Damage, SimulatedDisk};

const DEADLINE: Duration = Duration::from_secs(60);

fn forks(stopped: &Stopped) -> Vec<SimulatedDisk> {
    stopped.disks.iter().map(SimulatedDisk::fork).collect()
}

async fn start(disks: &[SimulatedDisk], wires: &Wires) -> Vec<Arc<Node>> {
    let mut members: Vec<Member> = disks
        .iter()
        .map(|disk| {
            Member::start(disk, wires)
                .map_err(|refusal| refusal.report)
                .unwrap()
        })
        .collect();
    let mut nodes = Vec::new();
    let mut patience = Patience::default();
    while nodes.len() < members.len() {
        patience.pause("all nodes to start").await;
        nodes.clear();
        for member in &mut members {
            nodes.extend(member.node().await);
        }
    }
    nodes
}

async fn leader_of(nodes: &[Arc<Node>]) -> usize {
    let mut patience = Patience::default();
    loop {
        patience.pause("a leader").await;
        if let Some(leader) = nodes.iter().position(|node| node.is_leader()) {
            return leader;
        }
    }
}

fn flip(offset_bytes: u64) -> Damage {
    Damage::FlipBit {
        offset_bytes,
        bit: 3,
    }
}

#[test]
fn an_entry_that_scrubbing_finds_is_fetched_from_a_peer_while_all_run() {
    let stopped = form(4);
    let disks = forks(&stopped);
    let places: Vec<_> = (0..3)
        .map(|node| place_of(&disks[node], stopped.data_indices[node]))
        .collect();
    run(async {
        let wires = Wires::default();
        let nodes = start(&disks, &wires).await;
        leader_of(&nodes).await;
        for (disk, (path, location)) in disks.iter().zip(&places) {
            disk.damage(path, flip(location.offset_bytes + 60)).unwrap();
        }
        for (node, (_, location)) in nodes.iter().zip(&places) {
            let mut chain = None;
            let mut found = Vec::new();
            for number in node.log().scrub_extent().0 {
                let scrub = node
                    .log()
                    .scrub_segment(number, &mut chain, &mut Unthrottled)
                    .unwrap()
                    .unwrap();
                assert!(scrub.lost.is_none() && scrub.mended.is_empty(), "{scrub:?}");
                found.extend(scrub.unreadable);
            }
            assert_eq!(found, [location.position]);
        }
        let mut patience = Patience::default();
        for (node, (_, location)) in nodes.iter().zip(&places) {
            while !node.log().unreadable().is_empty() {
                patience.pause("the repair").await;
            }
            assert_eq!(node.repaired_from_peers(), [location.position]);
            let index = location.position.index;
            assert_eq!(node.log().read(index, index + 1, 1).unwrap().len(), 1);
        }
    });
}

#[test]
fn a_damaged_snapshot_is_neither_sent_nor_taken() {
    let stopped = form(2);
    let disks = forks(&stopped);
    run(async {
        let wires = Wires::default();
        let mut nodes = start(&disks[..2], &wires).await;
        let leader = leader_of(&nodes).await;
        let (disk, leader) = (&disks[leader], nodes[leader].clone());
        let mut last = 0;
        for number in 10..14 {
            let written = leader
                .raft()
                .client_write(insert(number, leader.state().data_index(), 700))
                .await
                .unwrap();
            last = written.log_id.index;
        }
        // The third member has to be given a snapshot: the log is gone.
        leader.let_go(last, DEADLINE).await.unwrap();
        let damaged = leader.keeper().current().unwrap();
        disk.damage(damaged.path(), flip(damaged.summary().bytes / 2))
            .unwrap();
        wires.damage_snapshots(2);
        nodes.extend(start(&disks[2..], &wires).await);
        let mut patience = Patience::default();
        while nodes[2].state().applied() < leader.state().applied() {
            patience.pause("the third member to catch up").await;
        }
        assert_eq!(nodes[2].state().digest(), leader.state().digest());
        assert_eq!(wires.refused_snapshots(), 2, "damaged on the way");
        let quarantined = |disk: &SimulatedDisk| {
            disk.files()
                .iter()
                .filter(|path| path.starts_with("/data/quarantine"))
                .count()
        };
        assert_eq!(quarantined(disk), 1, "damaged where it lay");
        assert_eq!(quarantined(&disks[2]), 0);
        assert!(leader.keeper().is_whole());
    });
}
