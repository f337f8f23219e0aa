//! Runs all controllers, and serves the operator's own health and metrics.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Client, Config, Resource, ResourceExt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{RdfBackup, RdfBackupSchedule, RdfCluster, RdfRestore};
use crate::context::Context;
use crate::kubernetes::cache::{Caches, News, scope};
use crate::kubernetes::client::{self, Requests};
use crate::kubernetes::describe_error;
use crate::lease::Elector;
use crate::names::{
    FIELD_MANAGER, LABEL_CLUSTER, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_SERVICE_NAME,
};
use crate::progress::{Progress, RECONCILE_DEADLINE};
use crate::territory::{Territory, Whose};
use crate::turns::{Limits, Turns};
use crate::{backup, cluster, restore};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespaces to watch; all when there is none.
    pub watch_namespaces: Vec<String>,
    pub node_image_repository: String,
    pub lease_namespace: String,
    /// Operators with the same name there are one installation.
    pub lease_name: String,
    pub identity: String,
    pub health_listen: SocketAddr,
    /// How clusters are restarted that another version of the operator made otherwise.
    pub upgrade_restarts: Limits,
}

/// The operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("failed to connect to Kubernetes")]
    Client(#[source] kube::Error),
    #[error("failed to serve health on {address}")]
    Health {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("the lease was lost: another operator may act now")]
    LeaseLost,
    #[error("the definitions of the custom resources are not installed: {0}")]
    Definitions(String),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
    outcome: &'static str,
}

/// The operator's own metrics.
#[derive(Clone, Debug, Default)]
struct Metrics {
    reconciles: Family<ControllerLabels, Counter>,
    leads: Gauge,
}

#[derive(Clone, Debug)]
struct Health {
    ready: Arc<AtomicBool>,
    progress: Progress,
    registry: Arc<Registry>,
}

/// Runs until a signal ends it or the lease is lost.
///
/// # Errors
/// When Kubernetes cannot be reached at the start, or the lease was lost.
pub async fn run(options: Options) -> Result<(), RunError> {
    let metrics = Metrics::default();
    let progress = Progress::default();
    let mut registry = Registry::with_prefix("quadraft_operator");
    registry.register(
        "reconciles",
        "Reconciles by outcome",
        metrics.reconciles.clone(),
    );
    registry.register(
        "leads",
        "Whether this operator holds the lease",
        metrics.leads.clone(),
    );
    let requests = Requests::default();
    registry.register(
        "api_requests",
        "Requests to the API server by outcome",
        requests.clone(),
    );
    let health = Health {
        ready: Arc::default(),
        progress: progress.clone(),
        registry: Arc::new(registry),
    };
    let listener = listen(options.health_listen).await?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(health.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the health server ended");
        }
    });

    let config = Config::infer()
        .await
        .map_err(|error| RunError::Client(kube::Error::InferConfig(error)))?;
    let client = client::connect(config, requests).map_err(RunError::Client)?;
    for namespace in scopes(&options.watch_namespaces) {
        check_definitions(&client, namespace).await?;
    }
    // Ready also while another operator holds the lease: it stands by.
    health.ready.store(true, Ordering::Relaxed);
    let mut elector = Elector::new(
        client.clone(),
        &options.lease_namespace,
        &options.lease_name,
        options.identity.clone(),
    );
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(RunError::Signals)?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(RunError::Signals)?;
    tracing::info!(identity = options.identity, "waiting for the lease");
    tokio::select! {
        () = elector.acquire() => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    tracing::info!("holding the lease");
    metrics.leads.set(1);
    let (stop, stopped) = watch::channel(false);
    let mut controllers = tokio::spawn(controllers(
        client,
        options.clone(),
        metrics.clone(),
        progress,
        stopped,
    ));
    let outcome = tokio::select! {
        () = elector.hold() => {
            // Another may act from now on: reconciles that run are cut, as they can be anywhere.
            controllers.abort();
            return Err(RunError::LeaseLost);
        }
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = &mut controllers => Ok(()),
    };
    tracing::info!("stopping");
    // The receivers may be gone already when the controllers ended by themselves.
    let _ = stop.send(true);
    if tokio::time::timeout(Duration::from_secs(5), &mut controllers)
        .await
        .is_err()
    {
        controllers.abort();
    }
    elector.release().await;
    outcome
}

/// Listens on an address. All addresses of a machine without IPv6 are those of IPv4.
async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let other = (Ipv4Addr::UNSPECIFIED, address.port());
            // Of two failures the first is told: that of the address that was asked for.
            TcpListener::bind(other).await.map_err(|_| error)
        }
        bound => bound,
    };
    bound.map_err(|source| RunError::Health { address, source })
}

/// Fails when a reconcile does not end although it has a deadline: a thread that hangs.
async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    match health.progress.hanging_for() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(time) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("a reconcile has not ended for {} s", time.as_secs()),
        ),
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    }
}

