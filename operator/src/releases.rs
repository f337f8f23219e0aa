//! The releases of the node that this operator knows.

use semver::Version;

/// A release of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub version: &'static str,
    /// Counts what has changed on volumes so that releases before cannot read them any more.
    pub volume_format: u32,
}

/// All of them, the oldest first.
pub const RELEASES: &[Release] = &[Release {
    version: "0.1.0",
    volume_format: 1,
}];

/// The versions, with a comma between them.
#[must_use]
pub fn known_versions() -> String {
    let versions: Vec<&str> = RELEASES.iter().map(|release| release.version).collect();
    versions.join(", ")
}

/// The release with a version.
#[must_use]
pub fn release<'a>(releases: &'a [Release], version: &str) -> Option<&'a Release> {
    releases.iter().find(|release| release.version == version)
}

/// Which of the versions that run may have written what `wanted` cannot read.
#[must_use]
pub fn ahead_of<'a>(
    releases: &[Release],
    wanted: &Release,
    running: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    running
        .into_iter()
        .find(|version| match release(releases, version) {
            Some(release) => release.volume_format > wanted.volume_format,
            // A later operator knows it, or somebody has made it.
            None => is_later(version, wanted.version),
        })
}

/// Whether a version comes after another one (https://semver.org). One that is none comes after nothing.
fn is_later(version: &str, other: &str) -> bool {
    let (version, other) = (Version::parse(version), Version::parse(other));
    version.is_ok_and(|version| other.is_ok_and(|other| version > other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [Release; 3] = [
        Release {
            version: "1.0.0",
            volume_format: 1,
        },
        Release {
            version: "1.1.0",
            volume_format: 1,
        },
        Release {
            version: "1.2.0",
            volume_format: 2,
        },
    ];

    #[test]
    fn nobody_goes_back_to_a_release_that_cannot_read_what_was_written() {
        let ahead = |wanted: usize, running: &[&'static str]| {
            ahead_of(&THREE, &THREE[wanted], running.iter().copied())
        };
        for (wanted, running, expected) in [
            (0, &[][..], None),
            (0, &["1.0.0"], None),
            (2, &["1.0.0", "1.1.0"], None),
            (0, &["1.1.0"], None),
            (1, &["1.2.0"], Some("1.2.0")),
            // One member has the new release already.
            (0, &["1.0.0", "1.2.0"], Some("1.2.0")),
            (2, &["2.0.0"], Some("2.0.0")),
            (2, &["1.2.0-own"], None),
            (2, &["mine"], None),
        ] {
            assert_eq!(ahead(wanted, running), expected, "{wanted} {running:?}");
        }
    }

    #[test]
    fn later_releases_read_what_earlier_ones_wrote() {
        assert!(RELEASES.is_sorted_by_key(|release| release.volume_format));
    }
}
