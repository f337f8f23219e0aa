//! What a backup's status becomes, from its Job. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use quadraft_protocol::BackupReport;

use crate::api::{BackupPhase, RdfBackup, RdfBackupStatus, RdfClusterStatus};
use crate::cluster::observation::Slot;
use crate::cluster::validate::ValidatedCluster;
use crate::conditions::{Wanted, merge};
use crate::jobs::{JobResult, failure_reason};

/// Peer addresses of the members that can be asked, followers before the leader, so that a backup
/// does not burden the one that writes.
pub(super) fn members_to_ask(cluster: &ValidatedCluster, status: &RdfClusterStatus) -> Vec<String> {
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
        .filter_map(|member| Some(cluster.peer_address(Slot::try_from(member.slot).ok()?)))
        .collect()
}

/// What is known of the cluster that is to be backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It cannot be asked now, and why; when it exists, it is known which it is.
    Missing {
        cluster_uuid: Option<String>,
        reason: &'static str,
        message: String,
    },
    /// Its members that can be asked.
    Found {
        cluster_uuid: String,
        from: Vec<String>,
    },
}

impl Source {
    fn cluster_uuid(&self) -> Option<&String> {
        match self {
            Self::Missing { cluster_uuid, .. } => cluster_uuid.as_ref(),
            Self::Found { cluster_uuid, .. } => Some(cluster_uuid),
        }
    }
}

/// What exists of the backup's Jobs: the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) created: Timestamp,
    /// The Job that would be made now is another one.
    pub(super) is_outdated: bool,
    pub(super) is_deleted: bool,
    pub(super) result: JobResult,
}

/// What to do about a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Make the Job of this attempt.
    Start {
        attempt: i32,
    },
    /// Delete a Job whose container never ran; a new one is made when it is gone.
    Withdraw {
        uid: String,
    },
}

/// A Job that has not begun is made anew after so long: what keeps it from beginning may have passed,
/// and whoever makes its pods asks less and less often.
const AGAIN_SECONDS: i64 = 120;
/// How often a Job is begun whose report is lost.
const MAXIMUM_ATTEMPTS: i32 = 5;

/// What becomes of a backup that has not come to an end.
pub(super) fn decide(
    backup: &RdfBackup,
    source: &Source,
    attempt: Option<&Attempt>,
    now: Timestamp,
) -> (RdfBackupStatus, Action) {
    let old = backup.status.clone().unwrap_or_default();
    let mut draft = Draft {
        generation: backup.metadata.generation,
        now,
        new: RdfBackupStatus {
            observed_generation: backup.metadata.generation,
            ..old.clone()
        },
        old,
    };
    if let Some(cluster_uuid) = source.cluster_uuid() {
        match &draft.old.source_cluster_uuid {
            None => draft.new.source_cluster_uuid = Some(cluster_uuid.clone()),
            Some(bound) if bound != cluster_uuid => {
                let message = format!(
                    "this is a backup of cluster {bound}, and {} is now cluster {cluster_uuid}",
                    backup.spec.cluster_name
                );
                return draft.failed("ClusterReplaced", &message, attempt);
            }
            Some(_) => {}
        }
    }
    match attempt {
        Some(attempt) => with_attempt(backup, draft, attempt),
        None => without_attempt(backup, draft, source),
    }
}

fn without_attempt(backup: &RdfBackup, draft: Draft, source: &Source) -> (RdfBackupStatus, Action) {
    match source {
        Source::Found { .. } => {
            let attempt = draft.old.attempts + 1;
            draft.pending(
                "JobCreated",
                "a Job is being made",
                Action::Start { attempt },
            )
        }
        Source::Missing {
            reason, message, ..
        } => {
            let created = backup.metadata.creation_timestamp.as_ref();
            let waited = created.map_or(0, |time| draft.now.as_second() - time.0.as_second());
            if waited > backup.spec.job.start_deadline_seconds() {
                let message =
                    format!("nothing could be begun within {waited} s: {reason}: {message}");
                return draft.failed("StartDeadlineExceeded", &message, None);
            }
            draft.pending(reason, message, Action::Nothing)
        }
    }
}

