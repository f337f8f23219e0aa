//! Followers that lag, behind leaders that cannot read what they need.

use super::cluster::{Running, form, place_of, run};
use crate::disk::simulated::Damage;

const ENTRIES: usize = 3;
/// More than a leader reads ahead for a follower that it does not reach.
const MISSED: u64 = 80;

#[test]
fn a_leader_repairs_an_entry_before_it_sends_it() {
    run(async {
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
        let index = stopped.last_index + MISSED - 1;
        // After a restart it has nothing in memory of what it wrote before.
        for number in others {
            let disk = cluster.disks[number].kill();
            cluster.restart(number, disk).await;
        }
        let (leader, node) = cluster.leader().await;
        let disk = cluster.disks[leader].clone();
        let (path, location) = place_of(&disk, index);
        let damage = Damage::FlipBit {
            offset_bytes: location.offset_bytes + 60,
            bit: 1,
        };
        disk.damage(&path, damage).unwrap();
        assert_eq!(node.log().unreadable(), []);

        let disk = cluster.disks[lagging].kill();
        cluster.restart(lagging, disk).await;
        cluster.agree(&[0, 1, 2]).await;
        assert_eq!(node.repaired_from_peers().len(), 1);
    });
}
