//! `restore`: a backup becomes the first node of a new cluster.
//!
//! The volume says "restoring" until the restored data was read back and its digest compared: only
//! then may it be served from. Interrupted, it starts over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use quadraft_protocol::{ExitCode, NodeId, RestoreReport};
use sha2::{Digest as _, Sha256};

use super::Output;
use super::arguments::RestoreArguments;
use super::backup_store::{BackupFolder, BackupStoreError, Manifest};
use crate::disk::{LockError, OpenMode, RealFileSystem, SharedFileSystem, VolumeLock};
use crate::identity::{
    IdentityError, StoredVote, Superblock, SuperblockFile, VolumeState, VoteError, VoteFile,
};
use crate::log::{LogError, LogOptions, RecordKind, open_log};
use crate::position::LogPosition;
use crate::raft::{
    MemberAddresses, Membership, StoredMembership, encode_stored_membership, to_log_id,
};
use crate::recovery::log_identity;
use crate::state::{State, StateError};

/// The term that a restored cluster begins with.
const FIRST_TERM: u64 = 1;
const DOWNLOAD_NAME: &str = "restore.download";

#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Store(#[from] BackupStoreError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Vote(#[from] VoteError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the backup cannot be put into the store")]
    State(#[from] StateError),
    #[error("the volume is not empty: {found}")]
    NotEmpty { found: String },
    #[error("the volume belongs to cluster {found}, not to the new one")]
    OtherCluster { found: String },
    #[error("failed to {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{what} is {found}, but {expected} was recorded: the backup is damaged")]
    Mismatch {
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error("the membership cannot be made: {0}")]
    Membership(String),
}

impl RestoreError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Mismatch { .. } | Self::State(_) => ExitCode::BackupInvalid,
            Self::Lock(LockError::InUse { .. }) => ExitCode::VolumeInUse,
            Self::NotEmpty { .. } | Self::OtherCluster { .. } => ExitCode::WrongIdentity,
            Self::Io { .. } | Self::Identity(_) | Self::Vote(_) | Self::Log(_) | Self::Lock(_) => {
                ExitCode::DiskFailed
            }
            Self::Membership(_) => ExitCode::Failure,
        }
    }
}

