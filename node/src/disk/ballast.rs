//! A file that holds nothing but space, to be let go when the disk is full.

use std::io;
use std::path::{Path, PathBuf};

use super::{FileSystem, OpenMode, failed_sync};

/// The longest that one is made.
const MAXIMUM_BYTES: u64 = 64 * 1024 * 1024;

/// Space that is kept for the start on a full disk: opening the store takes some.
#[derive(Clone, Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// That of the volume at `data`.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self {
            path: data.join("reserve"),
        }
    }

    /// Takes up to 64 MiB, unless it is there already; tells whether it was made.
    ///
    /// # Errors
    /// Those of the operating system. What was begun is removed then.
    pub fn hold(&self, file_system: &dyn FileSystem, length_bytes: u64) -> io::Result<bool> {
        let length_bytes = length_bytes.min(MAXIMUM_BYTES);
        if length_bytes == 0 || file_system.exists(&self.path)? {
            return Ok(false);
        }
        let file = file_system.open(&self.path, OpenMode::CreateNew)?;
        let allocated = file
            .allocate(length_bytes)
            .and_then(|()| file.sync().map_err(failed_sync));
        if let Err(error) = allocated {
            drop(file);
            file_system.remove_file(&self.path)?;
            return Err(error);
        }
        Ok(true)
    }

    /// Lets go of it when less space than it takes is left; tells whether it was.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn release_if_needed(&self, file_system: &dyn FileSystem) -> io::Result<bool> {
        if !file_system.exists(&self.path)? {
            return Ok(false);
        }
        let length_bytes = file_system
            .open(&self.path, OpenMode::Read)?
            .length_bytes()?;
        let Some(folder) = self.path.parent() else {
            return Ok(false);
        };
        if file_system.available_bytes(folder)? >= length_bytes {
            return Ok(false);
        }
        file_system.remove_file(&self.path)?;
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::simulated::SimulatedDisk;
    use super::*;

    #[test]
    fn it_is_held_while_there_is_space_and_let_go_when_there_is_none() {
        let disk = SimulatedDisk::new();
        disk.set_capacity_bytes(Some(1000));
        let ballast = Ballast::of(Path::new("/"));
        assert!(ballast.hold(&disk, 400).unwrap());
        assert!(!ballast.hold(&disk, 400).unwrap(), "once is enough");
        assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 600);
        assert!(!ballast.release_if_needed(&disk).unwrap());
        disk.set_capacity_bytes(Some(700));
        assert!(ballast.release_if_needed(&disk).unwrap());
        assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 700);
        assert!(!ballast.release_if_needed(&disk).unwrap());
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let disk = SimulatedDisk::new();
        disk.set_capacity_bytes(Some(100));
        let ballast = Ballast::of(Path::new("/"));
        assert!(super::super::is_out_of_space(
            &ballast.hold(&disk, 400).unwrap_err()
        ));
        assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 100);
    }
}
