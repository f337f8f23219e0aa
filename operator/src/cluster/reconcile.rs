//! One reconcile: each phase in turn. It can be cut anywhere and run again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::apply::{self, ApplyError};
use super::ensure::{self, Want};
use super::observation::Observation;
use super::plan::{self, Plan, Reason, Step, Verdict};
use super::serving::{self, Obstacle};
use super::status::{self, Failure};
use super::validate::{SpecError, ValidatedCluster, accepted};
use super::{deletion, events, observe};
use crate::api::{RdfCluster, RdfClusterStatus};
use crate::context::Context;
use crate::kubernetes::cache::View;
use crate::kubernetes::{describe_error, now, write_status};

const SHORTLY: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(3);
const STEADY: Duration = Duration::from_secs(10);

/// A reconcile that has failed so often before is told of in the status: within half a minute.
const TOLD_AFTER: u32 = 3;

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("failed to read the cluster: {}", describe_error(.0))]
    Read(#[source] kube::Error),
    #[error("{0}")]
    Watch(String),
    #[error("failed to look at the world: {0}")]
    Observe(#[from] observe::ObserveError),
    #[error("failed to read what is known of an object: {0}")]
    Known(#[from] serde_json::Error),
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error("failed to write the status: {}", describe_error(.0))]
    Status(#[source] kube::Error),
}

/// Brings a cluster one step nearer to its spec.
///
/// What the watches have told is looked at first. That there is nothing to do, as mostly, needs no
/// request; what is to be done is decided again from what the API server says at that moment.
///
/// # Errors
/// When the API server does not answer or refuses what is needed before anything else.
pub async fn reconcile(
    cached: Arc<RdfCluster>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let result = Box::pin(reconcile_once(&cached, &context)).await;
    let failures = context.failures.count(&cached.uid().unwrap_or_default());
    if let Err(error) = &result
        && failures >= TOLD_AFTER
    {
        tell_that_nothing_is_known(&context, &cached, error).await;
    }
    result
}

/// Says in the status why a cluster could not be looked at: who reads it must not believe what was true
/// before. That this cannot be written either is only logged.
async fn tell_that_nothing_is_known(
    context: &Context,
    cached: &RdfCluster,
    error: &ReconcileError,
) {
    let namespace = cached.namespace().unwrap_or_default();
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), &namespace);
    let Ok(Some(cluster)) = clusters.get_opt(&cached.name_any()).await else {
        return;
    };
    let old = cluster.status.clone().unwrap_or_default();
    let new = status::unknown(&old, cluster.metadata.generation, &error.to_string(), now());
    if let Err(error) = write(context, &cluster, &new).await {
        tracing::warn!(%error, cluster = cluster.name_any(), namespace, "failed to tell of an error");
    }
}

async fn reconcile_once(cached: &RdfCluster, context: &Context) -> Result<Action, ReconcileError> {
    if let Some(trouble) = context.caches.trouble() {
        return Err(ReconcileError::Watch(trouble));
    }
    if cached.metadata.deletion_timestamp.is_none() && deletion::is_in_order(cached) {
        let view = View::Cached(&context.caches);
        let looked = look(context, cached, view).await?;
        match looked {
            Look::Ends(action) => return Ok(action),
            Look::Seen(sight) if !sight.has_work() => {
                return act(context, cached, &sight).await;
            }
            Look::Seen(_) => {}
        }
    }
    let namespace = cached.namespace().unwrap_or_default();
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), &namespace);
    let Some(cluster) = clusters
        .get_opt(&cached.name_any())
        .await
        .map_err(ReconcileError::Read)?
    else {
        context.forget(&cached.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        deletion::finish(context, &cluster).await?;
        return Ok(Action::await_change());
    }
    if deletion::protect(context, &cluster).await? {
        return Ok(Action::requeue(Duration::ZERO));
    }
    match look(context, &cluster, View::Live(&context.client)).await? {
        Look::Ends(action) => Ok(action),
        Look::Seen(sight) => act(context, &cluster, &sight).await,
    }
}

/// What a look at a cluster came to.
enum Look {
    /// The cluster says nothing that could be acted by; the status says so.
    Ends(Action),
    Seen(Box<Sight>),
}

/// What a reconcile acts by.
struct Sight {
    valid: ValidatedCluster,
    /// Why the present spec is not what is acted by, when it is not.
    refused: Option<Failure>,
    observation: Observation,
    plan: Plan,
    /// What should be so and is not, whatever step is due.
    due: Vec<Want>,
}

impl Sight {
    fn has_work(&self) -> bool {
        self.plan.step.is_some() || !self.due.is_empty()
    }
}

