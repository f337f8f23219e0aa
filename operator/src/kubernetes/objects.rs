//! Objects that the operator makes and keeps as they should be, without touching those of others.
//!
//! An object is made by a create, which fails when something of that name is there, and changed by
//! server-side apply with the UID and the resourceVersion that were seen a moment before, which fails
//! when something else has taken its place or it was changed meanwhile: nothing is ever applied over an
//! object that was not looked at.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
    PostParams, Preconditions,
};
use serde_json::{Value, json};

use super::describe_error;
use crate::names::{ANNOTATION_OBJECT_HASH, FIELD_MANAGER, LABEL_CLUSTER_UUID, short_hash};
use crate::quantity::parse_nano;

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted(Value);

/// An object could not be brought to what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("failed to {verb} {kind} {name}: {}", describe_error(source))]
    Kubernetes {
        verb: &'static str,
        kind: String,
        name: String,
        source: kube::Error,
    },
    /// Somebody else has the name.
    #[error(
        "{kind} {name} exists and is not this resource's ({whose}): it is left alone. Rename one of them, \
         or delete it"
    )]
    NameTaken {
        kind: String,
        name: String,
        whose: String,
    },
    /// What has the name is on its way out.
    #[error("{kind} {name} is still being deleted")]
    BeingDeleted { kind: String, name: String },
    /// It is another than the one that was looked at: the next look decides anew.
    #[error("{kind} {name} was changed while it was looked at")]
    Changed { kind: String, name: String },
}

/// Whose an object is that has a wanted one's name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    /// That of an owner of the same kind and name which is gone: it will be collected.
    Predecessors,
    Others(String),
}

/// The object that was looked at, and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    uid: String,
    resource_version: String,
}

/// What to do about a wanted object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Nothing,
    Create,
    Apply(Seen),
    WaitUntilGone,
    NameTaken { whose: String },
}

impl Wanted {
    /// Takes an object as JSON and notes in it what it is, so that a later one that has less is told
    /// from it.
    #[must_use]
    pub fn new(mut object: Value) -> Self {
        let hash = short_hash(&object.to_string(), 16);
        if !object["metadata"]["annotations"].is_object() {
            object["metadata"]["annotations"] = json!({});
        }
        object["metadata"]["annotations"][ANNOTATION_OBJECT_HASH] = json!(hash);
        Self(object)
    }

    fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let api_version = self.text("/apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, self.kind());
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(client.clone(), self.namespace(), &resource)
    }

    /// Whether an object, if it is there, is all that is wanted.
    #[must_use]
    pub fn is_met(&self, existing: Option<&Value>) -> bool {
        self.decide(existing) == Decision::Nothing
    }

    /// Whether no object of this owner has the name, or one that is on its way out.
    #[must_use]
    pub fn is_gone(&self, existing: Option<&Value>) -> bool {
        !matches!(
            self.decide(existing),
            Decision::Nothing | Decision::Apply(_)
        )
    }

    /// Makes the object, or brings the one that exists to it.
    ///
    /// # Errors
    /// When the API server refuses, or the name is somebody else's.
    pub async fn ensure(&self, client: &Client) -> Result<(), ObjectError> {
        let kind = || self.kind().to_owned();
        let name = || self.name().to_owned();
        match self.decide(self.get(client).await?.as_ref()) {
            Decision::Nothing => Ok(()),
            Decision::Create => self.create(client).await,
            Decision::Apply(seen) => self.apply(client, &seen).await,
            Decision::NameTaken { whose } => Err(ObjectError::NameTaken {
                kind: kind(),
                name: name(),
                whose,
            }),
            Decision::WaitUntilGone => Err(ObjectError::BeingDeleted {
                kind: kind(),
                name: name(),
            }),
        }
    }

    async fn get(&self, client: &Client) -> Result<Option<Value>, ObjectError> {
        let found = self.api(client).get_opt(self.name()).await;
        let found = found.map_err(|source| self.failed("get", source))?;
        found
            .map(serde_json::to_value)
            .transpose()
            .map_err(|error| self.failed("read", kube::Error::SerdeError(error)))
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> ObjectError {
        let (kind, name) = (self.kind().to_owned(), self.name().to_owned());
        match source {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => {
                ObjectError::Changed { kind, name }
            }
            source => ObjectError::Kubernetes {
                verb,
                kind,
                name,
                source,
            },
        }
    }

    /// Deletes the object that exists if it is ours; what is somebody else's stays.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn remove(&self, client: &Client) -> Result<(), ObjectError> {
        let existing = self.get(client).await?;
        if self.is_gone(existing.as_ref()) {
            return Ok(());
        }
        let uid = existing
            .as_ref()
            .and_then(|existing| existing["metadata"]["uid"].as_str());
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: uid.map(str::to_owned),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api(client).delete(self.name(), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(source) => Err(self.failed("delete", source)),
        }
    }