fn with_attempt(
    backup: &RdfBackup,
    mut draft: Draft,
    attempt: &Attempt,
) -> (RdfBackupStatus, Action) {
    draft.new.job_name = Some(attempt.name.clone());
    let started = draft.old.started_at.clone().unwrap_or(Time(draft.now));
    match &attempt.result {
        _ if attempt.is_deleted => draft.pending(
            "JobCreated",
            "the Job of an earlier attempt is being deleted",
            Action::Nothing,
        ),
        JobResult::Waiting { obstacle } => {
            let waited = draft.now.as_second() - attempt.created.as_second();
            let since = backup.metadata.creation_timestamp.as_ref();
            let waited_in_all =
                since.map_or(waited, |time| draft.now.as_second() - time.0.as_second());
            let told = obstacle.as_ref().map(ToString::to_string);
            if waited_in_all > backup.spec.job.start_deadline_seconds() {
                let message = format!(
                    "the Job's container did not run within {waited_in_all} s: {}",
                    told.unwrap_or_else(|| "nobody says why".to_owned())
                );
                return draft.failed("StartDeadlineExceeded", &message, Some(attempt));
            }
            let action = if attempt.is_outdated || waited > AGAIN_SECONDS {
                Action::Withdraw {
                    uid: attempt.uid.clone(),
                }
            } else {
                Action::Nothing
            };
            match told {
                Some(told) => draft.pending("JobCannotStart", &told, action),
                None => draft.pending("JobCreated", "the Job is about to begin", action),
            }
        }
        JobResult::Running => {
            draft.new.started_at = Some(started);
            draft.new.phase = BackupPhase::Running;
            let wanted = conditions(false, true, false, "Running", "the backup Job runs");
            draft.finish(wanted, Action::Nothing)
        }
        JobResult::Succeeded { report } => {
            draft.new.started_at = Some(started);
            let read = report.as_deref().map(serde_json::from_str::<BackupReport>);
            match read {
                Some(Ok(report)) => draft.completed(report, attempt),
                // Whether the data is there, another run finds out: it has nothing else to do then.
                _ if draft.old.attempts < MAXIMUM_ATTEMPTS => {
                    let attempt = draft.old.attempts + 1;
                    draft.pending(
                        "ReportLost",
                        "the Job did its work and its report is gone: it is asked for again",
                        Action::Start { attempt },
                    )
                }
                _ => draft.failed(
                    "ReportUnreadable",
                    "the Job did its work and its report cannot be read",
                    Some(attempt),
                ),
            }
        }
        JobResult::Failed { exit_code, message } => {
            draft.new.started_at = Some(started);
            draft.failed(failure_reason(*exit_code, message), message, Some(attempt))
        }
    }
}

/// A status on its way.
struct Draft {
    old: RdfBackupStatus,
    new: RdfBackupStatus,
    generation: Option<i64>,
    now: Timestamp,
}

impl Draft {
    fn finish(mut self, wanted: Vec<Wanted>, action: Action) -> (RdfBackupStatus, Action) {
        if let Action::Start { attempt } = action {
            self.new.attempts = attempt;
        }
        self.new.conditions = merge(&self.old.conditions, wanted, self.generation, self.now);
        (self.new, action)
    }

    fn pending(mut self, reason: &str, message: &str, action: Action) -> (RdfBackupStatus, Action) {
        self.new.phase = BackupPhase::Pending;
        self.finish(
            vec![
                Wanted::new("Ready", false, reason, message),
                Wanted::new("Reconciling", true, reason, message),
                Wanted::new("Stalled", false, reason, ""),
            ],
            action,
        )
    }

    /// A Job that may still begin is taken back: nothing of a failed backup goes on.
    fn failed(
        mut self,
        reason: &str,
        message: &str,
        attempt: Option<&Attempt>,
    ) -> (RdfBackupStatus, Action) {
        self.new.phase = BackupPhase::Failed;
        self.new.completed_at = Some(Time(self.now));
        let action = match attempt {
            Some(attempt)
                if matches!(
                    attempt.result,
                    JobResult::Waiting { .. } | JobResult::Running
                ) =>
            {
                Action::Withdraw {
                    uid: attempt.uid.clone(),
                }
            }
            _ => Action::Nothing,
        };
        self.finish(conditions(false, false, true, reason, message), action)
    }

