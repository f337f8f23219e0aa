//! How deep brackets nest in a text and how much of it is patterns, seen without parsing it.
//!
//! The parser recurses into brackets; chains of operators, unions and optional parts become trees
//! as deep as the chain is long, and everything that walks over them recurses. A stack that
//! overflows ends the process, so both are bounded before the text is parsed.

/// What can be said of a text without parsing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// How deep brackets are nested.
    pub(super) depth: usize,
    /// The bytes besides strings, IRIs, comments, white space and blocks of data.
    pub(super) pattern_bytes: usize,
}

/// Looks through a text, in time linear in its length. Where the text is no SPARQL it may count
/// too much or too little: there the parser stops anyway.
pub(super) fn measure(text: &str) -> Measured {
    let text = text.as_bytes();
    let mut measured = Measured::default();
    let (mut depth, mut place) = (0_usize, 0);
    let mut in_data = false;
    while let Some(byte) = text.get(place) {
        let next = match byte {
            b'{' | b'(' | b'[' => {
                if depth == 0 {
                    in_data = *byte == b'{' && ends_with_data(&text[..place]);
                }
                depth += 1;
                measured.depth = measured.depth.max(depth);
                place + 1
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                in_data &= depth > 0;
                place + 1
            }
            b'"' | b'\'' => after_string(text, place),
            b'<' => after_iri(text, place),
            b'#' => after_line(text, place),
            b'\\' => place + 2,
            _ => place + 1,
        };
        if next <= place + 2 && !in_data && !byte.is_ascii_whitespace() {
            measured.pattern_bytes += 1;
        }
        place = next;
    }
    measured
}

/// A word or a bracketed block of a text; what lies between two of them is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    text: &'a str,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token<'_> {
    /// Whether it is this word, in upper or lower case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.text[self.start..self.end].eq_ignore_ascii_case(word)
    }
}

/// The words and the blocks in curly brackets that are not themselves in brackets, in their order;
/// strings, IRIs and comments are passed over. Of a text that parses, these are what they seem.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let bytes = text.as_bytes();
    let mut place = 0;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(place) {
            let start = place;
            place = match byte {
                b'{' => after_block(bytes, place),
                b'"' | b'\'' => after_string(bytes, place),
                b'<' => after_iri(bytes, place),
                b'#' => after_line(bytes, place),
                byte if byte.is_ascii_alphabetic() => after_word(bytes, place),
                _ => place + 1,
            };
            if *byte == b'{' || byte.is_ascii_alphabetic() {
                return Some(Token {
                    text,
                    start,
                    end: place,
                });
            }
        }
        None
    })
}

fn after_word(text: &[u8], start: usize) -> usize {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    text[start..]
        .iter()
        .position(|byte| !is_of_word(byte))
        .map_or(text.len(), |length| start + length)
}

/// Behind the bracket that closes the one at `start`.
fn after_block(text: &[u8], start: usize) -> usize {
    let (mut depth, mut place) = (0_usize, start);
    while let Some(byte) = text.get(place) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        place = match byte {
            b'"' | b'\'' => after_string(text, place),
            b'<' => after_iri(text, place),
            b'#' => after_line(text, place),
            b'\\' => place + 2,
            _ => place + 1,
        };
        if depth == 0 {
            break;
        }
    }
    place.min(text.len())
}

/// Whether the keyword of a block of data stands right before.
fn ends_with_data(before: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    let Some((rest, word)) = before.len().checked_sub(4).map(|at| before.split_at(at)) else {
        return false;
    };
    word.eq_ignore_ascii_case(b"data") && rest.last().is_some_and(u8::is_ascii_whitespace)
}

fn after_line(text: &[u8], start: usize) -> usize {
    text[start..]
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))
        .map_or(text.len(), |length| start + length)
}

/// `<` begins an IRI only if `>` follows before anything that no IRI contains.
fn after_iri(text: &[u8], start: usize) -> usize {
    let rest = &text[start + 1..];
    let end = rest.iter().position(|byte| {
        matches!(
            byte,
            0..=b' ' | b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'^' | b'`'
        )
    });
    match end {
        Some(length) if rest[length] == b'>' => start + length + 2,
        _ => start + 1,
    }
}

fn after_string(text: &[u8], start: usize) -> usize {
    let quote = text[start];
    let long = text.get(start + 1) == Some(&quote) && text.get(start + 2) == Some(&quote);
    let mut place = if long { start + 3 } else { start + 1 };
    while let Some(byte) = text.get(place) {
        if *byte == b'\\' {
            place += 2;
        } else if *byte == quote
            && (!long
                || (text.get(place + 1) == Some(&quote) && text.get(place + 2) == Some(&quote)))
        {
            return place + if long { 3 } else { 1 };
        } else if !long && matches!(byte, b'\n' | b'\r') {
            // Not a string after all: what follows must be counted.
            return start + 1;
        } else {
            place += 1;
        }
    }
    // No end: an error for the parser, which gets no further than here.
    start + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_are_counted_where_they_nest() {
        for (text, expected) in [
            ("", 0),
            ("{}{}()", 1),
            ("{ ( [ ] ) }", 3),
            ("<http://example.com/((((> {}", 1),
            ("?a < ((1)) && ?b > 1", 2),
            ("\"((((\" ( )", 1),
            ("'it\\'s (((' ( )", 1),
            ("'''a ' ((( ''' ()", 1),
            ("# ((((\n()", 1),
            ("\"unfinished ((((", 4),
        ] {
            assert_eq!(measure(text).depth, expected, "{text}");
        }
    }

    #[test]
    fn data_strings_and_iris_do_not_count_as_patterns() {
        for (text, expected) in [
            ("INSERT DATA { :a :b :c }", 11),
            ("insert data{:a :b :c} ; DELETE DATA\n{ :a :b :c } ;", 24),
            (
                "PREFIX data: <http://example.com/> DELETE { ?a }",
                11 + 6 + 4,
            ),
            ("WHERE { 'long string' }", 7),
            ("DATA", 4),
        ] {
            assert_eq!(measure(text).pattern_bytes, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_counted(text: String, looks_like_sparql in "[<>{}()'\"#\\\\ a\n]{0,60}") {
            for text in [&text, &looks_like_sparql] {
                for token in tokens(text) {
                    prop_assert!(token.start < token.end && text.is_char_boundary(token.start));
                    prop_assert!(text.is_char_boundary(token.end));
                }
            }
            let _measured = (measure(&text), measure(&looks_like_sparql));
        }
    }
}
