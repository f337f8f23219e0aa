//! Snapshots and the store.

use std::path::Path;
use std::sync::Arc;

use oxrdf::{GraphName, NamedNode, Quad};

use super::super::parts::{scrub_snapshot, scrub_store};
use super::{InUse, at, flip, in_use};
use crate::disk::simulated::{Damage, Fault, FaultKind};
use crate::disk::{Interrupted, RealFileSystem, SharedFileSystem, Throttle, Unthrottled};
use crate::log::LogStore;
use crate::recovery::{StorePlace, order_rebuild};
use crate::state::StoreScrub;

#[test]
fn a_snapshot_damaged_in_any_chunk_goes_to_quarantine_and_is_written_anew() {
    let (disk, volume) = in_use(20);
    volume.apply(0..10);
    let built = volume.keeper.build().unwrap();
    let bytes = disk.read(built.path()).unwrap();
    assert!(bytes.len() > 20_000);
    let scrub = || scrub_snapshot(&volume.keeper, &mut Unthrottled).unwrap();
    assert_eq!((scrub().checked, scrub().mended), (1, 0));
    let length = bytes.len() as u64;
    let mut kept = 0;
    for damage in [
        flip(3),
        flip(length / 2),
        flip(length - 5),
        Damage::ZeroSector {
            offset_bytes: length / 3,
        },
        Damage::UnreadableSector {
            offset_bytes: length / 2,
        },
        Damage::Truncate {
            length_bytes: length - 1,
        },
    ] {
        let current = volume.keeper.current().unwrap();
        disk.damage(current.path(), damage.clone()).unwrap();
        let part = scrub();
        assert_eq!(
            (part.checked, part.mended, part.unrepairable),
            (1, 1, 0),
            "{damage:?}"
        );
        assert_eq!(volume.state().damage(), None);
        kept += 1;
        let quarantined = disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with("/data/quarantine"))
            .count();
        assert_eq!(quarantined, kept, "every byte is kept");
        let current = volume.keeper.current().unwrap();
        assert_eq!(disk.read(current.path()).unwrap(), bytes, "{damage:?}");
        assert_eq!(scrub().mended, 0);
    }
    // A file that is gone is damage too, with nothing to keep.
    disk.damage(volume.keeper.current().unwrap().path(), Damage::Remove)
        .unwrap();
    assert_eq!(scrub().mended, 1);
    assert!(volume.keeper.is_whole());
}

#[test]
fn a_damaged_snapshot_is_never_sent() {
    let (disk, volume) = in_use(20);
    volume.apply(0..10);
    let damaged = volume.keeper.build().unwrap().kept_by(&volume.keeper);
    disk.damage(damaged.path(), flip(2000)).unwrap();
    assert!(damaged.open_to_send().is_err());
    let current = volume.keeper.current().unwrap().kept_by(&volume.keeper);
    assert!(!current.is_the_same_as(&damaged));
    assert!(current.open_to_send().is_ok());
    // Whoever still holds the damaged one does not replace the whole one by it.
    volume.keeper.replace_if_damaged(&damaged).unwrap();
    assert!(volume.keeper.current().unwrap().is_the_same_as(&current));
}

#[test]
fn a_snapshot_that_cannot_be_replaced_is_told_and_tried_again() {
    let (disk, volume) = in_use(20);
    volume.apply(0..10);
    let built = volume.keeper.build().unwrap();
    disk.damage(built.path(), flip(2000)).unwrap();
    let full = Fault::next(FaultKind::WriteError)
        .only_where(|path| path.extension().is_some_and(|extension| extension == "new"));
    disk.inject(full);
    let scrub = || scrub_snapshot(&volume.keeper, &mut Unthrottled).unwrap();
    let part = scrub();
    assert_eq!((part.mended, part.unrepairable), (0, 1));
    let part = scrub();
    assert_eq!((part.mended, part.unrepairable), (1, 0));
    assert!(volume.keeper.is_whole());
}

/// Applies one more entry whenever something is read.
struct Busy<'a>(&'a InUse, u64);

impl Throttle for Busy<'_> {
    fn note(&mut self, _bytes: u64) -> Result<(), Interrupted> {
        self.0.apply(self.1..self.1 + 1);
        self.1 += 1;
        Ok(())
    }
}

#[test]
fn a_store_is_compared_at_one_state_whatever_is_applied_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let volume = InUse::open_with(
        &file_system,
        folder.path(),
        StorePlace::Volume,
        LogStore::start_inline,
    );
    volume.apply(0..2500);
    let mut shown = Vec::new();
    let part = scrub_store(
        volume.state(),
        &mut Busy(&volume, 2500),
        &mut |done, total| shown.push((done, total)),
    )
    .unwrap();
    assert_eq!((part.checked, part.unrepairable), (2500, 0));
    assert_eq!(volume.state().damage(), None);
    assert_eq!(shown.last(), Some(&(2500, 2500)));
    let quads = volume.state().quads();
    assert!(quads > 2500, "nothing was applied meanwhile");
    let again = scrub_store(volume.state(), &mut Unthrottled, &mut |_, _| {}).unwrap();
    assert_eq!(again.checked, quads);
}

#[test]
fn a_store_with_other_data_is_found_and_rebuilt_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let file_system: SharedFileSystem = Arc::new(RealFileSystem);
    let open = || {
        InUse::open_with(
            &file_system,
            data,
            StorePlace::Volume,
            LogStore::start_inline,
        )
    };
    let volume = open();
    volume.vote(1);
    volume.append(0..10);
    volume.apply(0..10);
    volume.keeper.build().unwrap();
    // So that the log alone cannot give the data back.
    volume.log.purge(at(9), Box::new(|purged| purged.unwrap()));
    let digest = volume.state().digest();
    drop(volume);

    // Behind the node's back, as a disk does it that gives back other blocks.
    let generation = data.join("store/generation-0000000001");
    let node = NamedNode::new("http://example.com/stray").unwrap();
    #[allow(clippy::disallowed_methods)]
    {
        let store = oxigraph::store::Store::open(&generation).unwrap();
        let stray = Quad::new(node.clone(), node.clone(), node, GraphName::DefaultGraph);
        store.insert(&stray).unwrap();
        store.flush().unwrap();
    }
    let volume = open();
    assert_eq!(
        volume.state().digest(),
        digest,
        "what is kept tells nothing"
    );
    let part = scrub_store(volume.state(), &mut Unthrottled, &mut |_, _| {}).unwrap();
    assert_eq!(part.unrepairable, 1);
    let what = volume.state().damage().unwrap();
    assert!(what.contains("11 quads"), "{what}");
    // Nothing is written from it, and what was written before is whole.
    assert!(volume.keeper.build().is_err());
    assert!(volume.keeper.is_whole());
    order_rebuild(file_system.as_ref(), data, &what).unwrap();
    drop(volume);

    let volume = open();
    assert!(volume.report.state_machine_repaired);
    assert!(data.join("quarantine/store.1").exists());
    assert!(!data.join("store.rebuild").exists());
    assert_eq!(volume.state().digest(), digest);
    assert!(matches!(
        volume
            .state()
            .scrub(&mut Unthrottled, &mut |_, _| {})
            .unwrap(),
        StoreScrub::Whole { quads: 10 }
    ));
    drop(volume);
    assert!(!open().report.state_machine_repaired, "once is enough");
    assert!(!Path::new(data).join("quarantine/store.2").exists());
}
