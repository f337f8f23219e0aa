//! How much memory the process uses, and how much it may use.

use std::sync::LazyLock;

/// The resident memory of this process in bytes, where the system tells it.
pub(super) fn resident_bytes() -> Option<u64> {
    in_status(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmRSS:",
    )
}

/// The memory that this process may have at most: that of its container or of the machine.
pub(super) fn limit_bytes() -> Option<u64> {
    static LIMIT: LazyLock<Option<u64>> = LazyLock::new(|| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = read("/proc/meminfo").and_then(|text| in_status(&text, "MemTotal:"));
        // Those of cgroup version 2 and version 1, as they are seen in a container.
        [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ]
        .into_iter()
        .filter_map(|path| in_cgroup(&read(path)?))
        .chain(machine)
        .min()
    });
    *LIMIT
}

fn in_status(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `max` is no limit.
fn in_cgroup(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_found_in_the_status() {
        assert_eq!(
            in_status(
                "Name:\tnode\nVmPeak:\t 9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n",
                "VmRSS:"
            ),
            Some(2 << 20)
        );
        assert_eq!(in_status("Name:\tnode\n", "VmRSS:"), None);
    }

    #[test]
    fn a_container_has_a_limit_or_none() {
        assert_eq!(in_cgroup("536870912\n"), Some(512 << 20));
        assert_eq!(in_cgroup("max\n"), None);
        assert!(limit_bytes().is_some_and(|bytes| bytes > 0));
    }
}
