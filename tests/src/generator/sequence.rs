//! Random numbers that are the same for ever.
//!
//! The bytes that a seed stands for are written down in benchmarks and compared between versions,
//! so they may depend on no library: random number crates change their algorithms and the way they
//! narrow a number to a range between releases. This is SplitMix64, which passes the usual
//! statistical tests and needs one addition and one mixing step a number.

/// What a sequence is for: entities of different kinds never share random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    TypeFeatures = 1,
    Type = 2,
    Feature = 3,
    ProducerBoundary = 4,
    Producer = 5,
    Product = 6,
    VendorBoundary = 7,
    Vendor = 8,
    Offer = 9,
    SiteBoundary = 10,
    PersonBoundary = 11,
    Person = 12,
    Review = 13,
    Word = 14,
    Query = 15,
}

/// A sequence of random numbers for one entity: the same for equal seed, purpose and number, and
/// reachable without the sequences of other entities.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Sequence {
    pub(crate) const fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let state = mix(seed.wrapping_add(GOLDEN));
        let state = mix(state ^ (purpose as u64).wrapping_mul(GOLDEN));
        Self {
            state: mix(state ^ number.wrapping_mul(GOLDEN)),
        }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`, which must not be 0. The bias of at most `bound / 2^64` does not
    /// matter for test data.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number from `low` to `high` that clusters around the middle, roughly as a normal
    /// distribution does (the mean of four draws).
    pub(crate) const fn central(&mut self, low: u64, high: u64) -> u64 {
        let sum = self.between(low, high) as u128
            + self.between(low, high) as u128
            + self.between(low, high) as u128
            + self.between(low, high) as u128;
        (sum / 4) as u64
    }

    pub(crate) const fn choose<'a>(&mut self, from: &'a [&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut sequence = Sequence::new(1, Purpose::Product, 7);
        let numbers = [sequence.next(), sequence.next(), sequence.next()];
        assert_eq!(
            numbers,
            [
                14_804_103_397_570_645_566,
                13_921_347_809_488_761_785,
                11_016_477_637_767_595_135
            ],
            "a change here changes the bytes of every generated data set"
        );
    }

    #[test]
    fn entities_seeds_and_purposes_have_sequences_of_their_own() {
        let first = Sequence::new(1, Purpose::Product, 7).next();
        assert_ne!(first, Sequence::new(1, Purpose::Product, 8).next());
        assert_ne!(first, Sequence::new(2, Purpose::Product, 7).next());
        assert_ne!(first, Sequence::new(1, Purpose::Offer, 7).next());
    }

    #[test]
    fn ranges_are_reached_at_both_ends_and_never_left() {
        let mut sequence = Sequence::new(3, Purpose::Query, 0);
        let drawn: Vec<u64> = (0..2000).map(|_| sequence.between(5, 9)).collect();
        assert_eq!(drawn.iter().min(), Some(&5));
        assert_eq!(drawn.iter().max(), Some(&9));
        assert!((0..2000).all(|_| (10..=20).contains(&sequence.central(10, 20))));
    }

    #[test]
    fn a_chance_is_roughly_as_large_as_it_says() {
        let mut sequence = Sequence::new(4, Purpose::Query, 0);
        let hits = (0..10_000).filter(|_| sequence.chance(70)).count();
        assert!((6_700..7_300).contains(&hits), "{hits} of 10,000");
    }
}
