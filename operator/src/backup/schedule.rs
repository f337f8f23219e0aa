//! RdfBackupSchedule: what to create and what to prune is decided purely, then done.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::api::{
    BackupPhase, Condition, RdfBackup, RdfBackupSchedule, RdfBackupScheduleSpec,
    RdfBackupScheduleStatus, RdfBackupSpec,
};
use crate::conditions::{Wanted, merge};
use crate::context::Context;
use crate::kubernetes::{describe_error, now, write_status};
use crate::names::{LABEL_SCHEDULE, standalone_labels};

/// A backup of a schedule, as far as pruning cares.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: String,
    uid: String,
    phase: BackupPhase,
    created: Option<Timestamp>,
    completed: Option<Timestamp>,
}

/// What a schedule does now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    /// The time whose backup is due. A missed time is made up once, however many were missed.
    create: Option<Timestamp>,
    prune: Vec<Known>,
    next: Option<Timestamp>,
    /// Since when there was no backup, when that is more than two times of the schedule ago.
    overdue_since: Option<Timestamp>,
    last_success: Option<Timestamp>,
}

/// The schedule cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("schedule {schedule:?} is not a cron expression of five fields: {message}")]
    Malformed { schedule: String, message: String },
    #[error("schedule {schedule:?} names no time that ever comes")]
    Never { schedule: String },
    #[error("timeZone {name:?} is not known: {message}")]
    TimeZone { name: String, message: String },
}

/// What a schedule has done.
#[derive(Clone, Copy, Debug)]
struct History {
    created: Timestamp,
    last_scheduled: Option<Timestamp>,
    last_success: Option<Timestamp>,
}

fn decide(
    spec: &RdfBackupScheduleSpec,
    history: History,
    now: Timestamp,
    known: &[Known],
) -> Result<Decision, ScheduleError> {
    let malformed = |message: String| ScheduleError::Malformed {
        schedule: spec.schedule.clone(),
        message,
    };
    if spec.schedule.split_whitespace().count() != 5 {
        return Err(malformed("it has not five fields".to_owned()));
    }
    let cron = Cron::from_str(&spec.schedule).map_err(|error| malformed(error.to_string()))?;
    let zone = match &spec.time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|error| ScheduleError::TimeZone {
            name: name.clone(),
            message: error.to_string(),
        })?,
    };
    let zoned = now.to_zoned(zone);
    let next = cron
        .find_next_occurrence(&zoned, false)
        .map_err(|_| ScheduleError::Never {
            schedule: spec.schedule.clone(),
        })?;
    let last_due = cron.find_previous_occurrence(&zoned, true).ok();
    let due_before = last_due
        .as_ref()
        .and_then(|due| cron.find_previous_occurrence(due, false).ok())
        .map(|time| time.timestamp());
    let last_due = last_due.map(|time| time.timestamp());
    let last_success = known
        .iter()
        .filter_map(|backup| backup.completed)
        .chain(history.last_success)
        .max();
    let without_since = last_success.unwrap_or(history.created);
    let overdue_since = due_before
        .filter(|due| without_since < *due && !spec.suspend)
        .map(|_| without_since);
    Ok(Decision {
        create: due(spec, history, last_due, known).filter(|_| !spec.suspend),
        prune: prune(spec, known),
        next: Some(next.timestamp()).filter(|_| !spec.suspend),
        overdue_since,
        last_success,
    })
}

/// The time whose backup is due. Backups of one schedule do not overlap: the next waits until the one
/// that runs has ended, which has a deadline. One that cannot begin is in nobody's way.
fn due(
    spec: &RdfBackupScheduleSpec,
    history: History,
    last_due: Option<Timestamp>,
    known: &[Known],
) -> Option<Timestamp> {
    let runs = |backup: &Known| backup.phase == BackupPhase::Running;
    if known.iter().any(runs) {
        return None;
    }
    if spec.immediate && history.last_scheduled.is_none() {
        return Some(history.created);
    }
    let since = history.last_scheduled.unwrap_or(history.created);
    last_due.filter(|due| *due > since)
}

