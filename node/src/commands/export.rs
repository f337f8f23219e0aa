//! `export`: what a volume still holds, as N-Quads or as a backup, for one that no node can serve
//! from.
//!
//! Nothing is written to the volume. The store is copied and looked at elsewhere, because RocksDB writes
//! to what it opens. Interrupted, it starts over.

use std::fs;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use quadraft_protocol::{ExitCode, NodeId};
use serde::Serialize;

use super::Output;
use super::arguments::ExportArguments;
use super::backup_store::{BackupFolder, BackupStoreError, FORMAT_VERSION, Manifest, Owner};
use super::new_file::{NewFile, NewFileError, path_outside_of};
use super::progress::Steps;
use crate::disk::{LockError, RealFileSystem, SharedFileSystem, VolumeLock};
use crate::position::LogPosition;
use crate::recovery::{SalvageError, SalvageReport, salvage};
use crate::state::{Digest, State, StateError};

/// The folder for the copy of the store, in the one that is given for it.
const SCRATCH_NAME: &str = "quadraft-export.scratch";
/// Pieces in which a backup is written.
const PIECE_BYTES: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    File(#[from] NewFileError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("another export uses {path}", path = path.display())]
    ScratchInUse { path: PathBuf },
    #[error("failed to {action} {path}", path = path.display())]
    Scratch {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    #[error("the copy of the store cannot be read")]
    State(#[source] StateError),
    #[error(transparent)]
    Store(#[from] BackupStoreError),
    #[error("there is another backup at {url}")]
    OtherBackup { url: String },
}

impl ExportError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::File(error) => error.exit_code(),
            Self::OtherBackup { .. } | Self::ScratchInUse { .. } => ExitCode::Usage,
            Self::Store(error) => error.exit_code(),
            Self::Lock(LockError::InUse { .. }) => ExitCode::VolumeInUse,
            Self::Salvage(SalvageError::UnknownFormat(_)) => ExitCode::WrongIdentity,
            Self::Salvage(SalvageError::Nothing(_) | SalvageError::RestoreIncomplete) => {
                ExitCode::VolumeRefused
            }
            Self::Lock(LockError::Io { .. })
            | Self::Salvage(SalvageError::Scratch(_))
            | Self::Scratch { .. }
            | Self::State(_) => ExitCode::Failure,
        }
    }
}

#[derive(Debug, Serialize)]
struct ExportReport {
    /// The file, or the URL of the backup.
    output: String,
    output_bytes: u64,
    /// An earlier run had written this very backup.
    already_complete: bool,
    /// Whether everything is in it that this volume knows to be committed.
    complete: bool,
    quads: u64,
    digest: Digest,
    /// Named graphs without quads, which N-Quads cannot tell; a backup has them.
    left_out_empty_graphs: u64,
    #[serde(flatten)]
    salvaged: SalvageReport,
    duration_ms: u64,
}

impl ExportReport {
    fn exit_code(&self) -> ExitCode {
        if self.complete {
            ExitCode::Success
        } else {
            ExitCode::DamageFound
        }
    }
}

/// What was written where.
struct Written {
    output: String,
    bytes: u64,
    empty_graphs: u64,
    already_complete: bool,
}

pub(super) async fn export(arguments: ExportArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    match try_export(&arguments).await {
        Ok(report) => {
            output.report(&report);
            report.exit_code()
        }
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn try_export(arguments: &ExportArguments) -> Result<ExportReport, ExportError> {
    let started = Instant::now();
    let data = arguments.volume.data.as_path();
    // What cannot be written to is found out before the work is done.
    let target = Target::of(arguments)?;
    let scratch_folder = match &arguments.scratch {
        Some(folder) => folder.clone(),
        None => target.folder(),
    };
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let _lock = VolumeLock::acquire_existing(file_system.as_ref(), data)?;
    let scratch = Scratch::make(&file_system, data, &scratch_folder)?;
    let steps = Steps::new();
    let (state, salvaged) = salvage(
        &file_system,
        data,
        &scratch.path.join("state"),
        &mut |step, done, total| steps.show(step, done, total),
    )?;
    let written = match &target {
        Target::File(file) => write_file(file, &state, &steps)?,
        Target::Backup(folder) => write_backup(folder, &state, &salvaged, &scratch, &steps).await?,
    };
    Ok(ExportReport {
        output: written.output,
        output_bytes: written.bytes,
        already_complete: written.already_complete,
        complete: salvaged.is_complete(),
        quads: state.quads(),
        digest: state.digest(),
        left_out_empty_graphs: written.empty_graphs,
        salvaged,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Where the data goes.
enum Target {
    File(NewFile),
    Backup(BackupFolder),
}

impl Target {
    fn of(arguments: &ExportArguments) -> Result<Self, ExportError> {
        Ok(match (&arguments.output, &arguments.to) {
            (Some(output), _) => Self::File(NewFile::outside_of(&arguments.volume.data, output)?),
            (None, url) => Self::Backup(BackupFolder::open(url.as_deref().unwrap_or_default())?),
        })
    }

    /// The folder to copy the store to, when none is given.
    fn folder(&self) -> PathBuf {
        match self {
            Self::File(file) => file.target().parent().map(Path::to_owned),
            Self::Backup(_) => None,
        }
        .unwrap_or_else(std::env::temp_dir)
    }
}

/// The folder for the copy of the store; removed at the end, or by the next export.
struct Scratch {
    path: PathBuf,
    _lock: VolumeLock,
}

impl Scratch {
    fn make(
        file_system: &SharedFileSystem,
        data: &Path,
        folder: &Path,
    ) -> Result<Self, ExportError> {
        let path = path_outside_of(data, &folder.join(SCRATCH_NAME))?;
        let failed = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| ExportError::Scratch {
                action,
                path,
                source,
            }
        };
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        let lock = match VolumeLock::acquire(file_system.as_ref(), &path) {
            Ok(lock) => lock,
            Err(LockError::InUse { .. }) => return Err(ExportError::ScratchInUse { path }),
            Err(error) => return Err(error.into()),
        };
        let state = path.join("state");
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &state)(error));
            }
            _ => {}
        }
        fs::create_dir(&state).map_err(failed("create", &state))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the copy of the store");
        }
    }
}