    fn completed(mut self, report: BackupReport, attempt: &Attempt) -> (RdfBackupStatus, Action) {
        if self.new.source_cluster_uuid.as_ref() != Some(&report.cluster_uuid) {
            let message = format!(
                "the Job reports a backup of cluster {}",
                report.cluster_uuid
            );
            return self.failed("ClusterReplaced", &message, Some(attempt));
        }
        let number = |value: u64| i64::try_from(value).ok();
        self.new.phase = BackupPhase::Completed;
        self.new.completed_at = Some(Time(self.now));
        self.new.log_index = number(report.log_index);
        self.new.quads = number(report.quads);
        self.new.bytes = number(report.bytes);
        self.new.location = Some(report.location);
        self.new.digest = Some(report.digest);
        let wanted = conditions(true, false, false, "Completed", "the backup is complete");
        self.finish(wanted, Action::Nothing)
    }
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
    use crate::cluster::validate::validate;
    use crate::kubernetes::obstacles::Obstacle;

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
        let object = serde_json::json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster",
            "metadata": { "name": "films", "namespace": "prod", "uid": "u" },
            "spec": { "storage": { "size": "10Gi" } },
        });
        let cluster = validate(&serde_json::from_value(object).unwrap(), "x").unwrap();
        assert_eq!(
            members_to_ask(&cluster, &status),
            [cluster.peer_address(2), cluster.peer_address(0)]
        );
    }

    fn backup(status: &RdfBackupStatus) -> RdfBackup {
        let mut backup: RdfBackup = serde_json::from_value(serde_json::json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfBackup",
            "metadata": { "name": "b", "namespace": "prod", "uid": "backup-1", "generation": 1,
                "creationTimestamp": at(0).to_string() },
            "spec": { "clusterName": "films", "destination": { "claimName": "c" } },
        }))
        .unwrap();
        backup.status = Some(status.clone());
        backup
    }

    fn found(uuid: &str) -> Source {
        Source::Found {
            cluster_uuid: uuid.into(),
            from: vec!["a:1".into()],
        }
    }

    fn attempt(result: JobResult) -> Attempt {
        Attempt {
            name: "j".into(),
            uid: "job-1".into(),
            created: at(10),
            is_outdated: false,
            is_deleted: false,
            result,
        }
    }

    fn report(uuid: &str) -> JobResult {
        let report = serde_json::json!({
            "location": "file:///backup/b", "cluster_uuid": uuid, "node_id": "0000000000000001",
            "log_term": 2, "log_index": 9, "digest": "d", "quads": 5, "bytes": 100,
            "duration_ms": 1, "already_complete": false,
        });
        JobResult::Succeeded {
            report: Some(report.to_string()),
        }
    }

    fn ready_reason(status: &RdfBackupStatus) -> String {
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
        ready.unwrap().reason.clone()
    }

    /// A backup whose first Job was made.
    fn started() -> RdfBackupStatus {
        let (status, action) = decide(
            &backup(&RdfBackupStatus::default()),
            &found("u"),
            None,
            at(5),
        );
        assert_eq!(action, Action::Start { attempt: 1 });
        assert_eq!(status.attempts, 1);
        status
    }

    #[test]
    fn a_completed_backup_carries_what_the_job_reports() {
        let (status, action) = decide(
            &backup(&started()),
            &found("u"),
            Some(&attempt(report("u"))),
            at(60),
        );
        assert_eq!(
            (status.phase, action),
            (BackupPhase::Completed, Action::Nothing)
        );
        assert_eq!(status.digest.as_deref(), Some("d"));
        assert_eq!(status.completed_at, Some(Time(at(60))));
    }

    #[test]
    fn a_failed_job_is_shown_with_its_reason() {
        let failed = JobResult::Failed {
            exit_code: Some(25),
            message: "no node answered".into(),
        };
        let (status, _) = decide(
            &backup(&started()),
            &found("u"),
            Some(&attempt(failed)),
            at(60),
        );
        assert_eq!(status.phase, BackupPhase::Failed);
        let stalled = status
            .conditions
            .iter()
            .find(|one| one.type_ == "Stalled")
            .unwrap();
        assert_eq!(
            (stalled.status.as_str(), stalled.reason.as_str()),
            ("True", "Unreachable")
        );
    }

    #[test]
    fn a_cluster_that_was_made_anew_under_the_name_is_not_backed_up_in_its_place() {
        for attempt in [None, Some(attempt(JobResult::Running))] {
            let (status, _) = decide(
                &backup(&started()),
                &found("other"),
                attempt.as_ref(),
                at(60),
            );
            assert_eq!(status.phase, BackupPhase::Failed);
            assert_eq!(ready_reason(&status), "ClusterReplaced");
        }
        // Also when it is something else that the backup waited for.
        let waiting = |cluster_uuid: &str| Source::Missing {
            cluster_uuid: Some(cluster_uuid.into()),
            reason: "ClaimNotFound",
            message: "there is none".into(),
        };
        let new = backup(&RdfBackupStatus::default());
        let (bound, _) = decide(&new, &waiting("u"), None, at(5));
        let (status, _) = decide(&backup(&bound), &waiting("other"), None, at(6));
        assert_eq!(ready_reason(&status), "ClusterReplaced");
        // Nor is the report of another believed.
        let (status, _) = decide(
            &backup(&started()),
            &found("u"),
            Some(&attempt(report("other"))),
            at(60),
        );
        assert_eq!(ready_reason(&status), "ClusterReplaced");
    }

    #[test]
    fn what_keeps_a_job_from_beginning_is_told_and_it_is_made_anew() {
        let waiting = attempt(JobResult::Waiting {
            obstacle: Some(Obstacle {
                reason: "FailedCreate".into(),
                message: "exceeded quota".into(),
            }),
        });
        let (status, action) = decide(&backup(&started()), &found("u"), Some(&waiting), at(30));
        assert_eq!(
            (ready_reason(&status).as_str(), action),
            ("JobCannotStart", Action::Nothing)
        );
        let (_, later) = decide(
            &backup(&started()),
            &found("u"),
            Some(&waiting),
            at(10 + AGAIN_SECONDS + 1),
        );
        let withdraw = Action::Withdraw {
            uid: "job-1".into(),
        };
        assert_eq!(later, withdraw);
        let outdated = Attempt {
            is_outdated: true,
            ..waiting.clone()
        };
        assert_eq!(
            decide(&backup(&started()), &found("u"), Some(&outdated), at(30)).1,
            withdraw
        );
        let (status, action) = decide(&backup(&started()), &found("u"), Some(&waiting), at(601));
        assert_eq!(ready_reason(&status), "StartDeadlineExceeded");
        assert_eq!((status.phase, action), (BackupPhase::Failed, withdraw));
    }

    #[test]
    fn a_backup_waits_for_its_cluster_and_not_for_ever() {
        let missing = Source::Missing {
            cluster_uuid: None,
            reason: "ClusterNotFound",
            message: "there is none".into(),
        };
        let new = backup(&RdfBackupStatus::default());
        let (status, action) = decide(&new, &missing, None, at(599));
        assert_eq!(
            (status.phase, action),
            (BackupPhase::Pending, Action::Nothing)
        );
        assert_eq!(
            decide(&new, &missing, None, at(601)).0.phase,
            BackupPhase::Failed
        );
    }

    #[test]
    fn a_report_that_is_lost_is_asked_for_again_a_few_times() {
        let lost = attempt(JobResult::Succeeded { report: None });
        let mut status = started();
        for expected in 2..=MAXIMUM_ATTEMPTS {
            let (new, action) = decide(&backup(&status), &found("u"), Some(&lost), at(60));
            assert_eq!(action, Action::Start { attempt: expected });
            status = new;
        }
        let (status, action) = decide(&backup(&status), &found("u"), Some(&lost), at(60));
        assert_eq!(
            (status.phase, action),
            (BackupPhase::Failed, Action::Nothing)
        );
        assert_eq!(ready_reason(&status), "ReportUnreadable");
    }
}
