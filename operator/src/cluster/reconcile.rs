//! One reconcile: each phase in turn. It can be cut anywhere and run again.

use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::apply::{self, ApplyError};
use super::observation::Observation;
use super::plan::{self, Plan, Reason, Step, Verdict};
use super::serving::{self, Obstacle};
use super::status::{self, Failure};
use super::validate::{ValidatedCluster, validate};
use super::{deletion, observe};
use crate::api::{RdfCluster, RdfClusterStatus};
use crate::context::Context;
use crate::kubernetes::{describe_error, now, write_status};

const SHORTLY: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(3);
const STEADY: Duration = Duration::from_secs(10);

/// A reconcile that did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("failed to read the cluster: {}", describe_error(.0))]
    Read(#[source] kube::Error),
    #[error("failed to look at the world: {0}")]
    Observe(#[from] observe::ObserveError),
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error("failed to write the status: {}", describe_error(.0))]
    Status(#[source] kube::Error),
}

/// Brings a cluster one step nearer to its spec.
///
/// # Errors
/// When the API server does not answer or refuses what is needed before anything else.
pub async fn reconcile(
    cached: Arc<RdfCluster>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let namespace = cached.namespace().unwrap_or_default();
    let clusters: Api<RdfCluster> = Api::namespaced(context.client.clone(), &namespace);
    // The cache may be behind what this very operator wrote a moment ago.
    let Some(cluster) = clusters
        .get_opt(&cached.name_any())
        .await
        .map_err(ReconcileError::Read)?
    else {
        return Ok(Action::await_change());
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        deletion::finish(&context, &cluster).await?;
        return Ok(Action::await_change());
    }
    if deletion::protect(&context, &cluster).await? {
        return Ok(Action::requeue(Duration::ZERO));
    }
    let old = cluster.status.clone().unwrap_or_default();
    let valid = match validate(&cluster, &context.node_image_repository) {
        Ok(valid) => valid,
        Err(error) => {
            let failure = Failure {
                reason: error.reason().to_owned(),
                message: error.to_string(),
            };
            let new = status::invalid(cluster.metadata.generation, &old, &failure, now());
            announce_failure(&context, &cluster, &failure).await;
            write(&context, &cluster, &new).await?;
            return Ok(Action::requeue(STEADY));
        }
    };
    let observation = observe::observe(&context.client, &valid, &old).await?;
    let plan = plan::plan(&valid, &observation);
    act(&context, &cluster, &valid, &old, &observation, &plan).await
}

async fn act(
    context: &Context,
    cluster: &RdfCluster,
    valid: &ValidatedCluster,
    old: &RdfClusterStatus,
    observation: &Observation,
    plan: &Plan,
) -> Result<Action, ReconcileError> {
    let generation = cluster.metadata.generation;
    // What a step decides is persisted before anything is done about it.
    let recorded = match &plan.step {
        Some(step) => status::record_step(old.clone(), step, || uuid::Uuid::new_v4().to_string()),
        None => old.clone(),
    };
    let records = recorded != *old;
    let mut failure = None;
    if !records && !valid.paused {
        failure = carry_out(context, valid, old, observation, plan).await;
    }
    let new = status::status(
        valid,
        generation,
        &recorded,
        observation,
        plan,
        failure.as_ref(),
        now(),
    );
    announce(context, cluster, plan, failure.as_ref()).await;
    write(context, cluster, &new).await?;
    Ok(Action::requeue(if records {
        Duration::from_millis(50)
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

async fn carry_out(
    context: &Context,
    valid: &ValidatedCluster,
    old: &RdfClusterStatus,
    observation: &Observation,
    plan: &Plan,
) -> Option<Failure> {
    let uuid = old.cluster_uuid.as_deref()?;
    let client = &context.client;
    let ensured = apply::ensure(client, valid, observation, uuid, &plan.ensure).await;
    // An object that cannot be applied (a volume that may not grow) must not keep a member from
    // being recovered; but nothing is restarted on a template that was refused.
    let proceed = ensured.is_ok() || !matches!(plan.step, Some(Step::RestartPod { .. }));
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
    [ensured, stepped].into_iter().find_map(Result::err).map(|error| {
        tracing::warn!(cluster = valid.name, namespace = valid.namespace, %error, "an action failed");
        Failure {
            reason: error.reason().to_owned(),
            message: error.to_string(),
        }
    })
}

async fn announce(context: &Context, cluster: &RdfCluster, plan: &Plan, failure: Option<&Failure>) {
    let object = cluster.object_ref(&());
    if let Some(failure) = failure {
        announce_failure(context, cluster, failure).await;
        return;
    }
    match &plan.verdict {
        Verdict::Steady => {
            context
                .event(
                    &object,
                    false,
                    "Reconcile",
                    "Steady",
                    "the cluster is as the spec wants it",
                )
                .await;
        }
        // Waiting is told by conditions; a step is an event.
        Verdict::Progressing { reason, message } if plan.step.is_some() => {
            context
                .event(&object, false, "Reconcile", &reason.to_string(), message)
                .await;
        }
        Verdict::Progressing { .. } => {}
        Verdict::Stalled { reason, message } => {
            context
                .event(&object, true, "Reconcile", &reason.to_string(), message)
                .await;
        }
    }
}

async fn announce_failure(context: &Context, cluster: &RdfCluster, failure: &Failure) {
    let object = cluster.object_ref(&());
    context
        .event(
            &object,
            true,
            "Reconcile",
            &failure.reason,
            &failure.message,
        )
        .await;
}

async fn write(
    context: &Context,
    cluster: &RdfCluster,
    new: &RdfClusterStatus,
) -> Result<(), ReconcileError> {
    write_status(&context.client, cluster, cluster.status.as_ref(), new)
        .await
        .map(|_| ())
        .map_err(ReconcileError::Status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_that_is(verdict: Verdict) -> Plan {
        Plan {
            ensure: Vec::new(),
            step: None,
            verdict,
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