async fn metrics_text(State(health): State<Health>) -> (StatusCode, String) {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => (StatusCode::OK, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

/// Fails early, with words, where a controller would only log that it cannot watch.
async fn check_definitions(client: &Client, namespace: Option<&str>) -> Result<(), RunError> {
    async fn one<K>(client: &Client, namespace: Option<&str>) -> Result<(), RunError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let limit = kube::api::ListParams::default().limit(1);
        scope::<K>(client, namespace)
            .list(&limit)
            .await
            .map(|_| ())
            .map_err(|error| {
                let words = crate::kubernetes::describe_error(&error);
                RunError::Definitions(format!("{}: {words}", K::kind(&())))
            })
    }
    one::<RdfCluster>(client, namespace).await?;
    one::<RdfBackup>(client, namespace).await?;
    one::<RdfBackupSchedule>(client, namespace).await?;
    one::<RdfRestore>(client, namespace).await
}

/// How the controller of a kind runs: several changes within a moment are one reconcile, and clusters do
/// not wait for each other.
fn config() -> ControllerConfig {
    ControllerConfig::default()
        .debounce(Duration::from_millis(300))
        .concurrency(8)
}

/// A controller of one kind. Its own status is no news to it.
fn controller_of<K>(client: &Client, namespace: Option<&str>) -> Controller<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let news = watcher(scope::<K>(client, namespace), watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation
                .combine(predicates::finalizers)
                .combine(predicates::annotations)
                .combine(deletion),
            PredicateConfig::default(),
        );
    Controller::for_stream(news, store).with_config(config())
}

fn deletion<K: Resource>(object: &K) -> Option<u64> {
    object
        .meta()
        .deletion_timestamp
        .as_ref()
        .map(|time| time.0.as_second().unsigned_abs())
}

async fn controllers(
    client: Client,
    options: Options,
    metrics: Metrics,
    progress: Progress,
    stopped: watch::Receiver<bool>,
) {
    let installation = format!("{}/{}", options.lease_namespace, options.lease_name);
    let territory = Territory::new(client.clone(), installation);
    let turns = Turns::new(options.upgrade_restarts, Instant::now());
    let each = scopes(&options.watch_namespaces).map(|namespace| {
        let (caches, news) = Caches::watch(&client, namespace);
        let context = Arc::new(Context::new(
            client.clone(),
            caches.clone(),
            territory.clone(),
            turns.clone(),
            options.node_image_repository.clone(),
            options.identity.clone(),
        ));
        let runs = Runs {
            metrics: metrics.clone(),
            progress: progress.clone(),
            context,
            caches,
            stopped: stopped.clone(),
        };
        Box::pin(controllers_of(&client, namespace, news, runs))
    });
    // The end of one is the end of all: the process ends, and another takes its place.
    futures::future::select_all(each).await;
}

/// What is watched: each namespace by itself, or all in one.
fn scopes(namespaces: &[String]) -> impl Iterator<Item = Option<&str>> {
    let all = namespaces.is_empty().then_some(None);
    all.into_iter()
        .chain(namespaces.iter().map(|namespace| Some(namespace.as_str())))
}

async fn controllers_of(client: &Client, namespace: Option<&str>, news: News, runs: Runs) {
    let clusters = controller_of::<RdfCluster>(client, namespace)
        .owns_stream(news.stateful_sets)
        .owns_stream(news.services)
        .owns_stream(news.config_maps)
        .owns_stream(news.service_accounts)
        .owns_stream(news.disruption_budgets)
        .watches_stream(news.jobs, |job| cluster_of(&job))
        .watches_stream(news.pods, |pod| cluster_of(&pod))
        .watches_stream(news.volumes, |claim| cluster_of(&claim))
        .watches_stream(news.endpoints, |slice| cluster_served_by(&slice));
    let backups = controller_of::<RdfBackup>(client, namespace).owns(
        scope::<Job>(client, namespace),
        watcher::Config::default().labels(&format!(
            "{LABEL_MANAGED_BY}={FIELD_MANAGER},{LABEL_COMPONENT}=backup"
        )),
    );
    let schedules = controller_of::<RdfBackupSchedule>(client, namespace);
    let restores = controller_of::<RdfRestore>(client, namespace);
    let all: Vec<BoxFuture<'_, ()>> = vec![
        Box::pin(runs.run("cluster", clusters, cluster::reconcile)),
        Box::pin(runs.run("backup", backups, backup::reconcile)),
        Box::pin(runs.run("schedule", schedules, backup::schedule::reconcile)),
        Box::pin(runs.run("restore", restores, restore::reconcile)),
    ];
    futures::future::select_all(all).await;
}

/// How long reconciles wait for the first lists; watches that fail are told of by then.
const FILLING: Duration = Duration::from_secs(30);

