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
    BackupPhase, RdfBackup, RdfBackupSchedule, RdfBackupScheduleSpec, RdfBackupScheduleStatus,
    RdfBackupSpec,
};
use crate::conditions::{Wanted, merge};
use crate::context::Context;
use crate::kubernetes::{describe_error, now, write_status};
use crate::names::{LABEL_SCHEDULE, labels};

/// A backup of a schedule, as far as pruning cares.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: String,
    uid: String,
    phase: BackupPhase,
    created: Option<Timestamp>,
}

/// What a schedule does now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    /// The time whose backup is due. A missed time is made up once, however many were missed.
    create: Option<Timestamp>,
    prune: Vec<Known>,
    next: Option<Timestamp>,
}

/// The cron expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schedule {schedule:?} is not a cron expression of five fields: {message}")]
pub struct ScheduleError {
    schedule: String,
    message: String,
}

fn decide(
    spec: &RdfBackupScheduleSpec,
    since: Timestamp,
    now: Timestamp,
    known: &[Known],
) -> Result<Decision, ScheduleError> {
    let malformed = |message: String| ScheduleError {
        schedule: spec.schedule.clone(),
        message,
    };
    if spec.schedule.split_whitespace().count() != 5 {
        return Err(malformed("it has not five fields".to_owned()));
    }
    let cron = Cron::from_str(&spec.schedule).map_err(|error| malformed(error.to_string()))?;
    let zoned = now.to_zoned(TimeZone::UTC);
    let next = cron
        .find_next_occurrence(&zoned, false)
        .ok()
        .map(|time| time.timestamp());
    let last_due = cron
        .find_previous_occurrence(&zoned, true)
        .ok()
        .map(|time| time.timestamp());
    // Backups of one schedule do not overlap: the next waits until the one before has ended.
    let busy = known
        .iter()
        .any(|backup| matches!(backup.phase, BackupPhase::Pending | BackupPhase::Running));
    let create = last_due.filter(|due| *due > since && !spec.suspend && !busy);
    let mut completed: Vec<&Known> = known
        .iter()
        .filter(|backup| backup.phase == BackupPhase::Completed)
        .collect();
    completed.sort_by(|one, other| (other.created, &other.name).cmp(&(one.created, &one.name)));
    let keep = usize::try_from(spec.keep).unwrap_or(1).max(1);
    Ok(Decision {
        create,
        prune: completed.into_iter().skip(keep).cloned().collect(),
        next: next.filter(|_| !spec.suspend),
    })
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
    let since = old
        .last_scheduled_at
        .as_ref()
        .or(schedule.metadata.creation_timestamp.as_ref())
        .map_or(now, |time| time.0);
    let mut new = old.clone();
    new.observed_generation = generation;
    let decision = match decide(&schedule.spec, since, now, &known) {
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
    let (reason, message) = if schedule.spec.suspend {
        ("Suspended", "no new backups are made")
    } else {
        ("Scheduled", "backups are made by the schedule")
    };
    let wanted = vec![
        Wanted::new("Ready", !schedule.spec.suspend, reason, message),
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
    }
}

/// A backup of the schedule. It has no owner: deleting a schedule deletes no backup.
fn backup(schedule: &RdfBackupSchedule, name: &str) -> RdfBackup {
    let mut backup = RdfBackup::new(
        name,
        RdfBackupSpec {
            cluster_name: schedule.spec.cluster_name.clone(),
            destination: schedule.spec.destination.clone(),
        },
    );
    let mut labels = labels(&schedule.spec.cluster_name, "backup");
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
    use crate::api::BackupLocation;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(schedule: &str) -> RdfBackupScheduleSpec {
        RdfBackupScheduleSpec {
            cluster_name: "films".into(),
            schedule: schedule.into(),
            destination: BackupLocation::default(),
            keep: 2,
            suspend: false,
        }
    }

    fn one(name: &str, phase: BackupPhase, created: &str) -> Known {
        Known {
            name: name.into(),
            uid: name.into(),
            phase,
            created: Some(at(created)),
        }
    }

    #[test]
    fn a_backup_is_due_when_its_time_has_passed_and_not_before() {
        let since = at("2026-01-01T00:00:00Z");
        let early = decide(&spec("0 3 * * *"), since, at("2026-01-01T02:59:59Z"), &[]).unwrap();
        assert_eq!(early.create, None);
        assert_eq!(early.next, Some(at("2026-01-01T03:00:00Z")));
        let due = decide(&spec("0 3 * * *"), since, at("2026-01-01T03:00:00Z"), &[]).unwrap();
        assert_eq!(due.create, Some(at("2026-01-01T03:00:00Z")));
        assert_eq!(due.next, Some(at("2026-01-02T03:00:00Z")));
    }

    #[test]
    fn many_missed_times_are_made_up_by_one_backup() {
        let decision = decide(
            &spec("0 * * * *"),
            at("2026-01-01T00:00:00Z"),
            at("2026-01-03T10:30:00Z"),
            &[],
        )
        .unwrap();
        assert_eq!(decision.create, Some(at("2026-01-03T10:00:00Z")));
    }

    #[test]
    fn a_schedule_does_not_start_a_backup_while_one_is_running_or_it_is_suspended() {
        let since = at("2026-01-01T00:00:00Z");
        let now = at("2026-01-01T05:00:00Z");
        let running = [one("a", BackupPhase::Running, "2026-01-01T04:00:00Z")];
        assert_eq!(
            decide(&spec("0 * * * *"), since, now, &running)
                .unwrap()
                .create,
            None
        );
        let mut suspended = spec("0 * * * *");
        suspended.suspend = true;
        let decision = decide(&suspended, since, now, &[]).unwrap();
        assert_eq!((decision.create, decision.next), (None, None));
    }

    #[test]
    fn only_completed_backups_beyond_keep_are_pruned_the_oldest_of_them() {
        let known = [
            one("oldest", BackupPhase::Completed, "2026-01-01T00:00:00Z"),
            one("failed", BackupPhase::Failed, "2025-01-01T00:00:00Z"),
            one("newest", BackupPhase::Completed, "2026-01-03T00:00:00Z"),
            one("middle", BackupPhase::Completed, "2026-01-02T00:00:00Z"),
        ];
        let now = at("2026-01-03T01:00:00Z");
        let decision = decide(&spec("0 0 * * *"), now, now, &known).unwrap();
        let names: Vec<_> = decision
            .prune
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        assert_eq!(names, ["oldest"]);
    }

    #[test]
    fn an_expression_that_is_none_is_explained() {
        let now = at("2026-01-03T01:00:00Z");
        for wrong in ["a b c d e", "61 * * * *", "* * * *", "* * * * * *"] {
            assert!(decide(&spec(wrong), now, now, &[]).is_err(), "{wrong}");
        }
    }
}
