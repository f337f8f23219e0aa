//! Groups of uneven size over numbered items, without a table of them.
//!
//! Products belong to producers, offers to vendors, reviews to persons. The groups follow one
//! another, and each boundary lies near a multiple of the mean size, moved by a random number of
//! its own; so the group of an item and the items of a group are computed, not remembered.

use std::ops::Range;

use super::sequence::{Purpose, Sequence};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    seed: u64,
    purpose: Purpose,
    mean: u64,
    /// How many items there are; `u64::MAX` where the end is not known.
    items: u64,
}

impl Partition {
    pub(crate) const fn new(seed: u64, purpose: Purpose, mean: u64, items: u64) -> Self {
        Self {
            seed,
            purpose,
            mean,
            items,
        }
    }

    /// Where group `group` starts, if there were no end. Boundaries move by at most a third of the
    /// mean, so they stay in order.
    const fn unbounded_start(&self, group: u64) -> u64 {
        if group == 0 {
            return 0;
        }
        let reach = self.mean / 3;
        let moved = Sequence::new(self.seed, self.purpose, group).between(0, 2 * reach);
        group * self.mean - reach + moved
    }

    /// The items of a group; empty past the last group.
    pub(crate) fn items_of(&self, group: u64) -> Range<u64> {
        let start = self.unbounded_start(group).min(self.items);
        let end = self.unbounded_start(group + 1).min(self.items);
        start..end
    }

    /// The group that an item belongs to.
    pub(crate) const fn group_of(&self, item: u64) -> u64 {
        let near = item / self.mean;
        if self.unbounded_start(near + 1) <= item {
            near + 1
        } else if self.unbounded_start(near) <= item {
            near
        } else {
            near - 1
        }
    }

    /// How many groups have an item.
    pub(crate) const fn groups(&self) -> u64 {
        if self.items == 0 {
            0
        } else {
            self.group_of(self.items - 1) + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_belongs_to_the_one_group_that_lists_it() {
        for (mean, items) in [
            (50, 1),
            (50, 49),
            (50, 5_000),
            (20, 3_333),
            (3, 100),
            (2000, 777),
        ] {
            let partition = Partition::new(9, Purpose::ProducerBoundary, mean, items);
            let mut next = 0;
            for group in 0..partition.groups() {
                let range = partition.items_of(group);
                assert_eq!(range.start, next, "mean {mean}, group {group}");
                assert!(!range.is_empty());
                assert!(range.clone().all(|item| partition.group_of(item) == group));
                next = range.end;
            }
            assert_eq!(next, items);
            assert!(partition.items_of(partition.groups()).is_empty());
        }
    }

    #[test]
    fn groups_have_different_sizes_around_the_mean() {
        let partition = Partition::new(9, Purpose::VendorBoundary, 60, 6_000);
        let sizes: Vec<u64> = (0..partition.groups())
            .map(|group| partition.items_of(group).end - partition.items_of(group).start)
            .collect();
        assert!(sizes.iter().min() < sizes.iter().max());
        assert!(sizes.iter().all(|size| *size <= 100));
    }
}