/// A reconcile did not end in time, or failed.
#[derive(Debug, thiserror::Error)]
enum ReconcileError<E: std::error::Error + 'static> {
    #[error("the reconcile did not end within {} s and was cut", RECONCILE_DEADLINE.as_secs())]
    Deadline,
    #[error("failed to hold the namespace: {}", describe_error(.0))]
    Territory(#[source] kube::Error),
    #[error(transparent)]
    Failed(E),
}

/// When to look again whether another installation is still there.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// Whether another installation acts in an object's namespace; it is told at the object.
async fn is_left_alone<K, E>(context: &Context, object: &K) -> Result<bool, ReconcileError<E>>
where
    K: Resource<DynamicType = ()>,
    E: std::error::Error + 'static,
{
    let namespace = object.namespace().unwrap_or_default();
    let held = context.territory.hold(&namespace).await;
    let Whose::Theirs(holder) = held.map_err(ReconcileError::Territory)? else {
        return Ok(false);
    };
    let note = format!(
        "the operator {holder} acts in this namespace: this one ({}) does nothing here",
        context.territory.installation()
    );
    tracing::info!(
        name = object.name_any(),
        namespace,
        holder,
        "another operator acts here"
    );
    let reference = object.object_ref(&());
    context
        .event(&reference, true, "Reconcile", "ManagedByAnother", &note)
        .await;
    Ok(true)
}

/// What all controllers share while they run.
struct Runs {
    metrics: Metrics,
    progress: Progress,
    context: Arc<Context>,
    caches: Caches,
    stopped: watch::Receiver<bool>,
}

impl Runs {
    async fn run<K, R, F, E>(&self, name: &'static str, controller: Controller<K>, reconcile: R)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        R: Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Action, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let (progress, caches) = (self.progress.clone(), self.caches.clone());
        let calmed = self.context.failures.clone();
        let reconcile = move |object: Arc<K>, context: Arc<Context>| {
            let (reconcile, caches) = (reconcile.clone(), caches.clone());
            let (running, calmed) = (progress.begin(), calmed.clone());
            async move {
                let key = object.meta().uid.clone().unwrap_or_default();
                let whole = async {
                    // Nothing is decided from caches that were never filled; when their watches have
                    // ended, so will the controllers. One that fails is for the reconcile to tell of.
                    let filled = caches.wait_until_filled();
                    let _ = tokio::time::timeout(FILLING, filled).await;
                    if is_left_alone(&context, &*object).await? {
                        return Ok(Action::requeue(LEFT_ALONE));
                    }
                    reconcile(object, context)
                        .await
                        .map_err(ReconcileError::Failed)
                };
                let ended = tokio::time::timeout(RECONCILE_DEADLINE, whole).await;
                drop(running);
                match ended {
                    Ok(Ok(action)) => {
                        calmed.forget(&key);
                        Ok(action)
                    }
                    Ok(Err(error)) => Err(error),
                    Err(_) => Err(ReconcileError::Deadline),
                }
            }
        };
        let again = move |object: Arc<K>, error: &ReconcileError<E>, context: Arc<Context>| {
            let wait = context
                .failures
                .next_wait(object.meta().uid.as_deref().unwrap_or_default());
            tracing::warn!(
                controller = name,
                name = object.name_any(),
                namespace = object.namespace().unwrap_or_default(),
                %error,
                again_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "a reconcile failed"
            );
            Action::requeue(wait)
        };
        controller
            .graceful_shutdown_on(wait(self.stopped.clone()))
            .run(reconcile, again, self.context.clone())
            .for_each(|result| {
                let outcome = if result.is_ok() { "ok" } else { "error" };
                let labels = ControllerLabels {
                    controller: name,
                    outcome,
                };
                self.metrics.reconciles.get_or_create(&labels).inc();
                futures::future::ready(())
            })
            .await;
    }
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error says that the sender is gone: that is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<RdfCluster>> {
    let name = object.labels().get(LABEL_CLUSTER)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The cluster whose Service of the clients the endpoints are of: its other Services change with the
/// same pods.
fn cluster_served_by(slice: &EndpointSlice) -> Option<ObjectRef<RdfCluster>> {
    let name = slice.labels().get(LABEL_CLUSTER)?;
    let service = slice.labels().get(LABEL_SERVICE_NAME)?;
    (service == name).then_some(ObjectRef::new(name).within(&slice.namespace()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn endpoints_of(service: &str) -> EndpointSlice {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-x7k2p"),
                "namespace": "prod",
                "labels": { LABEL_CLUSTER: "films", LABEL_SERVICE_NAME: service },
            },
            "addressType": "IPv4",
            "endpoints": [],
        }))
        .unwrap()
    }

    #[test]
    fn only_the_endpoints_of_the_clients_service_are_news_of_a_cluster() {
        let films = ObjectRef::new("films").within("prod");
        assert_eq!(cluster_served_by(&endpoints_of("films")), Some(films));
        assert_eq!(cluster_served_by(&endpoints_of("films-peers")), None);
    }
}