/// The oldest of those that are more than are to be kept.
fn prune(spec: &RdfBackupScheduleSpec, known: &[Known]) -> Vec<Known> {
    let beyond = |phase: BackupPhase, keep: i32| {
        let mut ended: Vec<&Known> = known
            .iter()
            .filter(|backup| backup.phase == phase)
            .collect();
        ended.sort_by(|one, other| (other.created, &other.name).cmp(&(one.created, &one.name)));
        ended
            .into_iter()
            .skip(usize::try_from(keep).unwrap_or(0))
            .cloned()
    };
    beyond(BackupPhase::Completed, spec.keep.max(1))
        .chain(beyond(BackupPhase::Failed, spec.failed_history_limit))
        .collect()
}

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleReconcileError {
    #[error("failed to {what}: {}", describe_error(source))]
    Kubernetes {
        what: &'static str,
        source: kube::Error,
    },
}

/// Creates and prunes the backups of a schedule.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn reconcile(
    cached: Arc<RdfBackupSchedule>,
    context: Arc<Context>,
) -> Result<Action, ScheduleReconcileError> {
    let failed = |what| move |source| ScheduleReconcileError::Kubernetes { what, source };
    let namespace = cached.namespace().unwrap_or_default();
    let client = &context.client;
    let schedules: Api<RdfBackupSchedule> = Api::namespaced(client.clone(), &namespace);
    let Some(schedule) = schedules
        .get_opt(&cached.name_any())
        .await
        .map_err(failed("read the schedule"))?
    else {
        return Ok(Action::await_change());
    };
    if schedule.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let backups: Api<RdfBackup> = Api::namespaced(client.clone(), &namespace);
    let mine = ListParams::default().labels(&format!("{LABEL_SCHEDULE}={}", schedule.name_any()));
    let known: Vec<Known> = backups
        .list(&mine)
        .await
        .map_err(failed("list the schedule's backups"))?
        .iter()
        .filter(|backup| backup.metadata.deletion_timestamp.is_none())
        .map(known)
        .collect();
    let old = schedule.status.clone().unwrap_or_default();
    let generation = schedule.metadata.generation;
    let now = now();
    let history = History {
        created: schedule
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(now, |time| time.0),
        last_scheduled: old.last_scheduled_at.as_ref().map(|time| time.0),
        last_success: old.last_success_at.as_ref().map(|time| time.0),
    };
    let mut new = old.clone();
    new.observed_generation = generation;
    let decision = match decide(&schedule.spec, history, now, &known) {
        Ok(decision) => decision,
        Err(error) => {
            let wanted = vec![
                Wanted::new("Ready", false, "InvalidSchedule", error.to_string()),
                Wanted::new("Stalled", true, "InvalidSchedule", error.to_string()),
            ];
            new.next_at = None;
            new.conditions = merge(&old.conditions, wanted, generation, now);
            write(&context, &schedule, &new).await?;
            return Ok(Action::await_change());
        }
    };
    if let Some(due) = decision.create {
        let name = format!("{}-{}", schedule.name_any(), due.strftime("%Y%m%d%H%M"));
        let created = backups
            .create(&PostParams::default(), &backup(&schedule, &name))
            .await;
        match created {
            Ok(_) => {
                let object = schedule.object_ref(&());
                let note = format!("created RdfBackup {name}");
                context
                    .event(&object, false, "Schedule", "BackupCreated", &note)
                    .await;
            }
            // An earlier reconcile made it and could not say so.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => return Err(failed("create a backup")(source)),
        }
        new.last_scheduled_at = Some(Time(due));
        new.last_backup_name = Some(name);
    }
    for old_backup in &decision.prune {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(old_backup.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match backups.delete(&old_backup.name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(source) => return Err(failed("delete a backup")(source)),
        }
    }
    let (reason, message) = match decision.overdue_since {
        _ if schedule.spec.suspend => ("Suspended", "no new backups are made".to_owned()),
        Some(since) => (
            "BackupOverdue",
            format!("no backup was completed since {since}: two times of the schedule have passed"),
        ),
        None => ("Scheduled", "backups are made by the schedule".to_owned()),
    };
    if reason == "BackupOverdue" && !said(&old.conditions, reason) {
        let object = schedule.object_ref(&());
        context
            .event(&object, true, "Schedule", reason, &message)
            .await;
    }
    new.last_success_at = decision.last_success.map(Time);
    let wanted = vec![
        Wanted::new("Ready", reason == "Scheduled", reason, message),
        Wanted::new("Stalled", false, reason, ""),
    ];
    new.next_at = decision.next.map(Time);
    new.conditions = merge(&old.conditions, wanted, generation, now);
    write(&context, &schedule, &new).await?;
    let wait = decision.next.map_or(300, |next| {
        (next.as_second() - now.as_second())
            .clamp(1, 300)
            .unsigned_abs()
    });
    let busy = known
        .iter()
        .any(|backup| matches!(backup.phase, BackupPhase::Pending | BackupPhase::Running));
    Ok(Action::requeue(Duration::from_secs(if busy {
        wait.min(15)
    } else {
        wait
    })))
}

/// Whether Ready had this reason before.
fn said(conditions: &[Condition], reason: &str) -> bool {
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.reason == reason)
}

