//! `collect`: what someone who helps needs of a volume, without its data, in one archive.
//!
//! Nothing is written to the volume, and whatever is damaged on it is no reason to stop: what cannot
//! be read is said.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use quadraft_protocol::ExitCode;
use serde::Serialize;

use super::Output;
use super::arguments::CollectArguments;
use super::inspect::inspect_volume;
use super::new_file::{NewFile, NewFileError};
use super::progress::Watched;
use crate::disk::{
    LockError, OpenMode, RealFileSystem, SharedFileSystem, VolumeLock, read_exact_at,
};
use crate::identity::{SuperblockFile, VoteFile};
use crate::log::read_segment_names;
use crate::recovery::VerifyReport;

/// Where the two copies of superblock and vote begin, and how long they are
/// (docs/formats/superblock.md).
const COPIES: [(u64, usize); 2] = [(0, 4096), (1024 * 1024, 4096)];

/// What was gathered.
#[derive(Debug, Serialize)]
struct Collected {
    /// The version of this program.
    version: &'static str,
    /// Whether another process has the volume open: then files may have changed meanwhile.
    in_use: bool,
    /// What `verify` says.
    volume: VerifyReport,
    files: usize,
    files_bytes: u64,
    /// Files and folders that were moved to quarantine, with what is in them.
    quarantine: Vec<ListedFile>,
    /// What could not be read, or was not taken along because it may be data.
    left_out: Vec<String>,
    duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct CollectReport {
    output: PathBuf,
    output_bytes: u64,
    #[serde(flatten)]
    collected: Collected,
}

/// A name below the volume's folder.
#[derive(Clone, Debug, Serialize)]
struct ListedFile {
    path: PathBuf,
    bytes: u64,
}

pub(super) fn collect(arguments: &CollectArguments) -> ExitCode {
    let output = Output::new(None);
    match try_collect(arguments) {
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

fn try_collect(arguments: &CollectArguments) -> Result<CollectReport, NewFileError> {
    let file = NewFile::outside_of(&arguments.volume.data, &arguments.output)?;
    let (collected, output_bytes) = file.write(|path| gather(arguments, path))?;
    Ok(CollectReport {
        output: file.target().to_owned(),
        output_bytes,
        collected,
    })
}

/// Writes the archive. Errors are those of writing it; what is wrong with the volume is reported.
fn gather(arguments: &CollectArguments, path: &Path) -> io::Result<Collected> {
    let started = Instant::now();
    let data = arguments.volume.data.as_path();
    let real: SharedFileSystem = Arc::new(RealFileSystem);
    let mut archive = Archive(tar::Builder::new(fs::File::create(path)?));
    let mut left_out = Vec::new();
    let mut files = Vec::new();
    list(data, Path::new(""), &mut files, &mut left_out);
    archive.json("files.json", &files)?;

    for path in [SuperblockFile::path(data), VoteFile::path(data)] {
        add_copies(&real, data, &path, &mut archive, &mut left_out)?;
    }
    let segments = files
        .iter()
        .filter(|file| file.path.starts_with("log"))
        .filter(|file| file.path.extension().is_some_and(|name| name == "log"));
    for segment in segments {
        add_segment(&real, data, &segment.path, &mut archive, &mut left_out)?;
    }

    let watched = Watched::reading(&real, data, if arguments.entries > 0 { 2 } else { 1 });
    let inspection = inspect_volume(&watched, data, arguments.entries);
    drop(watched);
    archive.json("entries.json", &inspection.entries)?;
    let collected = Collected {
        version: env!("CARGO_PKG_VERSION"),
        in_use: is_in_use(&real, data),
        volume: inspection.volume,
        files: files.len(),
        files_bytes: files.iter().map(|file| file.bytes).sum(),
        quarantine: files
            .iter()
            .filter(|file| file.path.starts_with("quarantine"))
            .cloned()
            .collect(),
        left_out,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    archive.json("report.json", &collected)?;
    archive.finish()?;
    Ok(collected)
}

/// All files below a folder, sorted, by names that begin at the volume.
fn list(data: &Path, below: &Path, files: &mut Vec<ListedFile>, left_out: &mut Vec<String>) {
    let mut names: Vec<_> = match fs::read_dir(data.join(below)) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(error) => {
            left_out.push(format!("the names in {:?}: {error}", below.display()));
            return;
        }
    };
    names.sort();
    for name in names {
        let path = below.join(name);
        match fs::symlink_metadata(data.join(&path)) {
            Ok(metadata) if metadata.is_dir() => list(data, &path, files, left_out),
            Ok(metadata) => files.push(ListedFile {
                path,
                bytes: metadata.len(),
            }),
            Err(error) => left_out.push(format!("{}: {error}", path.display())),
        }
    }
}

/// Both copies of a superblock or a vote, as they stand.
fn add_copies(
    file_system: &SharedFileSystem,
    data: &Path,
    path: &Path,
    archive: &mut Archive,
    left_out: &mut Vec<String>,
) -> io::Result<()> {
    let name = path.strip_prefix(data).unwrap_or(path).display();
    let file = match file_system.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) => {
            left_out.push(format!("{name}: {error}"));
            return Ok(());
        }
    };
    for (copy, (offset_bytes, length_bytes)) in COPIES.into_iter().enumerate() {
        match read_exact_at(file.as_ref(), offset_bytes, length_bytes) {
            Ok(bytes) => archive.add(&format!("{name}.copy-{copy}"), &bytes)?,
            Err(error) => left_out.push(format!("copy {copy} of {name}: {error}")),
        }
    }
    Ok(())
}

/// Headers and identifiers of a segment of the log: never payloads.
fn add_segment(
    file_system: &SharedFileSystem,
    data: &Path,
    path: &Path,
    archive: &mut Archive,
    left_out: &mut Vec<String>,
) -> io::Result<()> {
    let name = path.display();
    let names = file_system
        .open(&data.join(path), OpenMode::Read)
        .and_then(|file| read_segment_names(file.as_ref()));
    let names = match names {
        Ok(names) => names,
        Err(error) => {
            left_out.push(format!("{name}: {error}"));
            return Ok(());
        }
    };
    for (copy, header) in names.headers.iter().enumerate() {
        if let Some(header) = header {
            archive.add(&format!("{name}.header-{copy}"), header)?;
        }
    }
    archive.add(&format!("{name}.identifiers"), &names.identifiers)?;
    archive.json(&format!("{name}.batches.json"), &names.batches)?;
    left_out.extend(
        names
            .left_out
            .into_iter()
            .map(|what| format!("{name}: {what}")),
    );
    Ok(())
}

/// Whether another process holds the volume.
fn is_in_use(file_system: &SharedFileSystem, data: &Path) -> bool {
    matches!(
        VolumeLock::acquire_existing(file_system.as_ref(), data),
        Err(LockError::InUse { .. })
    )
}

struct Archive(tar::Builder<fs::File>);

impl Archive {
    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        self.0
            .append_data(&mut header, format!("quadraft-collect/{name}"), bytes)
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.add(name, &serde_json::to_vec_pretty(value)?)
    }

