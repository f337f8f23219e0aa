//! Power lost at any moment of a cluster's life: every volume opens with all that its node had
//! promised, and the cluster comes up with all that clients had been told (after Pillai et al.,
//! "All File Systems Are Not Created Equal", OSDI 2014).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::node::Node;
use super::super::types::MemberAddresses;
use super::cluster::{Member, Patience, Setup, insert, open_options, run};
use super::run::{NODES, SETUP, agreed, come_up, disks_at, record};
use super::wires::Wires;
use crate::disk::SharedFileSystem;
use crate::disk::simulated::{KeepNothing, SimulatedDisk, SplitMix};
use crate::log::LogStore;
use crate::recovery::open_volume;
use crate::state::Outcome;
use crate::testing::{cases, show_progress};

const STEPS: usize = 40;
const MOMENTS: u64 = 60;
/// Of so many moments the cluster is brought up again at one.
const COMES_UP_EVERY: u64 = 6;

/// A leader's followers may hold what the leader itself has not written yet. If it goes on leading
/// its term after a power loss, it gives the names of those entries to others.
#[test]
fn a_leader_that_lost_what_its_followers_hold_does_not_go_on_leading() {
    let disks: Vec<SimulatedDisk> = (0..NODES).map(|_| SimulatedDisk::new()).collect();
    let slow = Setup {
        start_log: LogStore::start_delayed::<40>,
        ..Setup::default()
    };
    run(async {
        let wires = Wires::default();
        let start = |disk, setup| {
            Member::start_as(disk, &wires, setup)
                .map_err(|refusal| refusal.report)
                .unwrap()
        };
        let mut members = vec![
            start(&disks[0], slow),
            start(&disks[1], Setup::default()),
            start(&disks[2], Setup::default()),
        ];
        let mut patience = Patience::default();
        let mut nodes = Vec::new();
        while nodes.len() < NODES {
            patience.pause("all nodes to start").await;
            nodes.clear();
            for member in &mut members {
                nodes.extend(member.node().await);
            }
        }
        let addresses = nodes
            .iter()
            .map(|node| (node.node_id().0, MemberAddresses::default()))
            .collect();
        nodes[0].initialise(addresses).await.unwrap();
        while !nodes[0].is_leader() {
            nodes[0].raft().trigger().elect(false).await.unwrap();
            for _ in 0..50 {
                patience.pause("the first node to lead").await;
            }
        }
        let leader = nodes[0].clone();
        write(&leader, 0).await;
        assert!(leader.state().applied() <= leader.log().durable_last());
        // The followers have the next one at once; the leader's disk would need a while.
        let command = insert(1, leader.state().data_index(), 10);
        let raft = leader.raft().clone();
        let writing = tokio::spawn(async move { raft.client_write(command).await });
        let durable = |node: &Arc<Node>| node.log().durable_last();
        let before = durable(&leader);
        while durable(&nodes[1]) <= before || durable(&nodes[2]) <= before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(durable(&leader), before);
        let lost = disks[0].crash(&mut KeepNothing);
        writing.abort();
        let id = members[0].id;
        wires.cut(id);
        drop((leader, nodes));
        let _ = members[0].stop().await;
        members[0] = start(&lost, Setup::default());

        let mut written = false;
        let found = loop {
            patience.pause("the nodes to agree").await;
            let mut leader = None;
            for member in &mut members {
                leader = leader.or(member.node().await.filter(|node| node.is_leader()));
            }
            if let Some(leader) = leader
                && !written
            {
                write(&leader, 2).await;
                written = true;
            }
            if let Some(found) = agreed(&mut members).await.unwrap()
                && written
            {
                break found;
            }
        };
        // Nobody was told of the second one; but two of three have it.
        assert_eq!(found, BTreeSet::from([0, 1, 2]));
    });
}

async fn write(leader: &Arc<Node>, quad: usize) {
    let command = insert(quad, leader.state().data_index(), 10);
    let written = leader.raft().client_write(command).await.unwrap();
    assert!(matches!(written.data.0, Outcome::Applied(_)));
}

#[test]
fn a_power_loss_at_any_moment_breaks_no_promise() {
    let runs = cases(30).min(700);
    let mut opened = 0;
    let mut came_up = 0;
    let mut torn = 0;
    let mut repaired = 0;
    let mut backups = 0;
    for seed in 0..runs {
        show_progress("recorded clusters", seed, runs);
        let recorded = record(seed, STEPS);
        repaired += recorded.counts.repaired;
        backups += recorded.counts.backups;
        assert!(recorded.counts.written > 0, "run {seed} wrote nothing");
        let mut random = SplitMix::new(seed);
        for number in 0..MOMENTS {
            let moment = if number == 0 {
                recorded.history.end()
            } else {
                recorded.history.moment(&mut random)
            };
            let disks = disks_at(&recorded, &moment, random.next_u64());
            let context = || format!("run {seed}, moment {number} ({:?})", moment.points);
            for (node, disk) in disks.iter().enumerate() {
                // The volume is opened on a copy: the cluster starts from the disk as it was left.
                let file_system: SharedFileSystem = Arc::new(disk.fork());
                let (volume, report) =
                    open_volume(&file_system, &open_options()).unwrap_or_else(|refusal| {
                        panic!("{}, node {node}: {:?}", context(), refusal.report)
                    });
                torn += usize::from(report.torn_tail_truncated_bytes > 0);
                recorded
                    .history
                    .check(node, &moment, &volume)
                    .unwrap_or_else(|error| panic!("{}, node {node}: {error}", context()));
                drop(volume);
                // What the first start mended, the next one finds mended.
                if let Err(refusal) = open_volume(&file_system, &open_options()) {
                    panic!("{}, node {node}, again: {:?}", context(), refusal.report);
                }
                opened += 1;
            }
            if number % COMES_UP_EVERY == 0 && recorded.history.was_formed(&moment) {
                let found = run(come_up(&disks, SETUP));
                let found = found.unwrap_or_else(|error| panic!("{}: {error}", context()));
                recorded
                    .history
                    .check_quads(&moment, &found)
                    .unwrap_or_else(|error| panic!("{}: {error}", context()));
                came_up += 1;
            }
        }
    }
    println!(
        "power loss of clusters: {runs} runs, {opened} volumes opened ({torn} with a torn tail), \
         {came_up} clusters came up, {repaired} entries repaired and {backups} backups taken in the \
         runs, 0 unsafe"
    );
    assert!(opened >= 5_000 && came_up > 200 && torn > 50 && repaired > 3 && backups > 20);
}
