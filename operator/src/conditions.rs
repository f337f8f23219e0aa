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

    /// Words in the code that look like reasons and are Kubernetes' own.
    const NO_REASONS: &[&str] = &[
        "AlwaysAllow",
        "ClusterIP",
        "ConfigMap",
        "ContainerCreating",
        "DeadlineExceeded",
        "DisruptionTarget",
        "EndpointSlices",
        "FailJob",
        "FallbackToLogsOnError",
        "OnDelete",
        "OnRootMismatch",
        "PartialEq",
        "PersistentVolumeClaim",
        "PersistentVolumeClaims",
        "PodDisruptionBudget",
        "PodInitializing",
        "PodScheduled",
        "RdfBackup",
        "RdfBackupSchedule",
        "RdfBackupScheduleStatus",
        "RdfBackupStatus",
        "RdfBackups",
        "RdfCluster",
        "RdfClusterStatus",
        "RdfRestore",
        "RdfRestoreStatus",
        "ReadWriteOnce",
        "RuntimeDefault",
        "ServiceAccount",
        "StatefulSet",
        "StatefulSets",
    ];

    fn sources(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "tests") {
                    sources(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                found.push(code.to_owned());
            }
        }
    }

    /// Whether a word is written as reasons are: two words or more, each with a capital.
    fn is_like_a_reason(word: &str) -> bool {
        let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
        capitals >= 2
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().any(|byte| byte.is_ascii_lowercase())
    }

    #[test]
    fn every_reason_in_the_code_is_explained_to_those_who_run_clusters() {
        let page = include_str!("../../docs/operations/conditions.md");
        let mut found = Vec::new();
        sources(
            std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut found,
        );
        let unexplained: std::collections::BTreeSet<&str> = found
            .iter()
            .flat_map(|code| code.split('"').skip(1).step_by(2))
            .filter(|word| is_like_a_reason(word) && !NO_REASONS.contains(word))
            .filter(|word| !page.contains(&format!("`{word}`")))
            .collect();
        assert!(unexplained.is_empty(), "{unexplained:?}");
    }
}
