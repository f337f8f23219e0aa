//! Words and sentences that look like a language and are none.

use super::sequence::{Purpose, Sequence};

const ONSETS: [&str; 20] = [
    "b", "br", "c", "d", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t",
    "tr", "v",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const ENDINGS: [&str; 8] = ["", "", "n", "r", "s", "l", "t", "x"];

/// How many different words there are.
const VOCABULARY: u64 = 20_000;

/// A language of review texts, with letters of its own so that texts are not all ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Language {
    pub(crate) tag: &'static str,
    letters: [&'static str; 3],
}

const LANGUAGES: [Language; 5] = [
    Language {
        tag: "en",
        letters: ["", "", ""],
    },
    Language {
        tag: "de",
        letters: ["ä", "ö", "ß"],
    },
    Language {
        tag: "fr",
        letters: ["é", "ç", "œ"],
    },
    Language {
        tag: "es",
        letters: ["ñ", "á", "ó"],
    },
    Language {
        tag: "ja",
        letters: ["の", "製品", "良い"],
    },
];

/// The language of a text: half of them are English.
pub(crate) fn language(sequence: &mut Sequence) -> Language {
    if sequence.chance(50) {
        LANGUAGES[0]
    } else {
        LANGUAGES[sequence.between(1, 4) as usize]
    }
}

/// A word of the vocabulary: the same number is the same word for every seed.
pub(crate) fn word(number: u64) -> String {
    let mut sequence = Sequence::new(0, Purpose::Word, number % VOCABULARY);
    let mut word = String::with_capacity(12);
    for _ in 0..sequence.between(2, 3) {
        word.push_str(sequence.choose(&ONSETS));
        word.push_str(sequence.choose(&VOWELS));
    }
    word.push_str(sequence.choose(&ENDINGS));
    word
}

/// The number of a word for running text: low numbers are common, as in a language.
pub(crate) fn common_word(sequence: &mut Sequence) -> u64 {
    let first = sequence.below(VOCABULARY);
    let second = sequence.below(VOCABULARY);
    first * second / VOCABULARY
}

/// `count` words with spaces between.
pub(crate) fn words(sequence: &mut Sequence, count: u64) -> String {
    let mut text = String::with_capacity(count as usize * 9);
    for place in 0..count {
        if place > 0 {
            text.push(' ');
        }
        text.push_str(&word(common_word(sequence)));
    }
    text
}

/// Running text in a language, with marks that a serialisation must escape here and there.
pub(crate) fn sentences(sequence: &mut Sequence, language: Language, count: u64) -> String {
    let mut text = String::with_capacity(count as usize * 9);
    for place in 0..count {
        if place > 0 {
            text.push_str(match sequence.below(100) {
                0 => "\n",
                1 => " \\ ",
                2..=9 => ". ",
                10..=15 => ", ",
                _ => " ",
            });
        }
        let quoted = sequence.chance(1);
        if quoted {
            text.push('"');
        }
        text.push_str(&word(common_word(sequence)));
        if sequence.chance(20) {
            text.push_str(sequence.choose(&language.letters));
        }
        if quoted {
            text.push('"');
        }
    }
    text
}

/// A given name and a family name.
pub(crate) fn person_name(sequence: &mut Sequence) -> String {
    let given = capitalised(&word(sequence.below(500)));
    let family = capitalised(&word(500 + sequence.below(5_000)));
    format!("{given} {family}")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_whenever_it_is_asked_for() {
        assert_eq!(word(17), word(17));
        assert_eq!(word(17), word(17 + VOCABULARY));
        assert!((4..=12).contains(&word(17).len()));
    }

    #[test]
    fn text_has_as_many_words_as_asked_for() {
        let mut sequence = Sequence::new(1, Purpose::Review, 1);
        assert_eq!(words(&mut sequence, 6).split(' ').count(), 6);
        assert_eq!(person_name(&mut sequence).split(' ').count(), 2);
    }
}
