//! Who decides what a crash leaves.

/// Decides between the outcomes that a crash may have.
pub trait Choice {
    /// One of `options` outcomes, from 0 up to but not with `options`, which is at least 2. The
    /// first is always what was durable for certain; the last, what the process saw last.
    fn pick(&mut self, options: usize) -> usize;
}

/// Picks, kept within bounds, and only where there is something to choose.
pub(super) fn pick(choice: &mut dyn Choice, options: usize) -> usize {
    if options < 2 {
        return 0;
    }
    choice.pick(options).min(options - 1)
}

/// Only what was durable for certain survives.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepNothing;

impl Choice for KeepNothing {
    fn pick(&mut self, _options: usize) -> usize {
        0
    }
}

/// All that the process wrote survives, except what a failed sync or a fault took.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepEverything;

impl Choice for KeepEverything {
    fn pick(&mut self, options: usize) -> usize {
        options.saturating_sub(1)
    }
}

/// Random numbers of which the sequence never changes (Steele et al., "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014: SplitMix64), so that a seed that was printed years
/// ago still gives the same case.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Starts the sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// What a random crash is like. A crash that mixes everything evenly almost never loses all, keeps
/// all or tears just one place, though those are the likely crashes and the ones that find bugs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tendency {
    /// The seed decides which of the others it is.
    #[default]
    Varied,
    /// Nothing pending survives.
    AllLost,
    /// Everything pending survives.
    AllKept,
    /// Everything pending survives but for one place, which keeps something older.
    OneTorn,
    /// Nothing pending survives but for one place, which keeps something newer.
    OneKept,
    /// Each place decides for itself.
    Mixed,
}

/// Random outcomes from a seed.
#[derive(Clone, Debug)]
pub struct SeededChoice {
    random: SplitMix,
    tendency: Tendency,
    /// Picks until the one place that differs.
    left: usize,
}

impl SeededChoice {
    /// Varied outcomes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_tendency(seed, Tendency::Varied)
    }

    /// Outcomes of one tendency.
    #[must_use]
    pub fn with_tendency(seed: u64, tendency: Tendency) -> Self {
        let mut random = SplitMix::new(seed);
        let drawn = [
            Tendency::AllLost,
            Tendency::AllKept,
            Tendency::OneTorn,
            Tendency::OneKept,
            Tendency::Mixed,
            Tendency::Mixed,
        ][random.below(6)];
        // The number of picks to come is unknown: small numbers and great ones are as likely.
        let magnitude = 1 << random.below(10);
        Self {
            tendency: match tendency {
                Tendency::Varied => drawn,
                given => given,
            },
            left: random.below(magnitude),
            random,
        }
    }

    /// The tendency in force, which is never [`Tendency::Varied`].
    #[must_use]
    pub fn tendency(&self) -> Tendency {
        self.tendency
    }

    fn is_the_one(&mut self) -> bool {
        let is = self.left == 0;
        self.left = self.left.checked_sub(1).unwrap_or(usize::MAX);
        is
    }
}

impl Choice for SeededChoice {
    fn pick(&mut self, options: usize) -> usize {
        let last = options.saturating_sub(1);
        let differs = self.is_the_one();
        match self.tendency {
            Tendency::OneTorn if differs => self.random.below(last),
            Tendency::OneKept if differs => 1 + self.random.below(last),
            Tendency::AllLost | Tendency::OneKept => 0,
            Tendency::AllKept | Tendency::OneTorn => last,
            Tendency::Mixed | Tendency::Varied => self.random.below(options),
        }
    }
}

/// What [`Exhaustive::every`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Coverage {
    /// Combinations that were run.
    pub cases: usize,
    /// Whether those were all there are: the bound cut nothing, and every run met the same choices
    /// where it picked the same.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Digit {
    value: usize,
    options: usize,
}

/// Every combination of outcomes, depth first, like the digits of an odometer: the last pick
/// changes quickest, and picks that depend on earlier ones may come and go.
#[derive(Clone, Debug, Default)]
pub struct Exhaustive {
    digits: Vec<Digit>,
    position: usize,
    changed: bool,
}

impl Exhaustive {
    /// Runs `body` once for each combination of what it picks, at most `bound` times. The body must
    /// do the same again when it picks the same.
    pub fn every(bound: usize, mut body: impl FnMut(&mut dyn Choice)) -> Coverage {
        let mut odometer = Self::default();
        let mut cases = 0;
        while cases < bound {
            odometer.position = 0;
            body(&mut odometer);
            cases += 1;
            if !odometer.advance() {
                return Coverage {
                    cases,
                    complete: !odometer.changed,
                };
            }
        }
        Coverage {
            cases,
            complete: false,
        }
    }

    fn advance(&mut self) -> bool {
        self.digits.truncate(self.position);
        while let Some(last) = self.digits.last_mut() {
            if last.value + 1 < last.options {
                last.value += 1;
                return true;
            }
            self.digits.pop();
        }
        false
    }
}

impl Choice for Exhaustive {
    fn pick(&mut self, options: usize) -> usize {
        if self.position == self.digits.len() {
            self.digits.push(Digit { value: 0, options });
        }
        let digit = self.digits[self.position];
        self.changed |= digit.options != options;
        self.position += 1;
        digit.value.min(options.saturating_sub(1))
    }
}
