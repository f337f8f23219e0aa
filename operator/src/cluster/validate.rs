//! The spec as types that cannot be wrong.

use quadraft_protocol::{HTTP_PORT, PEER_PORT};

use super::observation::Slot;
use super::origin::Origin;
use crate::api::{BackupLocation, OnClusterDeletion, RdfCluster, RdfClusterSpec};

/// Versions that this operator knows, with the node images that belong to them.
pub const KNOWN_VERSIONS: &[&str] = &["0.1.0"];

/// What the names of a cluster's further Services end with. No cluster may be called so: the Service
/// of its own name would be that of another.
const PEERS_SUFFIX: &str = "-peers";
const ANY_SUFFIX: &str = "-any";

/// A spec that cannot be carried out, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("replicas is {0}: it must be 1, 3, 5 or 7")]
    Replicas(i32),
    #[error("version {0:?} is not known to this operator; it knows {known}", known = KNOWN_VERSIONS.join(", "))]
    UnknownVersion(String),
    #[error("storage.size {0:?} is not a quantity such as 10Gi")]
    StorageSize(String),
    #[error("the resource has no {0}")]
    Metadata(&'static str),
    #[error("the name ends in {0:?}, as the name of a Service of another cluster may")]
    ReservedName(&'static str),
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
            Self::StorageSize(_) => "InvalidStorageSize",
            Self::Metadata(_) => "InvalidMetadata",
            Self::ReservedName(_) => "InvalidName",
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
    pub replicas: u8,
    pub version: String,
    pub image: String,
    pub storage_bytes: u64,
    pub on_deletion: OnClusterDeletion,
    pub bootstrap: Option<ValidatedBootstrap>,
    pub paused: bool,
    /// Whose pages may read answers.
    pub cors_origins: Vec<Origin>,
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
        format!("data-{}-{slot}-0", self.name)
    }

    /// Name of the headless Service of the peers.
    #[must_use]
    pub fn peers_service_name(&self) -> String {
        format!("{}{PEERS_SUFFIX}", self.name)
    }

    /// Name of the Service that leads to all members, ready or not.
    #[must_use]
    pub fn any_service_name(&self) -> String {
        format!("{}{ANY_SUFFIX}", self.name)
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
    if let Some(suffix) = [PEERS_SUFFIX, ANY_SUFFIX]
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
    if !KNOWN_VERSIONS.contains(&spec.version.as_str()) {
        return Err(SpecError::UnknownVersion(spec.version));
    }
    let storage_bytes = parse_quantity(&spec.storage.size)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| SpecError::StorageSize(spec.storage.size.clone()))?;
    let bootstrap = match &spec.bootstrap {
        None => None,
        Some(bootstrap) => {
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
        replicas,
        storage_bytes,
        bootstrap,
        cors_origins: origins(&spec.http.cors.origins)?,
        spec,
    })
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

/// The bytes that a quantity names, rounded up to a whole one.
#[must_use]
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let scale: f64 = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    if let (Ok(whole), true) = (number.parse::<u64>(), scale >= 1.0) {
        return whole.checked_mul(scale as u64);
    }
    let bytes = (number.parse::<f64>().ok()? * scale).ceil();
    (bytes.is_finite() && (0.0..1.8e19).contains(&bytes)).then_some(bytes as u64)
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
    fn two_replicas_are_refused_also_when_the_api_server_let_them_pass() {
        let mut wrong = cluster();
        wrong.spec.replicas = 2;
        assert_eq!(validate(&wrong, "x"), Err(SpecError::Replicas(2)));
    }

    #[test]
    fn a_name_that_is_that_of_another_clusters_service_is_refused() {
        for name in ["films-any", "films-peers"] {
            let mut wrong = cluster();
            wrong.metadata.name = Some(name.into());
            let error = validate(&wrong, "x").unwrap_err();
            assert_eq!(error.reason(), "InvalidName", "{name}");
        }
        let mut right = cluster();
        right.metadata.name = Some("company".into());
        assert!(validate(&right, "x").is_ok());
    }

    #[test]
    fn the_names_of_all_services_of_the_longest_name_are_names_of_services() {
        let mut longest = cluster();
        longest.metadata.name = Some("a".repeat(40));
        let valid = validate(&longest, "x").unwrap();
        for name in [valid.peers_service_name(), valid.any_service_name()] {
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
            valid.slot_of_address("films-x-0.films-peers.prod.svc:7879"),
            None
        );
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("1Ki", Some(1024)),
            ("1.5Ki", Some(1536)),
            ("10G", Some(10_000_000_000)),
            ("7", Some(7)),
            ("1500m", Some(2)),
            ("16Ei", None),
            ("1Gb", None),
            ("", None),
            ("1.2.3", None),
        ] {
            assert_eq!(parse_quantity(text), bytes, "{text}");
        }
    }
}
