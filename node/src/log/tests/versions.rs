//! A log that an older version began.

use std::path::Path;

use super::workload::{FOLDER, Workload, open};
use crate::disk::simulated::SplitMix;
use crate::log::layout::{FormatVersion, SegmentHeaderRead, decode_segment_header};
use crate::log::segment::segment_path;
use crate::testing::cases;

/// A segment stays in the version that it began with; what comes after it is of the newest.
#[test]
fn a_segment_of_the_version_before_is_appended_to_in_its_version() {
    let mut seen = [0, 0];
    for seed in 0..cases(20) {
        let mut random = SplitMix::new(seed);
        let mut workload = Workload::of_the_version_before();
        for _ in 0..20 {
            workload.step(&mut random);
        }
        let opened = open(&workload.disk, true).unwrap();
        workload.model().check(&opened).unwrap();
        let mut before = FormatVersion::Two;
        for (position, payload) in &workload.model().entries {
            let location = opened.contents.get(position.index).unwrap();
            let path = segment_path(Path::new(FOLDER), location.segment);
            let segment = workload.disk.read(&path).unwrap();
            let SegmentHeaderRead::Good { header, .. } = decode_segment_header(&segment) else {
                panic!("{}", path.display());
            };
            let (version, expected) = match header.version {
                FormatVersion::Two => (0, crc32c::crc32c(payload)),
                FormatVersion::Three => (1, 0),
            };
            let start = usize::try_from(location.offset_bytes).unwrap() + 8;
            assert_eq!(
                segment[start..start + 4],
                expected.to_le_bytes(),
                "seed {seed}"
            );
            assert!(before as u32 <= header.version as u32, "seed {seed}");
            assert_eq!(header.version == FormatVersion::Two, location.segment == 1);
            before = header.version;
            seen[version] += 1;
        }
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}
