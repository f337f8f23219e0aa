//! A volume that was set back in time is refused before it takes part.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use quadraft_protocol::NodeId;

use super::peers::Peers;
use super::repair::PeerEntries;
use super::seen::{SeenFile, SetBack};
use crate::entry::other_members;
use crate::log::LogStore;
use crate::state::State;

/// How long a node that starts waits for what the others have seen of it. One that hears nobody goes
/// on: whoever asks it for a vote or gives it entries tells what it has seen, and is checked then.
const DEADLINE: Duration = Duration::from_secs(3);
/// How often what was seen of the others is written down.
const INTERVAL: Duration = Duration::from_secs(3);
/// Beyond so many, only members are kept.
const MAXIMUM_REMEMBERED: usize = 32;

/// Asks all other members what they have seen of this node.
///
/// # Errors
/// When one has seen more than this volume has.
pub(super) async fn ask_members(
    peers: &Peers,
    members: &Arc<dyn PeerEntries>,
) -> Result<(), SetBack> {
    let asked = members.peers();
    let answers = join_all(asked.iter().map(|peer| async {
        let answer = tokio::time::timeout(DEADLINE, members.seen(*peer)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
    }))
    .await;
    let marks = peers.marks();
    for (peer, answer) in asked.iter().zip(answers) {
        match answer {
            Ok(Some(seen)) => peers.compare(seen, marks, true)?,
            Ok(None) => {}
            Err(error) => {
                tracing::info!(peer = %NodeId(*peer), %error, "a member does not say what it has seen");
            }
        }
    }
    Ok(())
}

/// Writes down what is seen of the others, now and then, for as long as anybody else has the peers.
pub(super) fn start_remembering(
    peers: &Arc<Peers>,
    state: Arc<State>,
    log: LogStore,
    mut file: SeenFile,
) {
    let weak = Arc::downgrade(peers);
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once.
        interval.tick().await;
        loop {
            interval.tick().await;
            let Some(peers) = weak.upgrade() else {
                return;
            };
            let Some(mut table) = peers.news() else {
                continue;
            };
            if table.0.len() > MAXIMUM_REMEMBERED {
                let membership = state.membership();
                let members: BTreeSet<u64> = other_members(membership.as_deref(), NodeId(0))
                    .into_keys()
                    .collect();
                peers.forget_others(|node_id| members.contains(&node_id));
                table.0.retain(|node_id, _| members.contains(node_id));
            }
            let saving = tokio::task::spawn_blocking(move || {
                let saved = file.save(&table);
                (file, saved)
            });
            match saving.await {
                Ok((kept, Ok(()))) => file = kept,
                Ok((kept, Err(error))) if error.is_out_of_space() => {
                    tracing::warn!(%error, "what was seen of the others is not written down");
                    file = kept;
                }
                Ok((_, Err(error))) => {
                    log.stop_for(&crate::describe::describe(&error));
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "writing down what was seen broke off");
                    return;
                }
            }
        }
    });
}
