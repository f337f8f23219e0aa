//! Conditions whose times change only when they do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::Condition;

/// A condition as a pure function of what is known; its time is filled in by [`merge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub type_: &'static str,
    pub status: Option<bool>,
    pub reason: String,
    pub message: String,
}

impl Wanted {
    /// A condition that is known to hold or not.
    #[must_use]
    pub fn new(
        type_: &'static str,
        status: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: Some(status),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The conditions to write: the old time stays where the status stays.
#[must_use]
pub fn merge(
    old: &[Condition],
    wanted: Vec<Wanted>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|wanted| {
            let status = match wanted.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = old
                .iter()
                .find(|condition| condition.type_ == wanted.type_ && condition.status == status)
                .map_or(Time(now), |condition| {
                    condition.last_transition_time.clone()
                });
            Condition {
                type_: wanted.type_.to_owned(),
                status: status.to_owned(),
                reason: wanted.reason,
                message: wanted.message.chars().take(2000).collect(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merge(
            &[],
            vec![Wanted::new("Ready", false, "A", "x")],
            Some(1),
            at(10),
        );
        let second = merge(
            &first,
            vec![Wanted::new("Ready", false, "B", "y")],
            Some(2),
            at(20),
        );
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].reason, "B");
        let third = merge(
            &second,
            vec![Wanted::new("Ready", true, "C", "")],
            Some(2),
            at(30),
        );
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }
}
