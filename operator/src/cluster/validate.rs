//! The spec as types that cannot be wrong.

use std::collections::BTreeSet;

use quadraft_protocol::{HTTP_PORT, PEER_PORT};

use super::observation::Slot;
use super::origin::Origin;
use crate::api::{BackupLocation, OnClusterDeletion, RdfCluster, RdfClusterSpec, RdfClusterStatus};
use crate::names::{
    ANNOTATION_ACCEPT_VOLUME, ANNOTATION_GIVE_UP_VOLUMES, ANNOTATION_REPLACE_MEMBER, short_hash,
};
use crate::quantity::parse_whole;
use crate::releases::{RELEASES, ahead_of, known_versions, release};

/// What the names of a cluster's further Services end with, which people use. No cluster may be called
/// so: the Service of its own name would be that of another.
const ANY_SUFFIX: &str = "-any";
const READ_ONLY_SUFFIX: &str = "-ro";
/// Hexadecimal digits that tell the names of objects which nobody uses by name from those of others.
const TELLING_DIGITS: usize = 5;

/// A spec that cannot be carried out, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("replicas is {0}: it must be 1, 3, 5 or 7")]
    Replicas(i32),
    #[error("version {0:?} is not known to this operator; it knows {known}", known = known_versions())]
    UnknownVersion(String),
    #[error(
        "version {wanted} may not be able to read what {running} has written, which runs: a cluster does not go \
         back. Restore a backup of {wanted} into another cluster, or update the operator if it does not know \
         {running}"
    )]
    OlderVersion { wanted: String, running: String },
    #[error("storage.size {0:?} is not a quantity such as 10Gi")]
    StorageSize(String),
    #[error("the resource has no {0}")]
    Metadata(&'static str),
    #[error("the name ends in {0:?}, as the name of a Service of another cluster may")]
    ReservedName(&'static str),
    #[error(
        "no Service can have the name {0:?}: it begins with a letter and has small letters, digits and dashes"
    )]
    ServiceName(String),
    #[error("bootstrap.fromBackup needs exactly one of backupName and source")]
    BootstrapSource,
    #[error("http.cors.origins has {0:?}, which is not an origin such as https://example.org")]
    Origin(String),
    #[error("http.cors.origins has * and others: * stands alone, as it means every origin")]
    OriginBesideAny,
}

impl SpecError {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Replicas(_) => "InvalidReplicas",
            Self::UnknownVersion(_) => "UnknownVersion",
            Self::OlderVersion { .. } => "OlderVersion",
            Self::StorageSize(_) => "InvalidStorageSize",
            Self::Metadata(_) => "InvalidMetadata",
            Self::ReservedName(_) | Self::ServiceName(_) => "InvalidName",
            Self::BootstrapSource => "InvalidBootstrap",
            Self::Origin(_) | Self::OriginBesideAny => "InvalidOrigins",
        }
    }
}

/// A cluster whose spec was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: i64,
    pub replicas: u8,
    pub version: String,
    pub image: String,
    pub storage_bytes: u64,
    pub on_deletion: OnClusterDeletion,
    pub bootstrap: Option<ValidatedBootstrap>,
    pub paused: bool,
    /// Whose pages may read answers.
    pub cors_origins: Vec<Origin>,
    /// The volume that a person accepts in a slot.
    pub accepted_volume: Option<(Slot, String)>,
    /// The volume that a person wants given up, with the member in its slot.
    pub replaced_volume: Option<(Slot, String)>,
    /// The volumes that a person does not wait for any more, by UID.
    pub given_up_volumes: BTreeSet<String>,
    /// How often the cluster has begun anew on other volumes.
    pub volume_generation: u32,
    /// For the parts that are handed to Kubernetes as they are.
    pub spec: RdfClusterSpec,
}

/// A backup to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBootstrap {
    pub source: BootstrapSource,
    pub expected_digest: Option<String>,
}

/// Where the backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapSource {
    Backup(String),
    Location(BackupLocation),
}

