//! The leader's death while a client writes.

use std::time::Duration;

use super::cluster::TestCluster;
use super::kubectl::wait_until;
use super::setup::kill_node_process;
use crate::local::Writer;

const PATIENCE: Duration = Duration::from_secs(120);
/// Writing goes on for so long before and after, so that the gap between two acknowledgements is
/// that of the crash and not of a writer that had just begun.
const STEADY: Duration = Duration::from_secs(3);

/// What a client saw of the leader's death.
#[derive(Clone, Debug)]
pub struct Interruption {
    /// The pod that led.
    pub pod: String,
    pub acknowledged: usize,
    /// The longest time between two acknowledged writes.
    pub longest_gap: Duration,
}

/// Ends the leader by SIGKILL while a client writes through the Service, waits until the member is
/// back, and checks that every acknowledged write is on every member. `name` tells this client's
/// writes from those of others.
///
/// # Errors
/// When an acknowledged write is missing, or something does not come in time.
pub async fn kill_leader_while_writing(
    cluster: &TestCluster,
    replicas: u32,
    name: &str,
) -> Result<Interruption, String> {
    let writer = Writer::start(vec![cluster.service_url("/update")], name, PATIENCE);
    tokio::time::sleep(STEADY).await;
    let leader = cluster.leader(replicas).await?;
    let pod = cluster.pod(leader);
    kill_node_process(&cluster.kubectl, &pod).await?;
    wait_until("the killed member to be back", PATIENCE, || async {
        cluster.member(leader).await.filter(|member| member.ready)
    })
    .await?;
    tokio::time::sleep(STEADY).await;
    let written = writer.finish().await?;
    for slot in 0..replicas {
        let found = cluster.numbers(Some(slot), name).await?;
        let missing = written.acknowledged.difference(&found).count();
        if missing > 0 {
            return Err(format!(
                "{missing} acknowledged writes are missing on {}",
                cluster.pod(slot)
            ));
        }
    }
    Ok(Interruption {
        pod,
        acknowledged: written.acknowledged.len(),
        longest_gap: written.longest_gap,
    })
}
