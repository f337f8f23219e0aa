//! Fuzzing of what `restore` reads of a backup besides its snapshot.

#![allow(clippy::expect_used)]

use super::backup_store::Manifest;

/// The manifest of a backup.
///
/// What is read is, written and read again, the same.
pub fn backup_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::read(data, "manifest.json") else {
        return;
    };
    let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
    let again = Manifest::read(&written, "manifest.json").expect("what was written is read");
    assert_eq!(again, manifest);
}
