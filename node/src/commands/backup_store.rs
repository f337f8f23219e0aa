//! A backup in an object store: `snapshot` with the data, and `manifest.json`, written last.

use std::sync::Arc;

use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use quadraft_protocol::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// A backup is whole when this is there: it is written after everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// 1
    pub(super) format_version: u32,
    pub(super) cluster_uuid: String,
    pub(super) node_id: NodeId,
    pub(super) log_term: u64,
    pub(super) log_index: u64,
    pub(super) digest: String,
    pub(super) quads: u64,
    pub(super) bytes: u64,
    /// SHA-256 of the snapshot object, 64 hexadecimal digits.
    pub(super) sha256: String,
}

pub(super) const FORMAT_VERSION: u32 = 1;

/// What every version of the manifest has.
#[derive(Deserialize)]
struct ManifestVersion {
    format_version: u32,
}

impl Manifest {
    /// Reads a manifest; `what` names it in errors.
    ///
    /// The version comes first: a later one may have other fields.
    pub(super) fn read(bytes: &[u8], what: &str) -> Result<Self, BackupStoreError> {
        let malformed = |source| BackupStoreError::Manifest {
            what: what.to_owned(),
            source,
        };
        let ManifestVersion {
            format_version: found,
        } = serde_json::from_slice(bytes).map_err(malformed)?;
        if found != FORMAT_VERSION {
            return Err(BackupStoreError::UnknownFormat {
                what: what.to_owned(),
                found,
            });
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

/// Why a backup store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupStoreError {
    #[error("{url:?} is not the URL of a backup")]
    Url {
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("failed to {action} {what}")]
    Store {
        action: &'static str,
        what: String,
        source: object_store::Error,
    },
    #[error("{what} is not a manifest of a backup")]
    Manifest {
        what: String,
        source: serde_json::Error,
    },
    #[error("{what} has format version {found}; this version knows {FORMAT_VERSION}")]
    UnknownFormat { what: String, found: u32 },
    #[error("there is no complete backup at {url}")]
    Missing { url: String },
    #[error("failed to write {what}")]
    Write {
        what: String,
        source: std::io::Error,
    },
    #[error("failed to make {path} durable")]
    Sync {
        path: String,
        source: std::io::Error,
    },
}

/// The folder of one backup.
#[derive(Clone, Debug)]
pub(super) struct BackupFolder {
    pub(super) url: String,
    pub(super) store: Arc<dyn ObjectStore>,
    folder: Path,
    is_local: bool,
}

impl BackupFolder {
    /// Opens the folder at `url`; credentials and options come from the environment, by the names
    /// that the object stores' own tools use.
    pub(super) fn open(url: &str) -> Result<Self, BackupStoreError> {
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| BackupStoreError::Url {
            url: url.to_owned(),
            source,
        };
        let parsed = url::Url::parse(url).map_err(|error| malformed(Box::new(error)))?;
        let options = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, folder) = object_store::parse_url_opts(&parsed, options)
            .map_err(|error| malformed(Box::new(error)))?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            store: Arc::from(store),
            folder,
            is_local: parsed.scheme() == "file",
        })
    }

    pub(super) fn snapshot_path(&self) -> Path {
        self.folder.clone().join("snapshot")
    }

    fn manifest_path(&self) -> Path {
        self.folder.clone().join("manifest.json")
    }

    /// The manifest, when the backup is complete.
    pub(super) async fn manifest(&self) -> Result<Option<Manifest>, BackupStoreError> {
        let path = self.manifest_path();
        let store_error = |source| BackupStoreError::Store {
            action: "read",
            what: format!("{}/manifest.json", self.url),
            source,
        };
        let bytes = match self.store.get(&path).await {
            Ok(object) => object.bytes().await.map_err(store_error)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_error(error)),
        };
        Manifest::read(&bytes, &format!("{}/manifest.json", self.url)).map(Some)
    }

    /// Begins to write the snapshot of a backup.
    pub(super) fn upload(&self) -> Upload {
        Upload {
            writer: BufWriter::new(self.store.clone(), self.snapshot_path()),
            hasher: Sha256::new(),
            bytes: 0,
            what: format!("{}/snapshot", self.url),
        }
    }

    /// Completes the backup. The data is durable before the manifest says so.
    pub(super) async fn complete(&self, manifest: &Manifest) -> Result<(), BackupStoreError> {
        let what = format!("{}/manifest.json", self.url);
        self.sync(&self.snapshot_path())?;
        let bytes =
            serde_json::to_vec_pretty(manifest).map_err(|source| BackupStoreError::Manifest {
                what: what.clone(),
                source,
            })?;
        self.store
            .put(&self.manifest_path(), bytes.into())
            .await
            .map_err(|source| BackupStoreError::Store {
                action: "write",
                what,
                source,
            })?;
        self.sync(&self.manifest_path())
    }

    /// Object stores are durable when they answer; a local folder must be synced.
    fn sync(&self, path: &Path) -> Result<(), BackupStoreError> {
        if !self.is_local {
            return Ok(());
        }
        let file = std::path::PathBuf::from(format!("/{path}"));
        let sync = || -> std::io::Result<()> {
            std::fs::File::open(&file)?.sync_all()?;
            match file.parent() {
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        sync().map_err(|source| BackupStoreError::Sync {
            path: file.display().to_string(),
            source,
        })
    }
}

/// The snapshot of a backup on its way into the store.
pub(super) struct Upload {
    writer: BufWriter,
    hasher: Sha256,
    bytes: u64,
    what: String,
}

impl Upload {
    /// Writes what comes next; gives the number of bytes so far.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<u64, BackupStoreError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.writer.write_all(bytes).await;
        written.map_err(|source| self.failed(source))?;
        Ok(self.bytes)
    }

    /// Ends the snapshot; gives its length and SHA-256.
    pub(super) async fn finish(mut self) -> Result<(u64, String), BackupStoreError> {
        let written = self.writer.shutdown().await;
        written.map_err(|source| self.failed(source))?;
        Ok((self.bytes, super::hexadecimal(&self.hasher.finalize())))
    }

    fn failed(&self, source: std::io::Error) -> BackupStoreError {
        BackupStoreError::Write {
            what: self.what.clone(),
            source,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Written by the first version; every later one must read it.
    const MANIFEST: &[u8] = include_bytes!("fixtures/manifest-1.json");

    #[test]
    fn the_manifest_of_the_first_version_can_still_be_read() {
        let manifest = Manifest::read(MANIFEST, "the stored manifest").unwrap();
        assert_eq!(
            manifest,
            Manifest {
                format_version: 1,
                cluster_uuid: "00000000-0000-0000-0000-000000000011".into(),
                node_id: NodeId(0x0123_4567_89ab_cdef),
                log_term: 1,
                log_index: 3,
                digest: "5a".repeat(32),
                quads: 6,
                bytes: 597,
                sha256: "a5".repeat(32),
            }
        );
        let written = serde_json::to_string_pretty(&manifest).unwrap();
        assert_eq!(
            written.as_bytes(),
            MANIFEST.trim_ascii_end(),
            "a manifest that changes gets a new version: docs/formats/versions.md"
        );
    }

    #[test]
    fn a_later_manifest_is_refused_by_its_number_whatever_it_holds() {
        let later = br#"{"format_version": 2, "parts": []}"#;
        let refused = Manifest::read(later, "manifest.json").unwrap_err();
        assert!(matches!(
            refused,
            BackupStoreError::UnknownFormat { found: 2, .. }
        ));
        let malformed = Manifest::read(b"{}", "manifest.json").unwrap_err();
        assert!(matches!(malformed, BackupStoreError::Manifest { .. }));
    }
}
