//! Step c of the crash ladder: a volume that the node refuses to serve from.

use quadraft_protocol::ExitCode;

use super::super::health::Leadership;
use super::super::observation::{JobState, Slot, SlotObservation, WaitingJob};
use super::{Decision, Reason, Step};

/// Attempts after which a member that never became healthy in between is left to a person.
const MAXIMUM_ATTEMPTS: u32 = 3;

const VOLUME_REFUSED: i32 = ExitCode::VolumeRefused as i32;

/// A Job that has not begun is made anew after so long: what keeps it from beginning may have passed,
/// and whoever makes its pods asks less and less often.
pub(super) const AGAIN_SECONDS: i64 = 120;

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
    start_deadline_seconds: i64,
) -> Decision {
    let attempt = seen.recovery_attempt();
    if seen.is_recovering() {
        if let Some(decision) = not_begun(slot, seen, attempt, start_deadline_seconds) {
            return decision;
        }
        return recover_fenced(slot, seen, attempt, may_lose_identity, settled_attempts);
    }
    if let Some(termination) = seen.cannot_use_volume() {
        return Decision::Stall(
            Reason::VolumeNotUsable,
            format!(
                "slot {slot}: the node cannot use its volume: {}",
                termination.message
            ),
        );
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
        },
        Reason::Recovering,
        format!(
            "slot {slot}: the node refuses its volume: {}",
            termination.message
        ),
    )
}

/// What to do while the recovery Job has not begun; nothing when it has, or is not there.
fn not_begun(
    slot: Slot,
    seen: &SlotObservation,
    attempt: u32,
    start_deadline_seconds: i64,
) -> Option<Decision> {
    let Some(JobState::Waiting(job)) = seen.recoveries.get(&attempt) else {
        return None;
    };
    let fenced_seconds = seen
        .stateful_set
        .as_ref()
        .map_or(0, |set| set.fenced_seconds);
    // No member stays away for a Job that never ran: the node itself may open the volume by now.
    if fenced_seconds > start_deadline_seconds {
        return Some(Decision::Step(
            Step::Unfence {
                slot,
                attempt: attempt.saturating_sub(1),
            },
            Reason::JobCannotStart,
            format!(
                "slot {slot}: the recovery Job did not begin within {fenced_seconds} s ({}): the node \
                 tries its volume again",
                words(job)
            ),
        ));
    }
    Some(withdraw_or_wait(
        job,
        &format!("slot {slot}: the recovery Job"),
    ))
}

/// Has a Job that waits made anew when that may help.
pub(super) fn withdraw_or_wait(job: &WaitingJob, what: &str) -> Decision {
    let message = format!("{what} has not begun: {}", words(job));
    if !job.deleting && (job.is_outdated || job.seconds > AGAIN_SECONDS) {
        return Decision::Step(
            Step::WithdrawJob {
                name: job.name.clone(),
                uid: job.uid.clone(),
            },
            Reason::JobCannotStart,
            message,
        );
    }
    let reason = if job.obstacle.is_some() {
        Reason::JobCannotStart
    } else {
        Reason::Recovering
    };
    Decision::Wait(reason, message)
}

fn words(job: &WaitingJob) -> &str {
    job.obstacle.as_deref().unwrap_or("nobody says why")
}

fn recover_fenced(
    slot: Slot,
    seen: &SlotObservation,
    attempt: u32,
    allow_new_identity: bool,
    settled_attempts: u32,
) -> Decision {
    let wait = |what: &str| Decision::Wait(Reason::Recovering, format!("slot {slot}: {what}"));
    match seen.recoveries.get(&attempt).unwrap_or(&JobState::Absent) {
        // Told of before.
        JobState::Waiting(_) => Decision::Nothing,
        JobState::Running => wait("the recovery Job runs"),
        JobState::Succeeded(findings) => Decision::Step(
            Step::Unfence { slot, attempt },
            Reason::Recovering,
            format!("slot {slot}: recovered: {}", findings.message),
        ),
        // Whoever is there beside a Job that has failed was scaled up by somebody else.
        JobState::Absent | JobState::Failed { .. } if seen.pod.is_some() => {
            wait("its pod is being stopped")
        }
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