fn known(backup: &RdfBackup) -> Known {
    Known {
        name: backup.name_any(),
        uid: backup.uid().unwrap_or_default(),
        phase: backup
            .status
            .as_ref()
            .map(|status| status.phase)
            .unwrap_or_default(),
        created: backup
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
        completed: backup
            .status
            .as_ref()
            .filter(|status| status.phase == BackupPhase::Completed)
            .and_then(|status| Some(status.completed_at.as_ref()?.0)),
    }
}

/// A backup of the schedule. It has no owner: deleting a schedule deletes no backup.
fn backup(schedule: &RdfBackupSchedule, name: &str) -> RdfBackup {
    let mut backup = RdfBackup::new(
        name,
        RdfBackupSpec {
            cluster_name: schedule.spec.cluster_name.clone(),
            destination: schedule.spec.destination.clone(),
            deletion_policy: schedule.spec.deletion_policy,
            job: schedule.spec.job.clone(),
        },
    );
    let mut labels = standalone_labels(&schedule.spec.cluster_name, "backup");
    labels.insert(LABEL_SCHEDULE.to_owned(), schedule.name_any());
    backup.metadata.labels = Some(labels);
    backup
}

async fn write(
    context: &Context,
    schedule: &RdfBackupSchedule,
    new: &RdfBackupScheduleStatus,
) -> Result<(), ScheduleReconcileError> {
    write_status(&context.client, schedule, schedule.status.as_ref(), new)
        .await
        .map(|_| ())
        .map_err(|source| ScheduleReconcileError::Kubernetes {
            what: "write the status",
            source,
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(schedule: &str) -> RdfBackupScheduleSpec {
        serde_json::from_value(serde_json::json!({
            "clusterName": "films", "schedule": schedule, "destination": { "claimName": "c" },
            "keep": 2, "failedHistoryLimit": 1,
        }))
        .unwrap()
    }

    fn since(time: &str) -> History {
        History {
            created: at(time),
            last_scheduled: Some(at(time)),
            last_success: Some(at(time)),
        }
    }

    fn one(name: &str, phase: BackupPhase, created: &str) -> Known {
        Known {
            name: name.into(),
            uid: name.into(),
            phase,
            created: Some(at(created)),
            completed: (phase == BackupPhase::Completed).then(|| at(created)),
        }
    }

    #[test]
    fn a_backup_is_due_when_its_time_has_passed_and_not_before() {
        let since = since("2026-01-01T00:00:00Z");
        let early = decide(&spec("0 3 * * *"), since, at("2026-01-01T02:59:59Z"), &[]).unwrap();
        assert_eq!(early.create, None);
        assert_eq!(early.next, Some(at("2026-01-01T03:00:00Z")));
        let due = decide(&spec("0 3 * * *"), since, at("2026-01-01T03:00:00Z"), &[]).unwrap();
        assert_eq!(due.create, Some(at("2026-01-01T03:00:00Z")));
        assert_eq!(due.next, Some(at("2026-01-02T03:00:00Z")));
    }

    #[test]
    fn the_clock_is_that_of_the_time_zone_also_when_it_is_put_forward() {
        let mut berlin = spec("30 3 * * *");
        berlin.time_zone = Some("Europe/Berlin".into());
        let next = |now: &str| {
            let history = since("2026-01-01T00:00:00Z");
            decide(&berlin, history, at(now), &[])
                .unwrap()
                .next
                .unwrap()
        };
        assert_eq!(next("2026-03-28T12:00:00Z"), at("2026-03-29T01:30:00Z"));
        assert_eq!(next("2026-03-27T12:00:00Z"), at("2026-03-28T02:30:00Z"));
        berlin.time_zone = Some("Europe/Berlim".into());
        let wrong = decide(
            &berlin,
            since("2026-01-01T00:00:00Z"),
            at("2026-01-01T00:00:00Z"),
            &[],
        );
        assert!(matches!(wrong, Err(ScheduleError::TimeZone { .. })));
    }

    #[test]
    fn an_immediate_schedule_makes_its_first_backup_at_once_and_no_second() {
        let mut immediate = spec("0 3 * * *");
        immediate.immediate = true;
        let created = at("2026-01-01T10:00:00Z");
        let mut history = History {
            created,
            last_scheduled: None,
            last_success: None,
        };
        let now = at("2026-01-01T10:00:05Z");
        assert_eq!(
            decide(&immediate, history, now, &[]).unwrap().create,
            Some(created)
        );
        history.last_scheduled = Some(created);
        assert_eq!(decide(&immediate, history, now, &[]).unwrap().create, None);
    }

    #[test]
    fn many_missed_times_are_made_up_by_one_backup() {
        let decision = decide(
            &spec("0 * * * *"),
            since("2026-01-01T00:00:00Z"),
            at("2026-01-03T10:30:00Z"),
            &[],
        )
        .unwrap();
        assert_eq!(decision.create, Some(at("2026-01-03T10:00:00Z")));
    }

    #[test]
    fn a_backup_that_runs_is_waited_for_and_one_that_cannot_begin_is_not() {
        let since = since("2026-01-01T00:00:00Z");
        let now = at("2026-01-01T05:00:00Z");
        let create = |spec: &RdfBackupScheduleSpec, phase| {
            let known = [one("a", phase, "2026-01-01T04:00:00Z")];
            decide(spec, since, now, &known).unwrap().create
        };
        assert_eq!(create(&spec("0 * * * *"), BackupPhase::Running), None);
        assert_eq!(create(&spec("0 * * * *"), BackupPhase::Pending), Some(now));
        let mut suspended = spec("0 * * * *");
        suspended.suspend = true;
        let decision = decide(&suspended, since, now, &[]).unwrap();
        assert_eq!((decision.create, decision.next), (None, None));
    }

    #[test]
    fn two_times_without_a_success_are_overdue() {
        let history = since("2026-01-01T02:00:30Z");
        let overdue = |now: &str, known: &[Known]| {
            let decision = decide(&spec("0 * * * *"), history, at(now), known).unwrap();
            decision.overdue_since
        };
        assert_eq!(overdue("2026-01-01T03:59:59Z", &[]), None);
        let failed = [one("f", BackupPhase::Failed, "2026-01-01T03:00:00Z")];
        assert_eq!(
            overdue("2026-01-01T04:00:00Z", &failed),
            history.last_success
        );
        let completed = [one("c", BackupPhase::Completed, "2026-01-01T03:00:10Z")];
        assert_eq!(overdue("2026-01-01T04:00:00Z", &completed), None);
    }

    #[test]
    fn the_oldest_backups_beyond_what_is_kept_are_pruned() {
        let known = [
            one("oldest", BackupPhase::Completed, "2026-01-01T00:00:00Z"),
            one("failed", BackupPhase::Failed, "2025-01-01T00:00:00Z"),
            one("failed later", BackupPhase::Failed, "2025-01-02T00:00:00Z"),
            one("newest", BackupPhase::Completed, "2026-01-03T00:00:00Z"),
            one("middle", BackupPhase::Completed, "2026-01-02T00:00:00Z"),
        ];
        let now = "2026-01-03T01:00:00Z";
        let decision = decide(&spec("0 0 * * *"), since(now), at(now), &known).unwrap();
        let names: Vec<_> = decision
            .prune
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        assert_eq!(names, ["oldest", "failed"]);
    }

    #[test]
    fn an_expression_that_is_none_or_never_comes_is_explained() {
        let now = "2026-01-03T01:00:00Z";
        for wrong in [
            "a b c d e",
            "61 * * * *",
            "* * * *",
            "* * * * * *",
            "0 0 31 2 *",
        ] {
            assert!(
                decide(&spec(wrong), since(now), at(now), &[]).is_err(),
                "{wrong}"
            );
        }
    }
}
