//! The events of a cluster: what its conditions have turned to, each once. Pure.

use std::collections::BTreeSet;

use crate::api::Condition;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What a condition of this type and status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Told when it was something else before.
    Good,
    /// Told as a warning, again with each other reason.
    Bad,
    Silent,
}

fn weight(type_: &str, status: &str) -> Weight {
    match (type_, status) {
        ("Ready" | "Available", "True") => Weight::Good,
        ("Ready", "Unknown")
        | ("Available", "False")
        | ("Stalled" | "Degraded" | "Diverged", "True") => Weight::Bad,
        _ => Weight::Silent,
    }
}

/// The events of a change of conditions. Several conditions may have turned for one reason: it is told
/// once.
#[must_use]
pub(super) fn notes(old: &[Condition], new: &[Condition]) -> Vec<Note> {
    let mut told = BTreeSet::new();
    new.iter()
        .filter_map(|condition| {
            let before = old.iter().find(|before| before.type_ == condition.type_);
            let is_same_status = before.is_some_and(|before| before.status == condition.status);
            let is_same =
                is_same_status && before.is_some_and(|before| before.reason == condition.reason);
            let weight = weight(&condition.type_, &condition.status);
            let reason = match weight {
                Weight::Silent => return None,
                Weight::Good if is_same_status => return None,
                Weight::Bad if is_same => return None,
                Weight::Good => condition.type_.clone(),
                Weight::Bad => condition.reason.clone(),
            };
            told.insert(reason.clone()).then(|| Note {
                warning: weight == Weight::Bad,
                reason,
                message: condition.message.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "words".into(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::from_second(0).unwrap()),
        }
    }

    fn told(old: &[Condition], new: &[Condition]) -> Vec<(bool, String)> {
        let notes = notes(old, new);
        notes
            .into_iter()
            .map(|note| (note.warning, note.reason))
            .collect()
    }

    #[test]
    fn a_turn_is_told_once_and_for_each_reason() {
        let healthy = [
            condition("Ready", "True", "Reconciled"),
            condition("Available", "True", "LeaderConfirmed"),
        ];
        let lost = [
            condition("Ready", "False", "QuorumLost"),
            condition("Available", "False", "QuorumLost"),
        ];
        assert_eq!(
            told(&[], &healthy),
            [(false, "Ready".to_owned()), (false, "Available".to_owned())]
        );
        assert_eq!(told(&healthy, &lost), [(true, "QuorumLost".to_owned())]);
        assert_eq!(told(&lost, &lost), []);
        let stalled = [condition("Stalled", "True", "MajorityLost")];
        assert_eq!(told(&lost, &stalled), [(true, "MajorityLost".to_owned())]);
    }

    #[test]
    fn what_wants_a_persons_eye_is_a_warning() {
        for (type_, reason) in [
            ("Degraded", "DiskFull"),
            ("Degraded", "EntriesUnreadable"),
            ("Diverged", "Diverged"),
            ("Stalled", "NameTaken"),
        ] {
            let before = [condition(type_, "False", "AllHealthy")];
            let now = [condition(type_, "True", reason)];
            assert_eq!(told(&before, &now), [(true, reason.to_owned())]);
            assert_eq!(told(&now, &before), []);
        }
    }
}