    fn finish(self) -> io::Result<()> {
        let mut file = self.0.into_inner()?;
        file.flush()?;
        file.sync_all()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::super::arguments::{InspectArguments, VolumeArguments};
    use super::*;
    use crate::recovery::stored_volume_folder;

    /// The stored volume, with a quarantine and a part of a store, in a real folder.
    fn volume() -> tempfile::TempDir {
        let folder = stored_volume_folder();
        put(
            folder.path(),
            Path::new("quarantine/store.1/CURRENT"),
            b"MANIFEST-1\n",
        );
        put(
            folder.path(),
            Path::new("store/generation-1/000004.sst"),
            b"data",
        );
        folder
    }

    fn put(volume: &Path, path: &Path, bytes: &[u8]) {
        let path = volume.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        list(folder, Path::new(""), &mut files, &mut left_out);
        assert_eq!(left_out, Vec::<String>::new());
        files
            .into_iter()
            .map(|file| {
                let bytes = fs::read(folder.join(&file.path)).unwrap();
                (file.path, bytes)
            })
            .collect()
    }

    fn arguments(volume: &Path, output: &Path) -> CollectArguments {
        CollectArguments {
            volume: VolumeArguments {
                data: volume.to_owned(),
            },
            output: output.to_owned(),
            entries: 100,
        }
    }

    fn archived(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (name.replacen("quadraft-collect/", "", 1), bytes)
            })
            .collect()
    }

    fn has(bytes: &[u8], text: &str) -> bool {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    #[test]
    fn what_names_a_volume_is_gathered_and_nothing_of_its_data() {
        let volume = volume();
        let elsewhere = tempfile::tempdir().unwrap();
        let output = elsewhere.path().join("volume.tar");
        let report = try_collect(&arguments(volume.path(), &output)).unwrap();
        assert!(report.collected.volume.is_clean(), "{report:?}");
        assert_eq!(report.output_bytes, fs::metadata(&output).unwrap().len());
        let files = archived(&output);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "entries.json",
                "files.json",
                "log/0000000000000001.log.batches.json",
                "log/0000000000000001.log.header-0",
                "log/0000000000000001.log.header-1",
                "log/0000000000000001.log.identifiers",
                "log/0000000000000002.log.batches.json",
                "log/0000000000000002.log.header-0",
                "log/0000000000000002.log.header-1",
                "log/0000000000000002.log.identifiers",
                "report.json",
                "superblock.copy-0",
                "superblock.copy-1",
                "vote.copy-0",
                "vote.copy-1",
            ]
        );
        assert!(has(&files["files.json"], "quarantine/store.1/CURRENT"));
        assert!(has(&files["entries.json"], "2.6"));
        assert!(has(&files["report.json"], env!("CARGO_PKG_VERSION")));
        let whole = fs::read(&output).unwrap();
        for data in ["example.com", "long long", "short"] {
            assert!(!has(&whole, data), "{data}");
        }
        assert!(!elsewhere.path().join("volume.tar.partial").exists());
    }

    #[test]
    fn a_volume_that_is_damaged_in_any_way_is_gathered_and_a_stray_payload_is_not() {
        let payload = vec![b'P'; 4096];
        let damages: [&[(&str, usize)]; 5] = [
            &[("superblock", 0), ("superblock", 1024 * 1024)],
            &[("vote", 0), ("vote", 1024 * 1024)],
            &[("log/0000000000000001.log", 0)],
            &[
                ("log/0000000000000001.log", 0),
                ("log/0000000000000001.log", 28_672 - 4096),
            ],
            &[("log/0000000000000002.log", 4096)],
        ];
        for damage in damages {
            let volume = volume();
            for (name, place) in damage {
                let path = volume.path().join(name);
                let mut bytes = fs::read(&path).unwrap();
                let filling = if name.starts_with("log") {
                    &payload[..]
                } else {
                    &[0; 4096]
                };
                bytes[*place..place + 4096].copy_from_slice(filling);
                fs::write(&path, bytes).unwrap();
            }
            let before = contents(volume.path());
            let elsewhere = tempfile::tempdir().unwrap();
            let output = elsewhere.path().join("volume.tar");
            let report = try_collect(&arguments(volume.path(), &output)).unwrap();
            assert!(!report.collected.volume.is_clean(), "{damage:?}");
            assert_eq!(contents(volume.path()), before, "{damage:?}");
            assert!(!has(&fs::read(&output).unwrap(), "PPPP"), "{damage:?}");
            if damage[0].0.starts_with("log") {
                assert!(!report.collected.left_out.is_empty(), "{damage:?}");
            }
        }
    }

    #[test]
    fn commands_that_look_leave_names_and_bytes_of_a_real_folder_as_they_were() {
        let volume = volume();
        let before = contents(volume.path());
        let data = VolumeArguments {
            data: volume.path().to_owned(),
        };
        assert_eq!(super::super::verify::verify(&data), ExitCode::Success);
        let inspected = super::super::inspect::inspect(&InspectArguments {
            volume: data,
            entries: 100,
        });
        assert_eq!(inspected, ExitCode::Success);
        assert_eq!(contents(volume.path()), before);
    }

    #[test]
    fn an_output_that_exists_or_lies_in_the_volume_is_refused_and_so_is_no_volume() {
        let volume = volume();
        let before = contents(volume.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let there = elsewhere.path().join("there");
        fs::write(&there, "kept").unwrap();
        let link = elsewhere.path().join("link");
        std::os::unix::fs::symlink(volume.path(), &link).unwrap();
        for output in [
            there.clone(),
            volume.path().join("volume.tar"),
            volume.path().join("quarantine/../volume.tar"),
            link.join("volume.tar"),
            elsewhere.path().join("missing/volume.tar"),
        ] {
            let code = collect(&arguments(volume.path(), &output));
            assert_eq!(code, ExitCode::Usage, "{}", output.display());
        }
        let code = collect(&arguments(
            &link.join("nothing"),
            &elsewhere.path().join("new"),
        ));
        assert_eq!(code, ExitCode::Usage);
        assert_eq!(contents(volume.path()), before);
        assert_eq!(fs::read(&there).unwrap(), b"kept");
    }
}