impl ValidatedCluster {
    /// The slots that should be members.
    pub fn wanted_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..self.replicas
    }

    /// Name of the StatefulSet of a slot.
    #[must_use]
    pub fn stateful_set_name(&self, slot: Slot) -> String {
        format!("{}-{slot}", self.name)
    }

    /// Name of the pod of a slot.
    #[must_use]
    pub fn pod_name(&self, slot: Slot) -> String {
        format!("{}-{slot}-0", self.name)
    }

    /// Name of the volume of a slot.
    #[must_use]
    pub fn volume_name(&self, slot: Slot) -> String {
        format!("data-{}-{slot}-0{}", self.name, self.volume_suffix())
    }

    /// What the names of volumes end with once the first ones were lost: those stay beside the new ones.
    fn volume_suffix(&self) -> String {
        match self.volume_generation {
            0 => String::new(),
            generation => format!("-r{generation}"),
        }
    }

    /// The slot whose volume has a name, also when its labels were lost.
    #[must_use]
    pub fn slot_of_volume(&self, name: &str) -> Option<Slot> {
        let (slot, generation) = self.slot_and_generation(name)?;
        (generation == self.volume_generation).then_some(slot)
    }

    /// The slot and the generation that the name of a volume of this cluster says.
    #[must_use]
    pub fn slot_and_generation(&self, name: &str) -> Option<(Slot, u32)> {
        let rest = name
            .strip_prefix("data-")?
            .strip_prefix(self.name.as_str())?
            .strip_prefix('-')?;
        if let Some(slot) = rest.strip_suffix("-0") {
            return Some((slot.parse().ok()?, 0));
        }
        let (slot, generation) = rest.split_once("-0-r")?;
        Some((slot.parse().ok()?, generation.parse().ok()?))
    }

    /// Name of the headless Service of the peers. A cluster may be called `films-peers` beside `films`,
    /// so it has some digits that nobody would choose; they depend on the name alone, because members
    /// know each other by it and outlive an RdfCluster.
    #[must_use]
    pub fn peers_service_name(&self) -> String {
        let digits = short_hash(&format!("{}/peers", self.name), TELLING_DIGITS);
        format!("{}-peers-{digits}", self.name)
    }

    /// Name of the Service that leads to all members, ready or not.
    #[must_use]
    pub fn any_service_name(&self) -> String {
        format!("{}{ANY_SUFFIX}", self.name)
    }

    /// Name of the Service that leads to ready members other than the leader.
    #[must_use]
    pub fn read_only_service_name(&self) -> String {
        format!("{}{READ_ONLY_SUFFIX}", self.name)
    }

    /// Name of what members share and clients do not use: the ServiceAccount, the ConfigMap, the
    /// PodDisruptionBudget. Not the cluster's own: `default` is the ServiceAccount of everybody else in
    /// the namespace.
    #[must_use]
    pub fn shared_name(&self) -> String {
        format!("{}-quadraft", self.name)
    }

    /// Host and port at which clients reach the cluster.
    #[must_use]
    pub fn client_address(&self) -> String {
        format!("{}.{}.svc:{HTTP_PORT}", self.name, self.namespace)
    }

    /// Host name of a slot's pod.
    #[must_use]
    pub fn host(&self, slot: Slot) -> String {
        format!(
            "{}.{}.{}.svc",
            self.pod_name(slot),
            self.peers_service_name(),
            self.namespace
        )
    }

    /// Address of a slot's peer port.
    #[must_use]
    pub fn peer_address(&self, slot: Slot) -> String {
        format!("{}:{PEER_PORT}", self.host(slot))
    }

    /// Address of a slot's HTTP port.
    #[must_use]
    pub fn http_address(&self, slot: Slot) -> String {
        format!("{}:{HTTP_PORT}", self.host(slot))
    }

    /// The slot whose pod an address names.
    #[must_use]
    pub fn slot_of_address(&self, address: &str) -> Option<Slot> {
        let pod = address.split(['.', ':']).next()?;
        let slot = pod
            .strip_prefix(self.name.as_str())?
            .strip_prefix('-')?
            .strip_suffix("-0")?;
        slot.parse().ok()
    }
}

