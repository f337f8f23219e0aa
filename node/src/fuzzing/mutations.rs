//! Mutations of stored cases, for a build that cannot be guided by coverage.

use crate::disk::simulated::SplitMix;

/// Longer cases than this are not made.
const MAXIMUM_CASE_BYTES: usize = 16 * 1024;

/// A case that is like one of `cases`, which are not none.
pub(super) fn mutated(cases: &[Vec<u8>], random: &mut SplitMix) -> Vec<u8> {
    let mut case = cases[random.below(cases.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut case, cases, random);
    }
    case.truncate(MAXIMUM_CASE_BYTES);
    case
}

fn mutate(case: &mut Vec<u8>, cases: &[Vec<u8>], random: &mut SplitMix) {
    if case.is_empty() {
        case.push(random.next_u64() as u8);
        return;
    }
    let place = random.below(case.len());
    match random.below(9) {
        0 => case[place] ^= 1 << random.below(8),
        1 => case[place] = random.next_u64() as u8,
        2 => case.insert(place, random.next_u64() as u8),
        3 => case.truncate(place),
        4 => {
            // Numbers at which something ends.
            let number = [0, 1, 0x7f, 0x80, 0xff, 0xffff, u64::MAX >> 1, u64::MAX][random.below(8)];
            let bytes = number.to_le_bytes();
            let length = [1, 2, 4, 8][random.below(4)].min(case.len() - place);
            case[place..place + length].copy_from_slice(&bytes[..length]);
        }
        5 => {
            let end = place + random.below(case.len() - place) + 1;
            case.drain(place..end);
        }
        6 => {
            let end = place + random.below((case.len() - place).min(64)) + 1;
            let part = case[place..end].to_vec();
            // Again and again: what nests, nests deep.
            for _ in 0..=random.below(40) {
                case.splice(place..place, part.iter().copied());
                if case.len() > MAXIMUM_CASE_BYTES {
                    break;
                }
            }
        }
        _ => {
            // A part of another case.
            let other = &cases[random.below(cases.len())];
            if other.is_empty() {
                return;
            }
            let from = random.below(other.len());
            let to = from + random.below((other.len() - from).min(256)) + 1;
            let end = if random.below(2) == 0 {
                place
            } else {
                (place + to - from).min(case.len())
            };
            case.splice(place..end, other[from..to].iter().copied());
        }
    }
}
