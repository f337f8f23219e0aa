//! The CustomResourceDefinitions as YAML, always the same bytes for the same types.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{RdfBackup, RdfBackupSchedule, RdfCluster, RdfRestore};

/// The definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    #[error("failed to write a definition as YAML")]
    Serialise(#[from] serde_yaml_ng::Error),
    #[error("failed to write {path}")]
    Write {
        path: String,
        source: std::io::Error,
    },
}

/// All definitions in the order in which they are printed.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        RdfBackup::crd(),
        RdfBackupSchedule::crd(),
        RdfCluster::crd(),
        RdfRestore::crd(),
    ]
}

/// Each definition as file name and YAML text.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn files() -> Result<Vec<(String, String)>, CrdError> {
    all()
        .iter()
        .map(|definition| {
            let name = format!("{}.yaml", definition.spec.names.plural);
            // Through a JSON value, whose maps are sorted.
            let value = serde_yaml_ng::to_value(definition)?;
            Ok((name, serde_yaml_ng::to_string(&value)?))
        })
        .collect()
}

/// All definitions as one YAML stream.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn stream() -> Result<String, CrdError> {
    Ok(files()?
        .into_iter()
        .map(|(_, text)| format!("---\n{text}"))
        .collect())
}

/// Writes one file a kind into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_directory(directory: &Path) -> Result<(), CrdError> {
    for (name, text) in files()? {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|source| CrdError::Write {
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_definitions_in_the_repository_are_the_generated_ones() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for (name, text) in files().unwrap() {
            let stored = std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
            assert!(
                stored == text,
                "crds/{name} is out of date: run `quadraft-operator crds --directory crds`"
            );
        }
    }

    #[test]
    fn the_rules_that_protect_data_are_in_the_definition() {
        let text = serde_json::to_string(&RdfCluster::crd()).unwrap();
        for needle in [
            "self in [1, 3, 5, 7]",
            "storageClassName cannot change",
            "bootstrap is used once",
            "at most 40 characters",
        ] {
            assert!(text.contains(needle), "{needle} is missing");
        }
    }

    #[test]
    fn writing_twice_gives_the_same_bytes() {
        assert_eq!(stream().unwrap(), stream().unwrap());
    }
}