/// The volume that an annotation names as `SLOT/UID`.
fn named_volume(cluster: &RdfCluster, annotation: &str) -> Option<(Slot, String)> {
    let text = cluster.metadata.annotations.as_ref()?.get(annotation)?;
    let (slot, uid) = text.split_once('/')?;
    Some((slot.parse().ok()?, uid.to_owned()))
}

/// Checks a cluster's spec.
///
/// # Errors
/// When the spec cannot be carried out; the error says why in words for its author.
pub fn validate(
    cluster: &RdfCluster,
    node_image_repository: &str,
) -> Result<ValidatedCluster, SpecError> {
    let metadata = &cluster.metadata;
    let name = metadata.name.clone().ok_or(SpecError::Metadata("name"))?;
    if !is_service_name(&name) {
        return Err(SpecError::ServiceName(name));
    }
    if let Some(suffix) = [ANY_SUFFIX, READ_ONLY_SUFFIX]
        .into_iter()
        .find(|suffix| name.ends_with(suffix))
    {
        return Err(SpecError::ReservedName(suffix));
    }
    let namespace = metadata
        .namespace
        .clone()
        .ok_or(SpecError::Metadata("namespace"))?;
    let uid = metadata.uid.clone().ok_or(SpecError::Metadata("uid"))?;
    let spec = cluster.spec.clone();
    let replicas = match spec.replicas {
        1 => 1,
        3 => 3,
        5 => 5,
        7 => 7,
        other => return Err(SpecError::Replicas(other)),
    };
    let status = cluster.status.as_ref();
    check_version(&spec, status)?;
    let storage_bytes = parse_whole(&spec.storage.size.0)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| SpecError::StorageSize(spec.storage.size.0.clone()))?;
    let chosen = status.and_then(|status| status.data_loss.as_ref()?.backup.as_ref());
    let bootstrap = match (&spec.bootstrap, chosen) {
        // What a cluster began with is not what it begins anew with.
        (_, Some(backup)) => Some(ValidatedBootstrap {
            source: BootstrapSource::Backup(backup.name.clone()),
            expected_digest: Some(backup.digest.clone()).filter(|digest| !digest.is_empty()),
        }),
        (None, None) => None,
        (Some(bootstrap), None) => {
            let from = &bootstrap.from_backup;
            let source = match (&from.backup_name, &from.source) {
                (Some(name), None) => BootstrapSource::Backup(name.clone()),
                (None, Some(location))
                    if location.claim_name.is_some() != location.url.is_some() =>
                {
                    BootstrapSource::Location(location.clone())
                }
                _ => return Err(SpecError::BootstrapSource),
            };
            Some(ValidatedBootstrap {
                source,
                expected_digest: from.expected_digest.clone(),
            })
        }
    };
    Ok(ValidatedCluster {
        image: spec
            .image
            .clone()
            .unwrap_or_else(|| format!("{node_image_repository}:{}", spec.version)),
        version: spec.version.clone(),
        on_deletion: spec.storage.on_cluster_deletion,
        paused: spec.paused,
        name,
        namespace,
        uid,
        generation: metadata.generation.unwrap_or(0),
        replicas,
        storage_bytes,
        bootstrap,
        cors_origins: origins(&spec.http.cors.origins)?,
        accepted_volume: named_volume(cluster, ANNOTATION_ACCEPT_VOLUME),
        given_up_volumes: metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(ANNOTATION_GIVE_UP_VOLUMES))
            .map(|uids| uids.split(',').map(|uid| uid.trim().to_owned()).collect())
            .unwrap_or_default(),
        volume_generation: status
            .and_then(|status| u32::try_from(status.volume_generation).ok())
            .unwrap_or(0),
        replaced_volume: named_volume(cluster, ANNOTATION_REPLACE_MEMBER),
        spec,
    })
}

