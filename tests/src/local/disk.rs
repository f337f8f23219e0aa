//! A disk that is small enough to be filled.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set to any value, tests that need to mount are skipped, loudly, instead of failing.
const WITHOUT_MOUNTS: &str = "QUADRAFT_WITHOUT_MOUNTS";

/// A tmpfs of its own, unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `path`, which is made. `None` when mounting is not possible here and
    /// `QUADRAFT_WITHOUT_MOUNTS` says that this is known.
    ///
    /// # Errors
    /// When it cannot be mounted (that takes root).
    pub fn mount(path: &Path, bytes: u64) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let options = format!("size={bytes}");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "quadraft-test"])
            .arg(path)
            .output()?;
        if output.status.success() {
            return Ok(Some(Self {
                path: path.to_owned(),
            }));
        }
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        if std::env::var_os(WITHOUT_MOUNTS).is_some() {
            return Ok(None);
        }
        Err(io::Error::other(format!(
            "a tmpfs cannot be mounted ({}): run as root, or set {WITHOUT_MOUNTS}=1 to leave full disks out",
            reason.trim()
        )))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of it are taken.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Writes until nothing more fits; gives how many bytes that were.
    ///
    /// # Errors
    /// Those of the operating system, but for the one that is meant.
    pub fn fill(&self) -> io::Result<u64> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())?;
        for size in [64 * 1024, 4096] {
            let block = vec![0x55; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(file.metadata()?.len())
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn free(&self) -> io::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
