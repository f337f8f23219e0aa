//! A file that a command writes of a volume: never into the volume, never over something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quadraft_protocol::ExitCode;

#[derive(Debug, thiserror::Error)]
pub(super) enum NewFileError {
    #[error("{path} is not a folder", path = path.display())]
    NoVolume { path: PathBuf, source: io::Error },
    #[error("{path} exists already", path = path.display())]
    Exists { path: PathBuf },
    #[error("{output} lies inside the volume {data}, which must not change", output = output.display(), data = data.display())]
    InsideVolume { output: PathBuf, data: PathBuf },
    #[error("the folder of {path} cannot be used", path = path.display())]
    NoFolder { path: PathBuf, source: io::Error },
    #[error("failed to write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl NewFileError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoVolume { .. }
            | Self::Exists { .. }
            | Self::InsideVolume { .. }
            | Self::NoFolder { .. } => ExitCode::Usage,
            Self::Write { .. } => ExitCode::Failure,
        }
    }
}

/// A file that gets its name when it is whole. One that was interrupted is written over by the next.
#[derive(Debug)]
pub(super) struct NewFile {
    target: PathBuf,
    partial: PathBuf,
}

impl NewFile {
    /// Refuses an output that is there already or would change the volume at `data`.
    pub(super) fn outside_of(data: &Path, output: &Path) -> Result<Self, NewFileError> {
        let target = path_outside_of(data, output)?;
        if fs::symlink_metadata(&target).is_ok() {
            return Err(NewFileError::Exists { path: target });
        }
        let mut partial = target.clone().into_os_string();
        partial.push(".partial");
        Ok(Self {
            target,
            partial: partial.into(),
        })
    }

    /// The name that the file will have, with all links followed.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Has `write` make the file at the path that it is given, and puts it in place. Nothing is left
    /// of it when that fails.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<(T, u64), NewFileError> {
        let written = write(&self.partial).and_then(|value| {
            let bytes = fs::metadata(&self.partial)?.len();
            fs::rename(&self.partial, &self.target)?;
            if let Some(folder) = self.target.parent() {
                fs::File::open(folder)?.sync_all()?;
            }
            Ok((value, bytes))
        });
        written.map_err(|source| {
            let _ = fs::remove_file(&self.partial);
            NewFileError::Write {
                path: self.partial.clone(),
                source,
            }
        })
    }
}

/// `output` with all links of its folder followed; refused when it lies in the volume at `data`.
pub(super) fn path_outside_of(data: &Path, output: &Path) -> Result<PathBuf, NewFileError> {
    let data = fs::canonicalize(data)
        .and_then(|data| fs::read_dir(&data).map(|_| data))
        .map_err(|source| NewFileError::NoVolume {
            path: data.to_owned(),
            source,
        })?;
    let no_folder = |source| NewFileError::NoFolder {
        path: output.to_owned(),
        source,
    };
    let name = output
        .file_name()
        .ok_or_else(|| no_folder(io::Error::from(io::ErrorKind::InvalidFilename)))?;
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let target = fs::canonicalize(folder).map_err(no_folder)?.join(name);
    if target.starts_with(&data) {
        return Err(NewFileError::InsideVolume {
            output: output.to_owned(),
            data,
        });
    }
    Ok(target)
}
