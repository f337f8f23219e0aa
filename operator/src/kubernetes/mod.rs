//! How the controllers speak to the API server.

pub mod cache;
pub mod client;
pub mod objects;
pub mod obstacles;
pub mod rights;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Writes the status when it differs from the one the object has. The resourceVersion goes along,
/// so that a status computed from an old object is refused.
///
/// # Errors
/// When the API server refuses it.
pub async fn write_status<K, S>(
    client: &Client,
    object: &K,
    old: Option<&S>,
    new: &S,
) -> Result<bool, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(false);
    }
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    // Replacing says which fields went away, and carries the resourceVersion.
    let mut replaced = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
    replaced["status"] = json!(new);
    let replaced: K = serde_json::from_value(replaced).map_err(kube::Error::SerdeError)?;
    api.replace_status(&object.name_any(), &PostParams::default(), &replaced)
        .await
        .map(|_| true)
}

/// The words of the API server where there are some.
#[must_use]
pub fn describe_error(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The present time, cut to seconds as Kubernetes writes it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
