//! What the API server has told of the objects that the operator made, kept up to date by watches. A
//! cluster that rests costs no requests.
//!
//! A cache may be behind. No more is decided from it than that there is nothing to do; whatever is to be
//! done is decided again from what the API server says at that moment ([`View::Live`]).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::core::{NamespaceResourceScope, Selector, SelectorExt as _};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::describe_error;
use crate::names::{
    FIELD_MANAGER, LABEL_CLUSTER, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_SERVICE_NAME,
};

/// A watch that fails for longer is told of.
const LASTING: Duration = Duration::from_secs(20);

/// A kind of object of which there is a cache.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The labels of those that are kept.
    fn labels() -> String {
        format!("{LABEL_MANAGED_BY}={FIELD_MANAGER}")
    }

    /// Where they are kept.
    fn store(caches: &Caches) -> &Store<Self>;
}

macro_rules! kinds {
    ($($field:ident: $kind:ty $(, $labels:expr)?;)*) => {
        /// The objects of the operator in the namespaces of one watch.
        #[derive(Clone)]
        pub struct Caches {
            $($field: Store<$kind>,)*
            troubles: Troubles,
        }

        /// News of the objects of each kind; they have to be taken for the caches to be up to date.
        pub struct News {
            $(pub $field: BoxStream<'static, Result<$kind, watcher::Error>>,)*
        }

        impl Caches {
            /// Watches one namespace, or all.
            #[must_use]
            pub fn watch(client: &Client, namespace: Option<&str>) -> (Self, News) {
                let troubles = Troubles::default();
                $(let $field = watch::<$kind>(client, namespace, &troubles);)*
                (
                    Self { $($field: $field.0,)* troubles },
                    News { $($field: $field.1.boxed(),)* },
                )
            }

            /// Whether every kind was listed once.
            ///
            /// # Errors
            /// When a watch has ended for good.
            pub async fn wait_until_filled(&self) -> Result<(), reflector::store::WriterDropped> {
                $(self.$field.wait_until_ready().await?;)*
                Ok(())
            }

            /// The operator's object of a kind and name. Nothing of a kind that the operator does not
            /// make.
            ///
            /// # Errors
            /// When the object cannot be written as JSON.
            pub fn find(
                &self,
                kind: &str,
                namespace: &str,
                name: &str,
            ) -> Result<Option<Value>, serde_json::Error> {
                $(if kind == <$kind as Resource>::kind(&()) {
                    let found = self.$field.get(&ObjectRef::new(name).within(namespace));
                    return found.map(|object| serde_json::to_value(&*object)).transpose();
                })*
                Ok(None)
            }
        }

        $(impl Kind for $kind {
            $(fn labels() -> String {
                $labels
            })?

            fn store(caches: &Caches) -> &Store<Self> {
                &caches.$field
            }
        })*
    };
}

kinds! {
    stateful_sets: StatefulSet;
    pods: Pod, format!("{LABEL_MANAGED_BY}={FIELD_MANAGER},{LABEL_COMPONENT}");
    volumes: PersistentVolumeClaim;
    jobs: Job;
    // Kubernetes gives endpoints the labels of their Service.
    endpoints: EndpointSlice, format!("{LABEL_CLUSTER},{LABEL_SERVICE_NAME}");
    services: Service;
    config_maps: ConfigMap;
    service_accounts: ServiceAccount;
    disruption_budgets: PodDisruptionBudget;
}

impl Debug for Caches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Caches").finish_non_exhaustive()
    }
}

impl Debug for News {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("News").finish_non_exhaustive()
    }
}

/// Kinds whose watch fails: since when, and the API server's words.
#[derive(Clone, Debug, Default)]
struct Troubles(Arc<Mutex<BTreeMap<String, (Instant, String)>>>);

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<K: Kind>(&self, news: &Result<watcher::Event<K>, watcher::Error>) {
        let kind = K::kind(&()).into_owned();
        match news {
            Ok(_) => {
                self.lock().remove(&kind);
            }
            Err(error) => {
                let words = words(error);
                tracing::warn!(kind, error = words, "a watch failed and is begun again");
                let mut troubles = self.lock();
                let (_, told) = troubles
                    .entry(kind)
                    .or_insert_with(|| (Instant::now(), String::new()));
                *told = words;
            }
        }
    }
}

fn words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => describe_error(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

impl Caches {
    /// What a watch has been failing with for some time: the caches are not to be believed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let troubles = self.troubles.lock();
        let lasting = troubles
            .iter()
            .find(|(_, (since, _))| since.elapsed() > LASTING);
        lasting.map(|(kind, (_, words))| format!("failed to watch {kind}s: {words}"))
    }
}

fn watch<K: Kind>(
    client: &Client,
    namespace: Option<&str>,
    troubles: &Troubles,
) -> (
    Store<K>,
    impl Stream<Item = Result<K, watcher::Error>> + use<K>,
) {
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().labels(&K::labels());
    let news = watcher(scope::<K>(client, namespace), config)
        .default_backoff()
        // As long as all the rest, and nobody reads it.
        .modify(|object| object.managed_fields_mut().clear())
        .inspect({
            let troubles = troubles.clone();
            move |news| troubles.note(news)
        })
        .reflect(writer)
        .touched_objects();
    (store, news)
}

/// One namespace, or all.
pub fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Where to look.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// At what the watches have told.
    Cached(&'a Caches),
    /// At the API server.
    Live(&'a Client),
}

impl Debug for View<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Cached(_) => "Cached",
            Self::Live(_) => "Live",
        })
    }
}

impl View<'_> {
    /// The objects of one kind in a namespace that have certain labels.
    ///
    /// # Errors
    /// When the API server does not answer or refuses; a cache always answers.
    pub async fn list<K: Kind>(
        &self,
        namespace: &str,
        selector: &Selector,
    ) -> Result<Vec<Arc<K>>, kube::Error> {
        match self {
            Self::Cached(caches) => Ok(K::store(caches).state_filter(|object| {
                object.meta().namespace.as_deref() == Some(namespace)
                    && selector.matches(object.labels())
            })),
            Self::Live(client) => {
                let api: Api<K> = Api::namespaced((*client).clone(), namespace);
                let found = api
                    .list(&ListParams::default().labels_from(selector))
                    .await?;
                Ok(found.items.into_iter().map(Arc::new).collect())
            }
        }
    }
}
