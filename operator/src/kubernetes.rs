//! Small things that every controller does with the API server.

use k8s_openapi::jiff::Timestamp;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::names::FIELD_MANAGER;

/// Applies an object by server-side apply. An object that is already so is not written.
///
/// # Errors
/// When the API server refuses it.
pub async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<(), kube::Error> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, version) = text("/apiVersion")
        .split_once('/')
        .unwrap_or(("", text("/apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, text("/kind"));
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(text("/metadata/name"), &parameters, &Patch::Apply(object))
        .await
        .map(|_| ())
}

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