async fn look(
    context: &Context,
    cluster: &RdfCluster,
    view: View<'_>,
) -> Result<Look, ReconcileError> {
    let old = cluster.status.clone().unwrap_or_default();
    let refusal = |error: SpecError| Failure {
        reason: error.reason().to_owned(),
        message: error.to_string(),
        stalls: true,
    };
    let (valid, refused) = match accepted(cluster, &context.node_image_repository) {
        Ok((valid, refused)) => (valid, refused.map(refusal)),
        Err(error) => {
            let failure = refusal(error);
            let new = status::invalid(cluster.metadata.generation, &old, &failure, now());
            write(context, cluster, &new).await?;
            return Ok(Look::Ends(Action::requeue(STEADY)));
        }
    };
    let mut observation = observe::observe(&context.client, view, &valid, &old).await?;
    let due_to_upgrade = !valid.paused && plan::is_due_to_upgrade(&valid, &observation);
    if due_to_upgrade {
        let name = format!("{}/{}", valid.namespace, valid.name);
        let turn = context.turns.take(&valid.uid, &name, Instant::now());
        observation.waits_for_turn = turn.err();
    }
    let plan = plan::plan(&valid, &observation);
    if plan.verdict == Verdict::Steady {
        context.turns.end(&valid.uid, Instant::now());
    } else {
        context.turns.renew(&valid.uid, Instant::now());
    }
    let due = match &old.cluster_uuid {
        Some(uuid) if !valid.paused => {
            let wants = ensure::wants(&valid, &observation, uuid, &plan);
            ensure::due(&context.caches, wants)?
        }
        _ => Vec::new(),
    };
    Ok(Look::Seen(Box::new(Sight {
        valid,
        refused,
        observation,
        plan,
        due,
    })))
}

async fn act(
    context: &Context,
    cluster: &RdfCluster,
    sight: &Sight,
) -> Result<Action, ReconcileError> {
    let Sight {
        valid,
        refused,
        observation,
        plan,
        ..
    } = sight;
    let old = cluster.status.clone().unwrap_or_default();
    // What a step decides is persisted before anything is done about it.
    let recorded = match &plan.step {
        Some(step) => {
            let new_uuid = || uuid::Uuid::new_v4().to_string();
            status::record_step(old.clone(), step, new_uuid, now())
        }
        None => old.clone(),
    };
    let records = recorded != old;
    let mut carried_out = CarriedOut::default();
    if !records && !valid.paused {
        carried_out = carry_out(context, &old, sight).await;
    }
    let failure = carried_out.failure.or_else(|| refused.clone());
    // What is only being asked for now has not been looked at: until it has, what is said is said of the
    // spec before, so that nobody takes a cluster for what it is about to become. What cannot be done is
    // said of this one.
    let generation = if sight.due.is_empty() || failure.is_some() {
        cluster.metadata.generation
    } else {
        old.observed_generation
    };
    let new = status::status(
        valid,
        generation,
        &recorded,
        observation,
        plan,
        failure.as_ref(),
        now(),
    );
    announce_step(context, cluster, plan).await;
    write(context, cluster, &new).await?;
    Ok(Action::requeue(if records {
        Duration::from_millis(50)
    } else if carried_out.look_again {
        SHORTLY
    } else {
        look_again_after(
            plan,
            failure.is_some(),
            serving::obstacle(valid, observation).as_ref(),
        )
    }))
}

/// When to look again unless something is heard of before.
fn look_again_after(plan: &Plan, failed: bool, obstacle: Option<&Obstacle>) -> Duration {
    let rests = match plan.verdict {
        Verdict::Steady => plan.step.is_none() && !failed,
        Verdict::Stalled { .. } => return STEADY,
        Verdict::Progressing { reason, .. } => reason == Reason::Paused,
    };
    match obstacle {
        _ if !rests => SOON,
        None => STEADY,
        // Pods and endpoints are watched. The rules of the network tell nobody when they are there.
        Some(Obstacle::ServiceNotReachable(_)) => SHORTLY,
        Some(_) => SOON,
    }
}

/// How the actions of a reconcile went.
#[derive(Default)]
struct CarriedOut {
    failure: Option<Failure>,
    /// Something was changed by another while it was looked at.
    look_again: bool,
}

