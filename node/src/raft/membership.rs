//! Changes of the membership, one step at a time, each on the membership its caller saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, Precondition};
use quadraft_protocol::{NodeId, v1};

use super::codec::addresses;
use super::failure::MembershipFailure;
use super::forward::leader_name;
use super::node::Node;
use super::space::Candidate;
use super::types::{MemberAddresses, StoredMembership, TypeConfig, to_position};

/// A change waits for a majority; without one its outcome is unknown.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A learner this many entries behind the leader still counts as caught up.
const MAXIMUM_PROMOTION_LAG_ENTRIES: u64 = 64;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    AddLearner(u64, MemberAddresses),
    Promote(u64),
    Remove(u64),
    Update(u64, MemberAddresses),
}

impl Node {
    /// Makes the first membership of a cluster. True when this very membership had been made
    /// before.
    pub(crate) async fn initialise(
        &self,
        members: BTreeMap<u64, MemberAddresses>,
    ) -> Result<bool, MembershipFailure> {
        let voters: BTreeSet<u64> = members.keys().copied().collect();
        match self.raft().initialize(members).await {
            Ok(()) => Ok(false),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                let current = self.membership();
                if current.voter_ids().any(|id| voters.contains(&id)) {
                    Ok(true)
                } else {
                    Err(MembershipFailure::Precondition(
                        "this node has a log or a vote already, of another membership".to_owned(),
                    ))
                }
            }
            Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                Err(MembershipFailure::Precondition(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(MembershipFailure::Stopped),
        }
    }

    /// As [`Self::initialise`], for members as the protocol names them.
    ///
    /// # Errors
    /// When this node has another history already.
    pub async fn initialise_with(&self, members: Vec<v1::Member>) -> Result<(), MembershipFailure> {
        let members = members
            .iter()
            .map(|member| (member.node_id, addresses(member)))
            .collect();
        self.initialise(members).await.map(|_| ())
    }

    /// Whether this node has a membership: its cluster was initialised.
    #[must_use]
    pub fn has_membership(&self) -> bool {
        self.membership().nodes().next().is_some()
    }

    /// The membership in force here.
    pub(crate) fn membership(&self) -> StoredMembership {
        self.raft()
            .metrics()
            .borrow_watched()
            .membership_config
            .as_ref()
            .clone()
    }

    /// Changes the membership by one step, when it is still the one at `expected_index`.
    pub(crate) async fn change_membership(
        &self,
        step: Step,
        expected_index: u64,
    ) -> Result<StoredMembership, MembershipFailure> {
        let current = self.membership();
        let current_log_id = *current.log_id();
        let current_index = current_log_id
            .as_ref()
            .map(|log_id| to_position(log_id).index);
        if current_index != Some(expected_index) {
            return Err(MembershipFailure::Precondition(format!(
                "the membership changed: it is at index {current_index:?}, expected {expected_index}"
            )));
        }
        self.check(&step, &current)?;
        let retain = !matches!(step, Step::Remove(_));
        let change = match step {
            Step::AddLearner(id, addresses) => {
                ChangeMembers::AddNodes(BTreeMap::from([(id, addresses)]))
            }
            Step::Promote(id) => ChangeMembers::AddVoterIds(BTreeSet::from([id])),
            Step::Remove(id) if current.voter_ids().any(|voter| voter == id) => {
                ChangeMembers::RemoveVoters(BTreeSet::from([id]))
            }
            Step::Remove(id) => ChangeMembers::RemoveNodes(BTreeSet::from([id])),
            Step::Update(id, addresses) => {
                ChangeMembers::SetNodes(BTreeMap::from([(id, addresses)]))
            }
        };
        let precondition = Precondition::LastMembershipLogId {
            last_membership_log_id: current_log_id,
        };
        let changing = self
            .raft()
            .change_membership_if(change, retain, [precondition]);
        match tokio::time::timeout(CHANGE_TIMEOUT, changing).await {
            Err(_) => Err(MembershipFailure::TimedOut),
            Ok(Ok(_)) => Ok(self.membership()),
            Ok(Err(error)) => Err(to_failure(error)),
        }
    }

    /// What openraft does not check: that a step makes sense and hurts nobody.
    fn check(&self, step: &Step, current: &StoredMembership) -> Result<(), MembershipFailure> {
        let refuse = |text: String| Err(MembershipFailure::Precondition(text));
        let known = |id: u64| current.get_node(&id).is_some();
        match step {
            Step::AddLearner(id, _) if *id == 0 => refuse("a node id is never zero".to_owned()),
            Step::AddLearner(id, _) if known(*id) => {
                refuse(format!("node {} is a member already", NodeId(*id)))
            }
            Step::Promote(id) | Step::Remove(id) | Step::Update(id, _) if !known(*id) => {
                refuse(format!("node {} is not a member", NodeId(*id)))
            }
            Step::Remove(id) if *id == self.node_id().0 => {
                refuse("the leader is not removed: transfer leadership first".to_owned())
            }
            Step::Promote(id) => {
                let metrics = self.raft().metrics();
                let metrics = metrics.borrow_watched();
                let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
                let matching = metrics
                    .replication
                    .as_ref()
                    .and_then(|replication| replication.get(id).copied().flatten())
                    .map(|log_id| to_position(&log_id).index);
                let lag = next(metrics.last_log_index).saturating_sub(next(matching));
                if lag > MAXIMUM_PROMOTION_LAG_ENTRIES {
                    return refuse(format!("node {} is {lag} entries behind", NodeId(*id)));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The voters that leadership could be handed to, with what they say of their disks.
    pub(super) fn successors(&self) -> Vec<Candidate> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let replication = metrics.replication.iter().flatten();
        replication
            .filter(|(id, _)| voters.contains(id) && **id != self.node_id().0)
            .filter(|(id, _)| self.is_responsive(**id, &metrics))
            .filter_map(|(id, matching)| {
                Some(Candidate {
                    node_id: *id,
                    matching_index: to_position(matching.as_ref()?).index,
                    disk_is_short: self.peers().disk_is_short(*id),
                })
            })
            .collect()
    }

    /// Hands leadership to `to` (or to the voter whose log matches furthest) and waits until it
    /// leads. The library neither checks the target nor reports: both are done here.
    pub(crate) async fn transfer_leadership(
        &self,
        to: Option<u64>,
        deadline: Duration,
    ) -> Result<(u64, u64), MembershipFailure> {
        let until = Instant::now() + deadline;
        let target = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            if !metrics.state.is_leader() {
                return Err(MembershipFailure::NotLeader {
                    leader: metrics.current_leader,
                });
            }
            if to == Some(self.node_id().0) {
                return Ok((self.node_id().0, metrics.current_term));
            }
            let last = metrics.last_log_index.unwrap_or(0);
            drop(metrics);
            let candidates = self
                .successors()
                .into_iter()
                .filter(|candidate| to.is_none_or(|to| to == candidate.node_id))
                .map(|candidate| (candidate.matching_index, candidate.node_id))
                .max();
            let Some((matching, target)) = candidates else {
                return Err(MembershipFailure::Precondition(
                    "no other voter is healthy enough to lead".to_owned(),
                ));
            };
            let lag = last.saturating_sub(matching);
            if lag > MAXIMUM_PROMOTION_LAG_ENTRIES {
                return Err(MembershipFailure::Precondition(format!(
                    "node {} is {lag} entries behind",
                    NodeId(target)
                )));
            }
            target
        };
        self.raft()
            .trigger()
            .transfer_leader(target)
            .await
            .map_err(|_| MembershipFailure::Stopped)?;
        let mut metrics = self.raft().server_metrics();
        loop {
            {
                let now = metrics.borrow_watched();
                if let Some(leader) = now.current_leader
                    && leader != self.node_id().0
                {
                    return Ok((leader, now.vote.leader_id.term));
                }
            }
            let remaining = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(remaining, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(MembershipFailure::Stopped),
                Err(_) => return Err(MembershipFailure::TimedOut),
            }
        }
    }
}

fn to_failure(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MembershipFailure {
    match error {
        RaftError::Fatal(_) => MembershipFailure::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            tracing::debug!(leader = %leader_name(forward.leader_id), "asked the wrong node for a change of membership");
            MembershipFailure::NotLeader {
                leader: forward.leader_id,
            }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MembershipFailure::TimedOut,
        RaftError::APIError(error) => MembershipFailure::Precondition(error.to_string()),
    }
}
