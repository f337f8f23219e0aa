//! Runs all controllers, and serves the operator's own health and metrics.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::api::{RdfBackup, RdfBackupSchedule, RdfCluster, RdfRestore};
use crate::context::Context;
use crate::lease::Elector;
use crate::names::{
    FIELD_MANAGER, LABEL_CLUSTER, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_SERVICE_NAME,
};
use crate::{backup, cluster, restore};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace to watch; all when absent.
    pub watch_namespace: Option<String>,
    pub node_image_repository: String,
    pub lease_namespace: String,
    pub identity: String,
    pub health_listen: SocketAddr,
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
    registry: Arc<Registry>,
}

/// Runs until a signal ends it or the lease is lost.
///
/// # Errors
/// When Kubernetes cannot be reached at the start, or the lease was lost.
pub async fn run(options: Options) -> Result<(), RunError> {
    let metrics = Metrics::default();
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
    let health = Health {
        ready: Arc::default(),
        registry: Arc::new(registry),
    };
    let listener = tokio::net::TcpListener::bind(options.health_listen)
        .await
        .map_err(|source| RunError::Health {
            address: options.health_listen,
            source,
        })?;
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(health.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the health server ended");
        }
    });

    let client = Client::try_default().await.map_err(RunError::Client)?;
    check_definitions(&client, options.watch_namespace.as_deref()).await?;
    // Ready also while another operator holds the lease: it stands by.
    health.ready.store(true, Ordering::Relaxed);
    let mut elector = Elector::new(
        client.clone(),
        &options.lease_namespace,
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
    let context = Arc::new(Context::new(
        client.clone(),
        options.node_image_repository.clone(),
        options.identity.clone(),
    ));
    let (stop, stopped) = watch::channel(false);
    let mut controllers = tokio::spawn(controllers(
        client,
        options.watch_namespace.clone(),
        context,
        metrics.clone(),
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

fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn controllers(
    client: Client,
    namespace: Option<String>,
    context: Arc<Context>,
    metrics: Metrics,
    stopped: watch::Receiver<bool>,
) {
    let namespace = namespace.as_deref();
    let mine = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={FIELD_MANAGER}"));
    let pods = mine.clone().labels(&format!(
        "{LABEL_MANAGED_BY}={FIELD_MANAGER},{LABEL_COMPONENT}"
    ));
    let endpoints =
        watcher::Config::default().labels(&format!("{LABEL_CLUSTER},{LABEL_SERVICE_NAME}"));
    // Several changes within a moment are one reconcile; clusters do not wait for each other.
    let config = ControllerConfig::default()
        .debounce(Duration::from_millis(300))
        .concurrency(8);
    let clusters = Controller::new(
        scope::<RdfCluster>(&client, namespace),
        watcher::Config::default(),
    )
    .with_config(config.clone())
    .owns(scope::<StatefulSet>(&client, namespace), mine.clone())
    .owns(scope::<Job>(&client, namespace), mine.clone())
    .watches(scope::<Pod>(&client, namespace), pods, |pod| {
        cluster_of(&pod)
    })
    // Kubernetes gives endpoints the labels of their Service.
    .watches(
        scope::<EndpointSlice>(&client, namespace),
        endpoints,
        |slice| cluster_served_by(&slice),
    )
    .graceful_shutdown_on(wait(stopped.clone()))
    .run(
        cluster::reconcile,
        |object, error, _| log("cluster", &object, error),
        context.clone(),
    );
    let backups = Controller::new(
        scope::<RdfBackup>(&client, namespace),
        watcher::Config::default(),
    )
    .with_config(config.clone())
    .owns(scope::<Job>(&client, namespace), mine)
    .graceful_shutdown_on(wait(stopped.clone()))
    .run(
        backup::reconcile,
        |object, error, _| log("backup", &object, error),
        context.clone(),
    );
    let schedules = Controller::new(
        scope::<RdfBackupSchedule>(&client, namespace),
        watcher::Config::default(),
    )
    .with_config(config.clone())
    .graceful_shutdown_on(wait(stopped.clone()))
    .run(
        backup::schedule::reconcile,
        |object, error, _| log("schedule", &object, error),
        context.clone(),
    );
    let restores = Controller::new(
        scope::<RdfRestore>(&client, namespace),
        watcher::Config::default(),
    )
    .with_config(config)
    .graceful_shutdown_on(wait(stopped))
    .run(
        restore::reconcile,
        |object, error, _| log("restore", &object, error),
        context,
    );
    let count = |controller: &'static str| {
        let reconciles = metrics.reconciles.clone();
        move |ended: bool| {
            let outcome = if ended { "ok" } else { "error" };
            reconciles
                .get_or_create(&ControllerLabels {
                    controller,
                    outcome,
                })
                .inc();
            futures::future::ready(())
        }
    };
    let all: Vec<BoxFuture<'_, ()>> = vec![
        Box::pin(
            clusters
                .map(|result| result.is_ok())
                .for_each(count("cluster")),
        ),
        Box::pin(
            backups
                .map(|result| result.is_ok())
                .for_each(count("backup")),
        ),
        Box::pin(
            schedules
                .map(|result| result.is_ok())
                .for_each(count("schedule")),
        ),
        Box::pin(
            restores
                .map(|result| result.is_ok())
                .for_each(count("restore")),
        ),
    ];
    futures::future::join_all(all).await;
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error says that the sender is gone: that is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn cluster_of(pod: &Pod) -> Option<ObjectRef<RdfCluster>> {
    let name = pod.labels().get(LABEL_CLUSTER)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

/// The cluster whose Service of the clients the endpoints are of: its other Services change with the
/// same pods.
fn cluster_served_by(slice: &EndpointSlice) -> Option<ObjectRef<RdfCluster>> {
    let name = slice.labels().get(LABEL_CLUSTER)?;
    let service = slice.labels().get(LABEL_SERVICE_NAME)?;
    (service == name).then_some(ObjectRef::new(name).within(&slice.namespace()?))
}

fn log<K: ResourceExt>(
    controller: &'static str,
    object: &Arc<K>,
    error: &(impl std::error::Error + ?Sized),
) -> Action {
    tracing::warn!(
        controller,
        name = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        %error,
        "a reconcile failed"
    );
    Action::requeue(Duration::from_secs(3))
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