async fn carry_out(context: &Context, old: &RdfClusterStatus, sight: &Sight) -> CarriedOut {
    let Sight {
        valid,
        observation,
        plan,
        due,
        ..
    } = sight;
    let Some(uuid) = old.cluster_uuid.as_deref() else {
        return CarriedOut::default();
    };
    let client = &context.client;
    let kept = apply::keep_job_ends(client, valid, observation).await;
    let ensured: Vec<ApplyError> = ensure::shrinking(valid, observation, plan)
        .chain(ensure::ensure(client, due).await)
        .collect();
    // An object that cannot be applied (a volume that may not grow) keeps nothing else from being done;
    // but nothing is restarted on a template that was refused.
    let restarts = matches!(plan.step, Some(Step::RestartPod { .. }));
    let proceed = !(restarts && ensured.iter().any(ApplyError::concerns_templates));
    let stepped = match &plan.step {
        Some(step) if proceed => {
            tracing::info!(
                cluster = valid.name,
                namespace = valid.namespace,
                ?step,
                "acting"
            );
            apply::carry_out(client, valid, observation, uuid, step).await
        }
        _ => Ok(()),
    };
    let (passing, errors): (Vec<ApplyError>, Vec<ApplyError>) = ensured
        .into_iter()
        .chain(kept.err())
        .chain(stepped.err())
        .partition(ApplyError::passes);
    for error in &passing {
        tracing::debug!(cluster = valid.name, namespace = valid.namespace, %error, "looking again");
    }
    for error in &errors {
        tracing::warn!(cluster = valid.name, namespace = valid.namespace, %error, "an action failed");
    }
    // What a person has to do something about is told before what passes.
    let told = errors
        .iter()
        .find(|error| error.stalls())
        .or(errors.first());
    CarriedOut {
        failure: told.map(|told| Failure {
            reason: told.reason().to_owned(),
            message: told.to_string(),
            stalls: told.stalls(),
        }),
        look_again: !passing.is_empty(),
    }
}

/// Tells of the step that was taken; what the conditions turn to is told when they are written.
async fn announce_step(context: &Context, cluster: &RdfCluster, plan: &Plan) {
    if let (Some(_), Verdict::Progressing { reason, message }) = (&plan.step, &plan.verdict) {
        let object = cluster.object_ref(&());
        context
            .event(&object, false, "Reconcile", &reason.to_string(), message)
            .await;
    }
}

async fn write(
    context: &Context,
    cluster: &RdfCluster,
    new: &RdfClusterStatus,
) -> Result<(), ReconcileError> {
    match write_status(&context.client, cluster, cluster.status.as_ref(), new).await {
        Ok(_) => {
            let old = cluster
                .status
                .as_ref()
                .map_or(&[][..], |status| &status.conditions);
            for note in events::notes(old, &new.conditions) {
                let object = cluster.object_ref(&());
                context
                    .event(
                        &object,
                        note.warning,
                        "Reconcile",
                        &note.reason,
                        &note.message,
                    )
                    .await;
            }
            Ok(())
        }
        // The object is older than what was written to it: the watch will tell of it.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(error) => Err(ReconcileError::Status(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_that_is(verdict: Verdict) -> Plan {
        Plan {
            ensure: Vec::new(),
            step: None,
            verdict,
            minimum_available: 0,
        }
    }

    fn progressing(reason: Reason) -> Plan {
        plan_that_is(Verdict::Progressing {
            reason,
            message: String::new(),
        })
    }

    #[test]
    fn a_cluster_that_only_waits_for_its_service_is_looked_at_again_within_a_second() {
        let silent = Obstacle::ServiceNotReachable(String::new());
        for plan in [plan_that_is(Verdict::Steady), progressing(Reason::Paused)] {
            let after = look_again_after(&plan, false, Some(&silent));
            assert!(after < Duration::from_secs(1), "{after:?}");
            assert_eq!(look_again_after(&plan, false, None), STEADY);
        }
    }

    #[test]
    fn what_is_watched_is_looked_at_again_less_often() {
        let pods = Obstacle::PodsNotReady(Vec::new());
        let steady = plan_that_is(Verdict::Steady);
        assert_eq!(look_again_after(&steady, false, Some(&pods)), SOON);
        assert_eq!(look_again_after(&steady, true, None), SOON);
        let joining = progressing(Reason::Joining);
        assert_eq!(look_again_after(&joining, false, Some(&pods)), SOON);
    }

    #[test]
    fn a_cluster_that_waits_for_a_person_is_not_hurried_by_an_obstacle() {
        let stalled = plan_that_is(Verdict::Stalled {
            reason: Reason::MajorityLost,
            message: String::new(),
        });
        let pods = Obstacle::PodsNotReady(Vec::new());
        assert_eq!(look_again_after(&stalled, false, Some(&pods)), STEADY);
    }
}