pub(super) async fn restore(arguments: RestoreArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    match try_restore(&arguments).await {
        Ok(report) => {
            output.report(&report);
            ExitCode::Success
        }
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn try_restore(arguments: &RestoreArguments) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    let data = arguments.volume.data.as_path();
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    std::fs::create_dir_all(data).map_err(io("create", data))?;
    let _lock = VolumeLock::acquire(file_system.as_ref(), data)?;
    let folder = BackupFolder::open(&arguments.from)?;
    let manifest = folder
        .manifest()
        .await?
        .ok_or_else(|| BackupStoreError::Missing {
            url: folder.url.clone(),
        })?;
    if let Some(expected) = &arguments.expected_digest {
        compare("the backup's digest", &manifest.digest, expected)?;
    }
    let report = |node_id: NodeId, already_complete: bool| RestoreReport {
        location: folder.url.clone(),
        cluster_uuid: arguments.cluster_uuid.to_string(),
        node_id,
        source_cluster_uuid: manifest.cluster_uuid.clone(),
        log_index: manifest.log_index,
        digest: manifest.digest.clone(),
        quads: manifest.quads,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        already_complete,
    };
    let mut superblock = match begin(&file_system, data, arguments)? {
        Begun::AlreadyComplete(node_id) => return Ok(report(node_id, true)),
        Begun::Restoring(superblock) => superblock,
    };
    let identity = superblock.current().clone();
    let download = data.join(DOWNLOAD_NAME);
    fetch(&folder, &manifest, &download).await?;
    let manifest_for_load = manifest.clone();
    let addresses = MemberAddresses {
        peer: format!("{}:{}", arguments.advertise, arguments.http_port + 1),
        http: format!("{}:{}", arguments.advertise, arguments.http_port),
    };
    let volume = data.to_owned();
    let loading = tokio::task::spawn_blocking(move || {
        load(
            &file_system,
            &volume,
            &download,
            &identity,
            addresses,
            &manifest_for_load,
        )
    });
    loading.await.map_err(|error| RestoreError::Io {
        action: "restore to",
        path: data.to_owned(),
        source: std::io::Error::other(error),
    })??;
    // Only now may the volume be served from.
    superblock.update(|superblock| {
        superblock.state = VolumeState::Normal;
        superblock.made_promises = true;
    })?;
    Ok(report(superblock.current().node_id, false))
}

fn io<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> RestoreError + 'a {
    move |source| RestoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn compare(what: &'static str, found: &str, expected: &str) -> Result<(), RestoreError> {
    if found == expected {
        return Ok(());
    }
    Err(RestoreError::Mismatch {
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    })
}

enum Begun {
    AlreadyComplete(NodeId),
    Restoring(SuperblockFile),
}

/// Claims the volume for the restore, or finds that it is done or not ours.
fn begin(
    file_system: &SharedFileSystem,
    data: &Path,
    arguments: &RestoreArguments,
) -> Result<Begun, RestoreError> {
    if let Some((superblock, _)) =
        SuperblockFile::open(file_system.as_ref(), data, OpenMode::ReadWrite)?
    {
        let current = superblock.current();
        if current.cluster_uuid != arguments.cluster_uuid {
            return Err(RestoreError::OtherCluster {
                found: current.cluster_uuid.to_string(),
            });
        }
        if current.state == VolumeState::Normal {
            return Ok(Begun::AlreadyComplete(current.node_id));
        }
        // An earlier attempt was interrupted: what it left was never served.
        for name in ["log", "store", "snapshots"] {
            let path = data.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
            }
        }
        for name in ["vote", DOWNLOAD_NAME] {
            let path = data.join(name);
            if path.exists() {
                std::fs::remove_file(&path).map_err(io("remove", &path))?;
            }
        }
        return Ok(Begun::Restoring(superblock));
    }
    for entry in std::fs::read_dir(data).map_err(io("list", data))? {
        let name = entry.map_err(io("list", data))?.file_name();
        // A file system of its own may bring lost+found; the lock is ours.
        if name != "lock" && name != "lost+found" {
            return Err(RestoreError::NotEmpty {
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    let superblock = Superblock {
        state: VolumeState::Restoring,
        ..Superblock::new(arguments.cluster_uuid, NodeId(0))
    };
    Ok(Begun::Restoring(SuperblockFile::create(
        file_system.as_ref(),
        data,
        superblock,
    )?))
}

/// Downloads the snapshot and compares its checksum.
async fn fetch(
    folder: &BackupFolder,
    manifest: &Manifest,
    download: &Path,
) -> Result<(), RestoreError> {
    let what = || format!("{}/snapshot", folder.url);
    let store_error = |source| BackupStoreError::Store {
        action: "read",
        what: what(),
        source,
    };
    let object = folder
        .store
        .get(&folder.snapshot_path())
        .await
        .map_err(store_error)?;
    let mut stream = object.into_stream();
    let mut file = std::fs::File::create(download).map_err(io("create", download))?;
    let mut hasher = Sha256::new();
    let progress = super::output_progress(manifest.bytes);
    let mut bytes = 0_u64;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(store_error)?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
        progress.set_position(bytes);
        file.write_all(&chunk).map_err(io("write", download))?;
    }
    progress.finish();
    compare(
        "the snapshot's length",
        &bytes.to_string(),
        &manifest.bytes.to_string(),
    )?;
    compare(
        "the snapshot's SHA-256",
        &super::hexadecimal(&hasher.finalize()),
        &manifest.sha256,
    )
}

/// Fills store, log and vote, and reads the data back.
fn load(
    file_system: &SharedFileSystem,
    data: &Path,
    download: &Path,
    identity: &Superblock,
    addresses: MemberAddresses,
    manifest: &Manifest,
) -> Result<(), RestoreError> {
    let position = LogPosition {
        term: FIRST_TERM,
        index: manifest.log_index,
    };
    let node_id = identity.node_id.0;
    let membership = Membership::new(
        vec![BTreeSet::from([node_id])],
        BTreeMap::from([(node_id, addresses)]),
    )
    .map_err(|error| RestoreError::Membership(error.to_string()))?;
    let stored = StoredMembership::new(Some(to_log_id(position)), membership);

    let mut file = std::fs::File::open(download).map_err(io("open", download))?;
    file.rewind().map_err(io("read", download))?;
    let state = State::open(&data.join("store"))?;
    let mut reader = std::io::BufReader::with_capacity(1024 * 1024, file);
    state.restore_snapshot(
        &mut reader,
        Some(position),
        Some(encode_stored_membership(&stored)),
    )?;
    let (digest, quads, _) = state.recompute()?;
    compare(
        "the digest of the restored data",
        &digest.to_string(),
        &manifest.digest,
    )?;
    compare(
        "the number of restored quads",
        &quads.to_string(),
        &manifest.quads.to_string(),
    )?;
    state.flush()?;
    drop(state);

    let (mut vote, _) = VoteFile::open(file_system.clone(), data, OpenMode::ReadWrite)?;
    vote.save(StoredVote {
        term: FIRST_TERM,
        candidate: identity.node_id,
        committed: false,
    })?;
    let mut log = open_log(
        file_system,
        &data.join("log"),
        log_identity(identity),
        LogOptions::default(),
        false,
    )?;
    log.files
        .append(&[(RecordKind::Purged, position, &[])], &log.contents)?;
    std::fs::remove_file(download).map_err(io("remove", download))?;
    std::fs::File::open(data)
        .and_then(|folder| folder.sync_all())
        .map_err(io("sync", data))
}