fn write_file(file: &NewFile, state: &State, steps: &Steps) -> Result<Written, ExportError> {
    let (quads, bytes) = file.write(|path| {
        let mut out = BufWriter::with_capacity(PIECE_BYTES, fs::File::create(path)?);
        let written = state.write_quads(&mut out, &mut |done, total| {
            steps.show("writing quads", done, total);
        });
        let quads = written.map_err(io::Error::other)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        Ok(quads)
    })?;
    Ok(Written {
        output: file.target().display().to_string(),
        bytes,
        empty_graphs: quads.empty_graphs,
        already_complete: false,
    })
}

async fn write_backup(
    folder: &BackupFolder,
    state: &State,
    salvaged: &SalvageReport,
    scratch: &Scratch,
    steps: &Steps,
) -> Result<Written, ExportError> {
    let LogPosition { term, index } = state.applied().unwrap_or_default();
    let mut manifest = Manifest {
        format_version: FORMAT_VERSION,
        backup_id: String::new(),
        cluster_uuid: salvaged
            .cluster_uuid
            .clone()
            .unwrap_or_else(|| uuid::Uuid::nil().to_string()),
        node_id: salvaged.node_id.unwrap_or(NodeId(0)),
        log_term: term,
        log_index: index,
        digest: state.digest().to_string(),
        quads: state.quads(),
        bytes: 0,
        sha256: String::new(),
    };
    if let Some(found) = folder.manifest().await? {
        manifest.bytes = found.bytes;
        manifest.sha256.clone_from(&found.sha256);
        if found != manifest {
            return Err(ExportError::OtherBackup {
                url: folder.url.clone(),
            });
        }
        return Ok(Written {
            output: folder.url.clone(),
            bytes: found.bytes,
            empty_graphs: 0,
            already_complete: true,
        });
    }
    let owner = Owner {
        cluster_uuid: manifest.cluster_uuid.clone(),
        backup_id: manifest.backup_id.clone(),
    };
    folder.take(&owner).await?;
    let path = scratch.path.join("snapshot");
    let failed = |action, source| ExportError::Scratch {
        action,
        path: path.clone(),
        source,
    };
    steps.show("writing a snapshot", 0, 1);
    let file = fs::File::create(&path).map_err(|error| failed("create", error))?;
    let mut out = BufWriter::with_capacity(PIECE_BYTES, file);
    state.write_snapshot(&mut out).map_err(ExportError::State)?;
    out.flush().map_err(|error| failed("write", error))?;
    drop(out);

    let mut file = fs::File::open(&path).map_err(|error| failed("open", error))?;
    let length = file
        .metadata()
        .map_err(|error| failed("read", error))?
        .len();
    let mut upload = folder.upload(length);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file
            .read(&mut piece)
            .map_err(|error| failed("read", error))?;
        if read == 0 {
            break;
        }
        let done = upload.write(&piece[..read]).await?;
        steps.show("writing the backup", done, length);
    }
    (manifest.bytes, manifest.sha256) = upload.finish().await?;
    folder.complete(&manifest).await?;
    Ok(Written {
        output: folder.url.clone(),
        bytes: manifest.bytes,
        empty_graphs: 0,
        already_complete: false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::arguments::VolumeArguments;
    use super::*;
    use crate::recovery::stored_volume_folder as volume;

    fn arguments(data: &Path) -> ExportArguments {
        ExportArguments {
            volume: VolumeArguments {
                data: data.to_owned(),
            },
            output: None,
            to: None,
            scratch: None,
            termination_message: None,
        }
    }

    fn to_file(data: &Path, output: &Path) -> ExportArguments {
        ExportArguments {
            output: Some(output.to_owned()),
            ..arguments(data)
        }
    }

    fn names(folder: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        names
    }

    /// The stored volume has one snapshot of six quads and two more in its log, of which the last entry
    /// is not known to be committed and is malformed.
    #[tokio::test]
    async fn the_stored_volume_is_exported_from_its_snapshot_and_log() {
        let volume = volume();
        let elsewhere = tempfile::tempdir().unwrap();
        let output = elsewhere.path().join("all.nq");
        let report = try_export(&to_file(volume.path(), &output)).await.unwrap();
        let text = fs::read_to_string(&output).unwrap();
        assert_eq!(text.lines().count() as u64, report.quads);
        assert_eq!(report.output_bytes, text.len() as u64);
        assert!(text.contains("\"short\""), "{text}");
        assert_eq!(report.salvaged.applied.as_deref(), Some("2.6"));
        assert_eq!(report.salvaged.replayed_entries, 3);
        assert_eq!(report.exit_code(), ExitCode::Success);
        assert_eq!(names(elsewhere.path()), [output]);
        let parsed = oxrdfio::RdfParser::from_format(oxrdfio::RdfFormat::NQuads)
            .for_slice(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        assert_eq!(parsed.len() as u64, report.quads);
    }

    #[tokio::test]
    async fn places_that_cannot_be_written_to_are_refused_and_nothing_changes() {
        let volume = volume();
        let before = names(volume.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let there = elsewhere.path().join("there.nq");
        fs::write(&there, "kept").unwrap();
        let inside = volume.path().join("all.nq");
        for output in [&there, &inside] {
            let code = export(to_file(volume.path(), output)).await;
            assert_eq!(code, ExitCode::Usage, "{}", output.display());
        }
        let scratch_inside = ExportArguments {
            scratch: Some(volume.path().to_owned()),
            ..to_file(volume.path(), &elsewhere.path().join("new.nq"))
        };
        assert_eq!(export(scratch_inside).await, ExitCode::Usage);
        let no_url = ExportArguments {
            to: Some("not a URL".to_owned()),
            ..arguments(volume.path())
        };
        assert_eq!(export(no_url).await, ExitCode::Usage);
        let nowhere = to_file(&volume.path().join("nothing"), &inside);
        assert_eq!(export(nowhere).await, ExitCode::Usage);
        assert_eq!(names(volume.path()), before);
        assert_eq!(fs::read(&there).unwrap(), b"kept");
        assert_eq!(names(elsewhere.path()), [there]);
    }

    #[tokio::test]
    async fn a_volume_in_use_is_refused_and_an_empty_one_has_nothing() {
        let volume = volume();
        let elsewhere = tempfile::tempdir().unwrap();
        let output = elsewhere.path().join("all.nq");
        let lock = VolumeLock::acquire(&RealFileSystem, volume.path()).unwrap();
        let code = export(to_file(volume.path(), &output)).await;
        assert_eq!(code, ExitCode::VolumeInUse);
        drop(lock);
        let empty = tempfile::tempdir().unwrap();
        let code = export(to_file(empty.path(), &output)).await;
        assert_eq!(code, ExitCode::VolumeRefused);
        assert_eq!(names(elsewhere.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn another_backup_at_the_same_place_is_never_written_over() {
        let volume = volume();
        let elsewhere = tempfile::tempdir().unwrap();
        let to = |name: &str| ExportArguments {
            to: Some(format!("file://{}/{name}", elsewhere.path().display())),
            scratch: Some(elsewhere.path().to_owned()),
            ..arguments(volume.path())
        };
        let written = try_export(&to("backup")).await.unwrap();
        assert!(!written.already_complete);
        let manifest = elsewhere.path().join("backup/manifest.json");
        let before = fs::read_to_string(&manifest).unwrap();
        let again = try_export(&to("backup")).await.unwrap();
        assert!(again.already_complete);
        assert_eq!(again.output_bytes, written.output_bytes);
        let other = before.replace("\"log_index\": 6", "\"log_index\": 5");
        assert_ne!(other, before);
        fs::write(&manifest, &other).unwrap();
        assert_eq!(export(to("backup")).await, ExitCode::Usage);
        assert_eq!(fs::read_to_string(&manifest).unwrap(), other);
    }

    #[tokio::test]
    async fn what_an_interrupted_export_left_is_removed_and_another_one_is_left_alone() {
        let volume = volume();
        let elsewhere = tempfile::tempdir().unwrap();
        let output = elsewhere.path().join("all.nq");
        let scratch = elsewhere.path().join(SCRATCH_NAME);
        fs::create_dir_all(scratch.join("state/copy/generation-0000000009")).unwrap();
        fs::write(elsewhere.path().join("all.nq.partial"), "half").unwrap();
        let lock = VolumeLock::acquire(&RealFileSystem, &scratch).unwrap();
        let code = export(to_file(volume.path(), &output)).await;
        assert_eq!(code, ExitCode::Usage);
        assert!(scratch.join("state/copy").exists());
        drop(lock);
        try_export(&to_file(volume.path(), &output)).await.unwrap();
        assert_eq!(names(elsewhere.path()), [output]);
    }
}
