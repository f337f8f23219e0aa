//! What a backup's status becomes, from its Job. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use quadraft_protocol::BackupReport;

use crate::api::{BackupPhase, RdfBackupStatus, RdfClusterStatus};
use crate::conditions::{Wanted, merge};
use crate::jobs::{JobResult, failure_reason};

/// Peer addresses of the members that can be asked, followers before the leader, so that a backup
/// does not burden the one that writes.
pub(super) fn members_to_ask(
    cluster: &str,
    namespace: &str,
    status: &RdfClusterStatus,
) -> Vec<String> {
    let mut ready: Vec<_> = status
        .members
        .iter()
        .filter(|member| member.ready)
        .collect();
    ready.sort_by_key(|member| {
        (
            member.role.as_deref() == Some("Leader"),
            !member.voter,
            member.slot,
        )
    });
    ready
        .into_iter()
        .map(|member| {
            format!(
                "{}.{cluster}-peers.{namespace}.svc:{}",
                member.name,
                quadraft_protocol::PEER_PORT
            )
        })
        .collect()
}

/// The status of a backup that waits for something.
pub(super) fn waiting(
    old: &RdfBackupStatus,
    generation: Option<i64>,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> RdfBackupStatus {
    let wanted = vec![
        Wanted::new("Ready", false, reason, message),
        Wanted::new("Reconciling", true, reason, message),
        Wanted::new("Stalled", false, reason, ""),
    ];
    RdfBackupStatus {
        observed_generation: generation,
        phase: BackupPhase::Pending,
        conditions: merge(&old.conditions, wanted, generation, now),
        ..old.clone()
    }
}

/// The status of a backup whose Job exists.
pub(super) fn from_job(
    old: &RdfBackupStatus,
    generation: Option<i64>,
    job_name: &str,
    result: &JobResult,
    now: Timestamp,
) -> RdfBackupStatus {
    let mut new = RdfBackupStatus {
        observed_generation: generation,
        job_name: Some(job_name.to_owned()),
        started_at: old.started_at.clone().or(Some(Time(now))),
        ..old.clone()
    };
    let wanted = match result {
        JobResult::Running => {
            new.phase = BackupPhase::Running;
            conditions(false, true, false, "Running", "the backup Job runs")
        }
        JobResult::Succeeded { message } => match serde_json::from_str::<BackupReport>(message) {
            Ok(report) => {
                let number = |value: u64| i64::try_from(value).ok();
                new.phase = BackupPhase::Completed;
                new.completed_at = old.completed_at.clone().or(Some(Time(now)));
                new.log_index = number(report.log_index);
                new.quads = number(report.quads);
                new.bytes = number(report.bytes);
                new.location = Some(report.location);
                new.digest = Some(report.digest);
                new.source_cluster_uuid = Some(report.cluster_uuid);
                conditions(true, false, false, "Completed", "the backup is complete")
            }
            // The data may be there, but nothing is known of it: that is no backup to rely on.
            Err(_) => {
                new.phase = BackupPhase::Failed;
                conditions(
                    false,
                    false,
                    true,
                    "ReportUnreadable",
                    "the Job succeeded and its report cannot be read",
                )
            }
        },
        JobResult::Failed { exit_code, message } => {
            new.phase = BackupPhase::Failed;
            conditions(false, false, true, failure_reason(*exit_code), message)
        }
    };
    new.conditions = merge(&old.conditions, wanted, generation, now);
    new
}

fn conditions(
    ready: bool,
    reconciling: bool,
    stalled: bool,
    reason: &str,
    message: &str,
) -> Vec<Wanted> {
    vec![
        Wanted::new("Ready", ready, reason, message),
        Wanted::new("Reconciling", reconciling, reason, ""),
        Wanted::new(
            "Stalled",
            stalled,
            reason,
            if stalled { message } else { "" },
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::MemberStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn followers_are_asked_before_the_leader_and_the_unready_never() {
        let member = |slot: i32, role: &str, ready: bool| MemberStatus {
            slot,
            name: format!("films-{slot}-0"),
            role: Some(role.to_owned()),
            ready,
            voter: true,
            ..MemberStatus::default()
        };
        let status = RdfClusterStatus {
            members: vec![
                member(0, "Leader", true),
                member(1, "Follower", false),
                member(2, "Follower", true),
            ],
            ..RdfClusterStatus::default()
        };
        assert_eq!(
            members_to_ask("films", "prod", &status),
            [
                "films-2-0.films-peers.prod.svc:7879",
                "films-0-0.films-peers.prod.svc:7879"
            ]
        );
    }

    #[test]
    fn a_completed_backup_carries_its_digest_and_changes_no_more() {
        let message = serde_json::json!({
            "location": "file:///backup/b", "cluster_uuid": "u", "node_id": "0000000000000001",
            "log_term": 2, "log_index": 9, "digest": "d", "quads": 5, "bytes": 100,
            "duration_ms": 1, "already_complete": false,
        })
        .to_string();
        let result = JobResult::Succeeded { message };
        let first = from_job(&RdfBackupStatus::default(), Some(1), "j", &result, at(10));
        assert_eq!(first.phase, BackupPhase::Completed);
        assert_eq!(first.digest.as_deref(), Some("d"));
        assert_eq!(from_job(&first, Some(1), "j", &result, at(99)), first);
    }

    #[test]
    fn a_failed_job_is_shown_with_its_reason() {
        let failed = JobResult::Failed {
            exit_code: Some(25),
            message: "no node answered".into(),
        };
        let status = from_job(&RdfBackupStatus::default(), Some(1), "j", &failed, at(1));
        assert_eq!(status.phase, BackupPhase::Failed);
        assert!(
            status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Stalled"
                    && condition.status == "True"
                    && condition.reason == "Unreachable")
        );
    }
}
