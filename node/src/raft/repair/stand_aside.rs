//! Standing aside over an entry that nobody can give.
//!
//! A leader that holds an entry which it can neither read nor get sends nothing from there on, and
//! goes on being the leader, as its heartbeats need no entry: nothing can be written any more. When
//! a majority does not have the entry, it was never committed, and one of them can lead; then the
//! entry is taken back. Raft hands leadership only to who has all of the leader's log, so the leader
//! falls silent instead, until the others have elected one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::super::node::Node;
use super::Repairer;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;

/// As long as this, in election timeouts, a leader is silent: by then the others have elected another
/// one, or cannot.
const SILENCE_ELECTION_TIMEOUTS: u32 = 10;
const POLL: Duration = Duration::from_millis(50);

/// Falls silent whenever this node leads, holds an entry that is not applied and that nobody can
/// give, and a majority does not have it.
pub(crate) fn start_standing_aside(node: &Arc<Node>) {
    let repairer = Arc::downgrade(node.repairer());
    let node = Arc::downgrade(node);
    tokio::spawn(async move {
        while let Some((entry, lacking)) = Repairer::next_obstacle(&repairer).await {
            let Some(leader) = node.upgrade() else {
                return;
            };
            let silence = leader.options().election_timeout() * SILENCE_ELECTION_TIMEOUTS;
            if stands_in_the_way(&leader, &lacking) && !is_planted(Bug::LeadsOverUnreadable) {
                drop(leader);
                stand_aside(&node, entry, Instant::now() + silence).await;
            }
        }
    });
}

fn stands_in_the_way(node: &Node, lacking: &[u64]) -> bool {
    let metrics = node.raft().metrics();
    let metrics = metrics.borrow_watched();
    let configurations = metrics.membership_config.membership().get_joint_config();
    metrics.state.is_leader() && is_majority_of_each(lacking, configurations)
}

/// Whether these members are a majority of the voters in each of the configurations: then no other
/// majority has what they do not have (Ongaro, "Consensus: Bridging Theory and Practice", 2014,
/// section 4.3).
fn is_majority_of_each(members: &[u64], configurations: &[BTreeSet<u64>]) -> bool {
    configurations.iter().all(|voters| {
        let lacking = voters.iter().filter(|voter| members.contains(voter));
        lacking.count() * 2 > voters.len()
    })
}

/// Neither heartbeats nor elections come from this node until the entry is taken back, or `until`.
async fn stand_aside(node: &Weak<Node>, entry: LogPosition, until: Instant) {
    tracing::warn!(%entry, "no member can give an entry that was never committed, and this node cannot \
        read it: it lets others lead, who do not have it");
    let tick = |enabled| {
        let node = node.upgrade().filter(|node| !node.is_stopping())?;
        node.raft().runtime_config().tick(enabled);
        Some(node)
    };
    while let Some(node) = tick(false) {
        let is_held = node.log().unreadable().contains(&entry);
        drop(node);
        if !is_held || Instant::now() > until {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    tick(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_one_in_each_configuration() {
        let voters = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let three = [voters(&[1, 2, 3])];
        assert!(is_majority_of_each(&[2, 3], &three));
        assert!(!is_majority_of_each(&[3], &three));
        assert!(!is_majority_of_each(&[3, 4, 5], &three));
        assert!(!is_majority_of_each(&[1, 2], &[voters(&[1, 2, 3, 4])]));
        let joint = [voters(&[1, 2, 3]), voters(&[3, 4, 5])];
        assert!(!is_majority_of_each(&[2, 3], &joint));
        assert!(is_majority_of_each(&[2, 3, 4], &joint));
    }
}
