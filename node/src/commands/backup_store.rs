//! A backup in an object store: `owner.json`, written first, says whose the folder is; `snapshot` has the
//! data; `manifest.json`, written last, says that all is there.

use std::sync::Arc;

use futures::StreamExt as _;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use quadraft_protocol::{ExitCode, NodeId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// A backup is whole when this is there: it is written after everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// 2
    pub(super) format_version: u32,
    /// Who asked for the backup: the UID of an RdfBackup; empty when a person did.
    pub(super) backup_id: String,
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

/// Whose a folder is: of what is in it without a manifest nobody could tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    pub(super) cluster_uuid: String,
    pub(super) backup_id: String,
}

pub(super) const FORMAT_VERSION: u32 = 2;

/// Bytes of the parts in which a snapshot is uploaded at least, and how many there are at most; object
/// stores that speak S3's language take 10,000.
const PART_BYTES: u64 = 10 * 1024 * 1024;
const MAXIMUM_PARTS: u64 = 9_000;

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

impl BackupStoreError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Url { .. } => ExitCode::Usage,
            Self::Manifest { .. } | Self::UnknownFormat { .. } | Self::Missing { .. } => {
                ExitCode::BackupInvalid
            }
            _ => ExitCode::Unreachable,
        }
    }
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

    fn owner_path(&self) -> Path {
        self.folder.clone().join("owner.json")
    }

    fn failed(
        &self,
        action: &'static str,
        name: &str,
        source: object_store::Error,
    ) -> BackupStoreError {
        BackupStoreError::Store {
            action,
            what: format!("{}/{name}", self.url),
            source,
        }
    }

    async fn read(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, BackupStoreError> {
        match self.store.get(path).await {
            Ok(object) => {
                let bytes = object.bytes().await;
                bytes
                    .map(|bytes| Some(bytes.to_vec()))
                    .map_err(|source| self.failed("read", name, source))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed("read", name, source)),
        }
    }

    /// The manifest, when the backup is complete.
    pub(super) async fn manifest(&self) -> Result<Option<Manifest>, BackupStoreError> {
        let bytes = self.read(&self.manifest_path(), "manifest.json").await?;
        bytes
            .map(|bytes| Manifest::read(&bytes, &format!("{}/manifest.json", self.url)))
            .transpose()
    }

    /// Whose the folder is, when it says so.
    pub(super) async fn owner(&self) -> Result<Option<Owner>, BackupStoreError> {
        let bytes = self.read(&self.owner_path(), "owner.json").await?;
        bytes
            .map(|bytes| {
                serde_json::from_slice(&bytes).map_err(|source| BackupStoreError::Manifest {
                    what: format!("{}/owner.json", self.url),
                    source,
                })
            })
            .transpose()
    }

    /// Takes the folder for a backup: what is written into it from now on is its owner's.
    pub(super) async fn take(&self, owner: &Owner) -> Result<(), BackupStoreError> {
        self.put(&self.owner_path(), "owner.json", owner).await
    }

    async fn put<T: Serialize>(
        &self,
        path: &Path,
        name: &str,
        value: &T,
    ) -> Result<(), BackupStoreError> {
        let bytes =
            serde_json::to_vec_pretty(value).map_err(|source| BackupStoreError::Manifest {
                what: format!("{}/{name}", self.url),
                source,
            })?;
        let written = self.store.put(path, bytes.into()).await;
        written.map_err(|source| self.failed("write", name, source))?;
        self.sync(path)
    }

    /// Whether nothing lies in the folder.
    pub(super) async fn is_empty(&self) -> Result<bool, BackupStoreError> {
        let mut found = self.store.list(Some(&self.folder));
        match found.next().await {
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(source)) => Err(self.failed("list", "", source)),
        }
    }

    /// Deletes the backup: first what makes it one, last what says whose it is, so that an interrupted
    /// deletion can be gone on with.
    pub(super) async fn delete(&self) -> Result<(), BackupStoreError> {
        for (path, name) in [
            (self.manifest_path(), "manifest.json"),
            (self.snapshot_path(), "snapshot"),
            (self.owner_path(), "owner.json"),
        ] {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed("delete", name, source)),
            }
        }
        if self.is_local {
            // An object store has no folders; here an empty one stays when it cannot go.
            let _ = std::fs::remove_dir(format!("/{}", self.folder));
        }
        Ok(())
    }

    /// Begins to write the snapshot of a backup, which will have `total_bytes`.
    pub(super) fn upload(&self, total_bytes: u64) -> Upload {
        let capacity = usize::try_from(part_bytes(total_bytes)).unwrap_or(usize::MAX);
        Upload {
            writer: BufWriter::with_capacity(self.store.clone(), self.snapshot_path(), capacity),
            hasher: Sha256::new(),
            bytes: 0,
            what: format!("{}/snapshot", self.url),
        }
    }

    /// Completes the backup. The data is durable before the manifest says so.
    pub(super) async fn complete(&self, manifest: &Manifest) -> Result<(), BackupStoreError> {
        self.sync(&self.snapshot_path())?;
        self.put(&self.manifest_path(), "manifest.json", manifest)
            .await
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

/// How long parts have to be for so many bytes.
fn part_bytes(total_bytes: u64) -> u64 {
    total_bytes.div_ceil(MAXIMUM_PARTS).max(PART_BYTES)
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

    /// Written by the first version that was released; every later one must read it.
    const MANIFEST: &[u8] = include_bytes!("fixtures/manifest-2.json");

    #[test]
    fn the_manifest_of_the_first_version_can_still_be_read() {
        let manifest = Manifest::read(MANIFEST, "the stored manifest").unwrap();
        assert_eq!(
            manifest,
            Manifest {
                format_version: 2,
                backup_id: "6f3c1d2e-0000-4000-8000-000000000001".into(),
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
    fn a_snapshot_of_any_length_has_fewer_parts_than_object_stores_take() {
        assert_eq!(part_bytes(0), PART_BYTES);
        for total_bytes in [1_u64, 90 << 30, 98 << 30, 5 << 40] {
            assert!(total_bytes.div_ceil(part_bytes(total_bytes)) <= MAXIMUM_PARTS);
        }
        // An object has 5 TiB at most, and its parts 5 GiB.
        assert!(part_bytes(5 << 40) < 5 << 30);
    }

    #[test]
    fn a_later_manifest_is_refused_by_its_number_whatever_it_holds() {
        let later = br#"{"format_version": 3, "parts": []}"#;
        let refused = Manifest::read(later, "manifest.json").unwrap_err();
        assert!(matches!(
            refused,
            BackupStoreError::UnknownFormat { found: 3, .. }
        ));
        let malformed = Manifest::read(b"{}", "manifest.json").unwrap_err();
        assert!(matches!(malformed, BackupStoreError::Manifest { .. }));
    }
}