/// The spec to act by: the present one, or the last one that could be carried out, and then why the
/// present one cannot. A mistake in the spec must not keep a member from being recovered.
///
/// # Errors
/// When the spec cannot be carried out and none could before.
pub fn accepted(
    cluster: &RdfCluster,
    node_image_repository: &str,
) -> Result<(ValidatedCluster, Option<SpecError>), SpecError> {
    let error = match validate(cluster, node_image_repository) {
        Ok(valid) => return Ok((valid, None)),
        Err(error) => error,
    };
    let status = cluster.status.as_ref();
    let spec = status.and_then(|status| status.accepted_spec.clone());
    let Some(Ok(spec)) = spec.map(serde_json::from_value) else {
        return Err(error);
    };
    let mut before = cluster.clone();
    before.spec = spec;
    match validate(&before, node_image_repository) {
        Ok(valid) => Ok((valid, Some(error))),
        Err(_) => Err(error),
    }
}

/// The version is known, and reads what those that run have written. What is in an image of somebody's own
/// is not known.
fn check_version(
    spec: &RdfClusterSpec,
    status: Option<&RdfClusterStatus>,
) -> Result<(), SpecError> {
    let Some(wanted) = release(RELEASES, &spec.version) else {
        return Err(SpecError::UnknownVersion(spec.version.clone()));
    };
    let running = status.and_then(|status| status.version.as_deref());
    let running = running.filter(|_| spec.image.is_none()).unwrap_or_default();
    let running = running.split(',').filter(|version| !version.is_empty());
    match ahead_of(RELEASES, wanted, running) {
        Some(running) => Err(SpecError::OlderVersion {
            wanted: spec.version.clone(),
            running: running.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Whether a Service can be called so (RFC 1035, as Kubernetes takes it).
fn is_service_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
}

fn origins(texts: &[String]) -> Result<Vec<Origin>, SpecError> {
    let origins: Vec<Origin> = texts
        .iter()
        .map(|text| Origin::parse(text).ok_or_else(|| SpecError::Origin(text.clone())))
        .collect::<Result<_, _>>()?;
    if origins.len() > 1 && origins.iter().any(Origin::is_any) {
        return Err(SpecError::OriginBesideAny);
    }
    Ok(origins)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cluster() -> RdfCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "quadraft.dev/v1alpha1", "kind": "RdfCluster",
            "metadata": { "name": "films", "namespace": "prod", "uid": "u" },
            "spec": { "storage": { "size": "10Gi" } },
        }))
        .unwrap()
    }

    #[test]
    fn what_a_spec_leaves_out_has_defaults() {
        let valid = validate(&cluster(), "quadraft-node").unwrap();
        assert_eq!(valid.replicas, 3);
        assert_eq!(valid.image, "quadraft-node:0.1.0");
        assert_eq!(valid.storage_bytes, 10 << 30);
        assert_eq!(valid.on_deletion, OnClusterDeletion::Retain);
    }

    #[test]
    fn an_unknown_version_is_named_together_with_the_known_ones() {
        let mut wrong = cluster();
        wrong.spec.version = "9.9.9".into();
        let error = validate(&wrong, "x").unwrap_err();
        assert_eq!(error.reason(), "UnknownVersion");
        assert!(error.to_string().contains("0.1.0"));
    }

    #[test]
    fn a_mistake_leaves_the_last_spec_that_could_be_carried_out_in_force() {
        let mut wrong = cluster();
        wrong.spec.version = "9.9.9".into();
        wrong.spec.replicas = 5;
        assert!(accepted(&wrong, "x").is_err());
        let before = serde_json::to_value(cluster().spec).unwrap();
        wrong.status = Some(crate::api::RdfClusterStatus {
            accepted_spec: Some(before),
            ..Default::default()
        });
        let (valid, refused) = accepted(&wrong, "x").unwrap();
        assert_eq!((valid.replicas, valid.version.as_str()), (3, "0.1.0"));
        assert_eq!(refused, Some(SpecError::UnknownVersion("9.9.9".into())));
        let (valid, refused) = accepted(&cluster(), "x").unwrap();
        assert_eq!((valid.replicas, refused), (3, None));
    }

    #[test]
    fn a_version_before_the_one_that_runs_is_refused_and_nothing_is_touched() {
        let mut cluster = cluster();
        cluster.status = Some(crate::api::RdfClusterStatus {
            version: Some("0.1.0,9.9.9".into()),
            accepted_spec: Some(serde_json::to_value(&cluster.spec).unwrap()),
            ..Default::default()
        });
        let error = validate(&cluster, "x").unwrap_err();
        assert_eq!(error.reason(), "OlderVersion");
        assert!(error.to_string().contains("9.9.9"), "{error}");
        cluster.spec.image = Some("own:1".into());
        assert!(validate(&cluster, "x").is_ok());
    }

    #[test]
    fn two_replicas_are_refused_also_when_the_api_server_let_them_pass() {
        let mut wrong = cluster();
        wrong.spec.replicas = 2;
        assert_eq!(validate(&wrong, "x"), Err(SpecError::Replicas(2)));
    }

    #[test]
    fn a_name_that_is_that_of_another_clusters_service_or_of_none_is_refused() {
        for name in ["films-any", "films-ro", "7films", "films.a", "films-"] {
            let mut wrong = cluster();
            wrong.metadata.name = Some(name.into());
            let error = validate(&wrong, "x").unwrap_err();
            assert_eq!(error.reason(), "InvalidName", "{name}");
        }
        for name in ["company", "films-peers", "f"] {
            let mut right = cluster();
            right.metadata.name = Some(name.into());
            assert!(validate(&right, "x").is_ok(), "{name}");
        }
    }

    #[test]
    fn the_names_of_all_services_of_the_longest_name_are_names_of_services() {
        let mut longest = cluster();
        longest.metadata.name = Some("a".repeat(40));
        let valid = validate(&longest, "x").unwrap();
        for name in [
            valid.peers_service_name(),
            valid.any_service_name(),
            valid.read_only_service_name(),
        ] {
            assert!(name.len() <= 63, "{name}");
        }
    }

    #[test]
    fn origins_are_checked_also_when_the_api_server_let_them_pass() {
        let with = |origins: &[&str]| {
            let mut object = cluster();
            object.spec.http.cors.origins = origins.iter().map(ToString::to_string).collect();
            validate(&object, "x").map(|valid| valid.cors_origins.len())
        };
        assert_eq!(with(&[]), Ok(0));
        assert_eq!(with(&["*"]), Ok(1));
        assert_eq!(with(&["https://a.org", "http://localhost:80"]), Ok(2));
        let error = with(&["https://a.org/"]).unwrap_err();
        assert_eq!(error, SpecError::Origin("https://a.org/".into()));
        assert_eq!(error.reason(), "InvalidOrigins");
        assert_eq!(
            with(&["*", "https://a.org"]),
            Err(SpecError::OriginBesideAny)
        );
    }

    #[test]
    fn a_volume_is_known_by_its_name_and_those_that_were_lost_are_others() {
        let mut valid = validate(&cluster(), "x").unwrap();
        assert_eq!(valid.volume_name(2), "data-films-2-0");
        assert_eq!(valid.slot_of_volume("data-films-2-0"), Some(2));
        valid.volume_generation = 3;
        assert_eq!(valid.volume_name(2), "data-films-2-0-r3");
        assert_eq!(valid.slot_of_volume("data-films-2-0-r3"), Some(2));
        assert_eq!(valid.slot_of_volume("data-films-2-0"), None);
        assert_eq!(valid.slot_and_generation("data-films-2-0"), Some((2, 0)));
        for other in [
            "data-films-x-0",
            "data-books-2-0",
            "films-2-0",
            "data-films-2-0-r",
        ] {
            assert_eq!(valid.slot_and_generation(other), None, "{other}");
        }
    }

    #[test]
    fn the_slot_is_found_in_the_address_of_a_member() {
        let valid = validate(&cluster(), "x").unwrap();
        for slot in 0..7 {
            assert_eq!(valid.slot_of_address(&valid.peer_address(slot)), Some(slot));
        }
        assert_eq!(
            valid.slot_of_address("other-1-0.other-peers.prod.svc:7879"),
            None
        );
        assert_eq!(
            valid.slot_of_address("films-x-0.films-peers-1.prod.svc:7879"),
            None
        );
    }
}
