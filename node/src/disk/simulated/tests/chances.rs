//! Choices.

use super::*;

#[test]
fn the_odometer_sees_every_combination_once_also_when_later_picks_depend_on_earlier_ones() {
    let mut seen = Vec::new();
    let coverage = Exhaustive::every(100, |choice| {
        let first = choice.pick(3);
        let second = if first == 1 { choice.pick(2) } else { 9 };
        seen.push((first, second, choice.pick(2)));
    });
    let expected = [
        (0, 9, 0),
        (0, 9, 1),
        (1, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
        (2, 9, 0),
        (2, 9, 1),
    ];
    assert_eq!(seen, expected);
    assert_eq!((coverage.cases, coverage.complete), (8, true));
}

#[test]
fn the_odometer_says_when_the_bound_cut_it_or_the_run_was_not_the_same_again() {
    let pick_three = |choice: &mut dyn Choice| {
        choice.pick(2);
        choice.pick(2);
        choice.pick(2);
    };
    assert!(!Exhaustive::every(7, pick_three).complete);
    assert!(Exhaustive::every(8, pick_three).complete);
    assert!(!Exhaustive::every(0, pick_three).complete);
    let mut options = 2;
    let fickle = Exhaustive::every(100, |choice| {
        choice.pick(options);
        choice.pick(2);
        options += 1;
    });
    assert!(!fickle.complete);
}

#[test]
fn a_seed_gives_the_same_picks_for_ever() {
    let mut random = SplitMix::new(1_234_567);
    let drawn = [random.next_u64(), random.next_u64(), random.next_u64()];
    // The reference values of the published algorithm.
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
    ];
    assert_eq!(drawn, published);
    let picks = |seed| {
        let mut choice = SeededChoice::with_tendency(seed, Tendency::Mixed);
        (0..20).map(|_| choice.pick(10)).collect::<Vec<_>>()
    };
    assert_eq!(picks(7), picks(7));
    assert_ne!(picks(7), picks(8));
}

#[test]
fn each_tendency_picks_as_its_name_says_and_the_seed_decides_between_them() {
    let mut torn_at = BTreeSet::new();
    for seed in 0..500 {
        let picks = |tendency| {
            let mut choice = SeededChoice::with_tendency(seed, tendency);
            (0..100).map(|_| choice.pick(3)).collect::<Vec<_>>()
        };
        assert_eq!(picks(Tendency::AllLost), [0; 100]);
        assert_eq!(picks(Tendency::AllKept), [2; 100]);
        let torn = picks(Tendency::OneTorn);
        assert!(torn.iter().filter(|&&pick| pick < 2).count() <= 1);
        torn_at.extend(torn.iter().position(|&pick| pick < 2));
        let kept = picks(Tendency::OneKept);
        assert!(kept.iter().filter(|&&pick| pick > 0).count() <= 1);
        let mixed: BTreeSet<usize> = picks(Tendency::Mixed).into_iter().collect();
        assert_eq!(mixed, BTreeSet::from([0, 1, 2]));
    }
    assert!(torn_at.contains(&0) && torn_at.last() > Some(&50));
    let drawn: BTreeSet<String> = (0..100)
        .map(|seed| format!("{:?}", SeededChoice::new(seed).tendency()))
        .collect();
    assert_eq!(drawn.len(), 5);
}
