//! How many pods must stay through evictions, so that the voters keep a majority.

use super::super::health::Leadership;
use super::super::observation::Observation;
use super::super::validate::ValidatedCluster;
use super::Step;

/// The number of pods that must be available: all that there should be, but for those that the voters
/// can lose. A step that is about to change the voters counts as done when that leaves fewer to lose, so
/// that the budget is tight before and loosened after it. While nobody is known to lead none can be
/// lost.
///
/// A member that is being filled counts as a pod like all others: the budget is a number of pods, and
/// one more that may not be lost is on the safe side.
pub(super) fn minimum_available(
    cluster: &ValidatedCluster,
    observation: &Observation,
    leadership: Option<&Leadership<'_>>,
    step: Option<&Step>,
) -> u32 {
    let sets = observation
        .slots
        .values()
        .filter(|seen| seen.stateful_set.is_some())
        .count();
    let pods = sets.max(usize::from(cluster.replicas));
    let can_lose = |voters: usize| voters.saturating_sub(voters / 2 + 1);
    let lost = leadership.map_or(0, |leadership| {
        let voters = &leadership.membership.voters;
        let after = match step {
            Some(Step::Remove { node_id, .. }) if voters.contains(node_id) => voters.len() - 1,
            Some(Step::Promote { .. }) => voters.len() + 1,
            _ => voters.len(),
        };
        let joint = leadership.membership.joint;
        // Two sets of voters are in force: a pod may be needed in either.
        if joint {
            0
        } else {
            can_lose(voters.len()).min(can_lose(after))
        }
    });
    u32::try_from(pods.saturating_sub(lost)).unwrap_or(u32::MAX)
}
