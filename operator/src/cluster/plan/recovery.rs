//! Step c of the crash ladder: a volume that the node refuses to serve from.

use super::super::health::Leadership;
use super::super::observation::{JobState, Slot, SlotObservation};
use super::{Decision, Reason, Step};

/// Attempts after which a member that never became healthy in between is left to a person.
const MAXIMUM_ATTEMPTS: u32 = 3;

const VOLUME_REFUSED: i32 = 20;

/// Whether the member in `slot` may come back as a new node: every other voter is healthy and
/// they are a majority without it, so whatever its promises were, the others have kept them.
pub(super) fn may_lose_identity(slot: Slot, leadership: Option<&Leadership<'_>>) -> bool {
    let Some(leadership) = leadership else {
        return false;
    };
    let membership = leadership.membership;
    if membership.joint {
        return false;
    }
    let mut others = 0;
    for voter in &membership.voters {
        if membership.members.get(voter).copied().flatten() == Some(slot) {
            continue;
        }
        if !leadership.healthy_voters.contains(voter) {
            return false;
        }
        others += 1;
    }
    others * 2 > membership.voters.len()
}

/// The next rung for one slot.
pub(super) fn recover(
    slot: Slot,
    seen: &SlotObservation,
    may_lose_identity: bool,
    settled_attempts: u32,
) -> Decision {
    let attempt = seen.recovery_attempt();
    if seen.is_recovering() {
        return recover_fenced(slot, seen, attempt, may_lose_identity, settled_attempts);
    }
    let Some(termination) = seen.refused() else {
        return Decision::Nothing;
    };
    if attempt.saturating_sub(settled_attempts) >= MAXIMUM_ATTEMPTS {
        return Decision::Stall(
            Reason::RecoveryFailed,
            format!(
                "slot {slot}: the node refuses its volume after {attempt} recovery attempts: {}",
                termination.message
            ),
        );
    }
    Decision::Step(
        Step::Fence {
            slot,
            attempt: attempt + 1,
            refused_with: termination.exit_code,
        },
        Reason::Recovering,
        format!(
            "slot {slot}: the node refuses its volume: {}",
            termination.message
        ),
    )
}

fn recover_fenced(
    slot: Slot,
    seen: &SlotObservation,
    attempt: u32,
    may_lose_identity: bool,
    settled_attempts: u32,
) -> Decision {
    let refused_with = seen.stateful_set.as_ref().map_or(0, |set| set.refused_with);
    // A volume of another cluster holds another cluster's promises: those are nobody's to give up.
    let allow_new_identity = may_lose_identity && refused_with == VOLUME_REFUSED;
    let wait = |what: &str| Decision::Wait(Reason::Recovering, format!("slot {slot}: {what}"));
    match seen.recoveries.get(&attempt).unwrap_or(&JobState::Absent) {
        JobState::Running => wait("the recovery Job runs"),
        JobState::Succeeded(findings) => Decision::Step(
            Step::Unfence { slot, attempt },
            Reason::Recovering,
            format!("slot {slot}: recovered: {}", findings.message),
        ),
        JobState::Absent if seen.pod.is_some() => wait("its pod is being stopped"),
        JobState::Absent => Decision::Step(
            Step::StartRecovery {
                slot,
                attempt,
                allow_new_identity,
            },
            Reason::Recovering,
            format!("slot {slot}: a recovery Job starts"),
        ),
        JobState::Failed {
            exit_code: Some(VOLUME_REFUSED),
            with_new_identity: false,
            message,
        } if allow_new_identity && attempt.saturating_sub(settled_attempts) < MAXIMUM_ATTEMPTS => {
            Decision::Step(
                Step::Fence {
                    slot,
                    attempt: attempt + 1,
                    refused_with,
                },
                Reason::Recovering,
                format!("slot {slot}: the volume needs a new identity: {message}"),
            )
        }
        JobState::Failed { message, .. } => Decision::Stall(
            Reason::RecoveryFailed,
            format!(
                "slot {slot}: recovery attempt {attempt} failed: {message}; delete its Job to try \
                 again, or delete the claim and the StatefulSet of the slot to replace the volume"
            ),
        ),
    }
}