    async fn create(&self, client: &Client) -> Result<(), ObjectError> {
        let api = self.api(client);
        let object: DynamicObject = serde_json::from_value(self.0.clone())
            .map_err(|error| self.failed("write", kube::Error::SerdeError(error)))?;
        let created = api
            .create(&PostParams::default(), &object)
            .await
            .map_err(|source| self.failed("create", source))?;
        // No resourceVersion: whoever watches for new objects writes to this one already.
        let seen = Seen {
            uid: created.metadata.uid.unwrap_or_default(),
            resource_version: String::new(),
        };
        // Whoever creates owns the fields by "update", and a later apply that leaves one out would not
        // take it away. Without any owner the apply becomes the only one.
        let disown = json!([
            { "op": "test", "path": "/metadata/uid", "value": seen.uid },
            { "op": "replace", "path": "/metadata/managedFields", "value": [{}] },
        ]);
        let disown = serde_json::from_value(disown)
            .map(Patch::Json::<Value>)
            .map_err(|error| self.failed("write", kube::Error::SerdeError(error)))?;
        api.patch(self.name(), &PatchParams::default(), &disown)
            .await
            .map_err(|source| self.failed("patch", source))?;
        self.apply(client, &seen).await
    }

    async fn apply(&self, client: &Client, seen: &Seen) -> Result<(), ObjectError> {
        let mut object = self.0.clone();
        object["metadata"]["uid"] = json!(seen.uid);
        if !seen.resource_version.is_empty() {
            object["metadata"]["resourceVersion"] = json!(seen.resource_version);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.api(client)
            .patch(self.name(), &parameters, &Patch::Apply(&object))
            .await
            .map(|_| ())
            .map_err(|source| self.failed("apply", source))
    }

    fn decide(&self, existing: Option<&Value>) -> Decision {
        let Some(existing) = existing else {
            return Decision::Create;
        };
        let metadata: ObjectMeta =
            serde_json::from_value(existing["metadata"].clone()).unwrap_or_default();
        match self.whose(&metadata) {
            Whose::Others(whose) => return Decision::NameTaken { whose },
            Whose::Predecessors => return Decision::WaitUntilGone,
            Whose::Ours if metadata.deletion_timestamp.is_some() => return Decision::WaitUntilGone,
            Whose::Ours => {}
        }
        if covers(existing, &self.0) {
            return Decision::Nothing;
        }
        Decision::Apply(Seen {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
        })
    }

    fn whose(&self, existing: &ObjectMeta) -> Whose {
        let owner = &self.0["metadata"]["ownerReferences"][0];
        if owner.is_null() {
            // A volume outlives its cluster: it says itself whose it is.
            let uuid = self.0["metadata"]["labels"][LABEL_CLUSTER_UUID].as_str();
            let label = |name: &str| existing.labels.as_ref()?.get(name).map(String::as_str);
            return match label(LABEL_CLUSTER_UUID) {
                found if found.is_some() && found == uuid => Whose::Ours,
                Some(found) => Whose::Others(format!("it is that of cluster {found}")),
                None => Whose::Others("it does not say which cluster it belongs to".to_owned()),
            };
        }
        let text = |key: &str| owner[key].as_str().unwrap_or_default();
        let owners = existing.owner_references.iter().flatten();
        let mut others = Vec::new();
        for found in owners {
            if found.uid == text("uid") {
                return Whose::Ours;
            }
            if found.kind == text("kind") && found.name == text("name") {
                return Whose::Predecessors;
            }
            others.push(format!("{} {}", found.kind, found.name));
        }
        Whose::Others(if others.is_empty() {
            "it has no owner".to_owned()
        } else {
            format!("it is owned by {}", others.join(", "))
        })
    }
}

/// Whether an object has everything that is wanted of it; what the API server and others add is theirs.
/// What it has and should not have any more shows in the annotation with the hash.
fn covers(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (_, Value::Null) => true,
        (Value::Object(existing), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match existing.get(key) {
                Some(existing) => covers(existing, wanted),
                // What is empty is left out by the API server.
                None => is_empty(wanted),
            })
        }
        (Value::Array(existing), Value::Array(wanted)) => {
            existing.len() == wanted.len()
                && existing
                    .iter()
                    .zip(wanted)
                    .all(|(existing, wanted)| covers(existing, wanted))
        }
        (Value::String(existing), Value::String(wanted)) => {
            // 1024Mi is written down as 1Gi.
            existing == wanted
                || parse_nano(existing).is_some_and(|value| Some(value) == parse_nano(wanted))
        }
        _ => existing == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service() -> Wanted {
        Wanted::new(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "films", "namespace": "prod", "labels": { "a": "b" },
                "ownerReferences": [{ "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster",
                    "name": "films", "uid": "cluster-1", "controller": true }],
            },
            "spec": { "selector": { "x": "y" }, "ports": [{ "name": "http", "port": 7878 }] },
        }))
    }

    /// As the API server gives it back.
    fn stored(wanted: &Wanted) -> Value {
        let mut stored = wanted.0.clone();
        stored["metadata"]["uid"] = json!("service-1");
        stored["metadata"]["resourceVersion"] = json!("7");
        stored["spec"]["clusterIP"] = json!("10.0.0.1");
        stored["spec"]["ports"][0]["protocol"] = json!("TCP");
        stored
    }

    fn seen() -> Seen {
        Seen {
            uid: "service-1".to_owned(),
            resource_version: "7".to_owned(),
        }
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_as_wanted_is_left_alone() {
        assert_eq!(service().decide(None), Decision::Create);
        assert_eq!(
            service().decide(Some(&stored(&service()))),
            Decision::Nothing
        );
    }

    #[test]
    fn a_field_that_somebody_changed_is_brought_back() {
        let mut changed = stored(&service());
        changed["spec"]["selector"]["x"] = json!("z");
        assert_eq!(service().decide(Some(&changed)), Decision::Apply(seen()));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_taken_away() {
        let existing = stored(&service());
        let mut less = service().0;
        less["metadata"]["labels"] = json!({});
        let less = Wanted::new(less);
        assert_eq!(less.decide(Some(&existing)), Decision::Apply(seen()));
    }

    #[test]
    fn the_object_of_somebody_else_is_never_applied_over() {
        for owners in [
            Value::Null,
            json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "d" }]),
            json!([{ "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster", "name": "books",
                "uid": "cluster-2" }]),
        ] {
            let mut foreign = stored(&service());
            foreign["metadata"]["ownerReferences"] = owners.clone();
            let decision = service().decide(Some(&foreign));
            assert!(
                matches!(decision, Decision::NameTaken { .. }),
                "{owners}: {decision:?}"
            );
        }
    }

    #[test]
    fn the_object_of_a_predecessor_of_the_same_name_and_one_on_its_way_out_are_waited_for() {
        let mut old = stored(&service());
        old["metadata"]["ownerReferences"][0]["uid"] = json!("cluster-0");
        assert_eq!(service().decide(Some(&old)), Decision::WaitUntilGone);
        let mut going = stored(&service());
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(service().decide(Some(&going)), Decision::WaitUntilGone);
    }

    #[test]
    fn a_volume_is_known_by_the_cluster_that_it_names() {
        let volume = |uuid: Option<&str>| {
            let mut object = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": "data-films-0-0", "namespace": "prod", "labels": {} },
                "spec": { "resources": { "requests": { "storage": "1024Mi" } } },
            });
            if let Some(uuid) = uuid {
                object["metadata"]["labels"][LABEL_CLUSTER_UUID] = json!(uuid);
            }
            Wanted::new(object)
        };
        let mut existing = volume(Some("one")).0;
        existing["spec"]["resources"]["requests"]["storage"] = json!("1Gi");
        assert_eq!(
            volume(Some("one")).decide(Some(&existing)),
            Decision::Nothing
        );
        for other in [Some("two"), None] {
            let decision = volume(Some("one")).decide(Some(&volume(other).0));
            assert!(
                matches!(decision, Decision::NameTaken { .. }),
                "{decision:?}"
            );
        }
    }

    #[test]
    fn what_the_api_server_leaves_out_or_writes_otherwise_is_no_difference() {
        let wanted = json!({ "a": {}, "b": [], "c": null, "d": { "e": [] }, "f": "0.5" });
        assert!(covers(&json!({ "f": "500m" }), &wanted));
        assert!(!covers(&json!({ "f": "501m" }), &json!({ "f": "0.5" })));
        assert!(!covers(&json!({}), &json!({ "a": false })));
        assert!(!covers(&json!({ "a": [1, 2] }), &json!({ "a": [1] })));
    }
}
