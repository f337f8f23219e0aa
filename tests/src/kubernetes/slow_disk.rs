//! A disk that is slow to one pod, on the bed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::setup::tool_output;

/// Where the first version of cgroups has the limits of disks. It knows limits of containers only, so each
/// is limited as soon as it is there, which is before its program runs.
const HIERARCHY: &str = "/sys/fs/cgroup/blkio";
const LIMIT: &str = "blkio.throttle.read_bps_device";
/// Shorter than the time between the making of a container and the start of its program.
const LOOK: Duration = Duration::from_millis(2);

/// Reads of one pod's containers are slow for as long as this is kept.
#[derive(Debug)]
pub struct SlowDisk {
    stopped: Arc<AtomicBool>,
    limited: Arc<AtomicU64>,
    watch: Option<JoinHandle<()>>,
}

impl SlowDisk {
    /// Whether disks can be limited on this machine.
    #[must_use]
    pub fn is_possible() -> bool {
        Path::new(HIERARCHY).join(LIMIT).exists()
    }

    /// Lets the pod with this UID read no more than so many bytes a second from the disk that holds
    /// `folder`, whichever of its containers come, and forgets what the kernel has of the folder's files in
    /// memory.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn of(pod_uid: &str, folder: &Path, bytes_per_second: u64) -> Result<Self, String> {
        let device = std::fs::metadata(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?
            .dev();
        let limit = format!(
            "{}:{} {bytes_per_second}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        );
        let (stopped, limited) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let watch = std::thread::spawn({
            let (stopped, limited) = (stopped.clone(), limited.clone());
            let group = format!("pod{pod_uid}");
            move || {
                let mut pod = None;
                while !stopped.load(Ordering::SeqCst) {
                    pod = pod.or_else(|| group_of(Path::new(HIERARCHY), &group));
                    let known = limited.load(Ordering::SeqCst);
                    let containers = pod.as_deref().map(folders).unwrap_or_default();
                    let slow = containers
                        .iter()
                        .filter(|container| std::fs::write(container.join(LIMIT), &limit).is_ok());
                    limited.store(known.max(slow.count() as u64), Ordering::SeqCst);
                    std::thread::sleep(LOOK);
                }
                for container in pod.as_deref().map(folders).unwrap_or_default() {
                    let free = limit.replace(&format!(" {bytes_per_second}"), " 0");
                    // A container that has ended has no limit either.
                    let _ = std::fs::write(container.join(LIMIT), free);
                }
            }
        });
        for file in files(folder) {
            let input = format!("if={}", file.display());
            tool_output("dd", &[&input, "iflag=nocache", "count=0", "status=none"]).await?;
        }
        Ok(Self {
            stopped,
            limited,
            watch: Some(watch),
        })
    }

    /// How many containers were limited.
    #[must_use]
    pub fn containers(&self) -> u64 {
        self.limited.load(Ordering::SeqCst)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(watch) = self.watch.take() {
            // A watch that failed has limited nothing, which is seen.
            let _ = watch.join();
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = entries(folder);
    found.retain(|path| path.is_dir());
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut files): (Vec<_>, Vec<_>) =
        entries(folder).into_iter().partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| self::files(folder)));
    files
}

/// The group of this name, anywhere below.
fn group_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let below = folders(folder);
    let found = below.iter().find(|path| path.ends_with(name)).cloned();
    found.or_else(|| below.iter().find_map(|path| group_of(path, name)))
}
