//! Refuses texts that are nested too deeply, before a parser recurses into them.

use super::WriteError;

/// Nobody writes this many brackets by hand, and the parser's stack has room for more.
const MAXIMUM_DEPTH: usize = 128;

/// Counts open brackets outside of strings, IRIs and comments.
pub(super) fn check(text: &str) -> Result<(), WriteError> {
    if depth(text.as_bytes()) > MAXIMUM_DEPTH {
        return Err(WriteError::TooLarge {
            message: format!("brackets are nested more than {MAXIMUM_DEPTH} deep"),
        });
    }
    Ok(())
}

fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut place) = (0_usize, 0, 0);
    while let Some(byte) = text.get(place) {
        place = match byte {
            b'{' | b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                place + 1
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                place + 1
            }
            b'"' | b'\'' => after_string(text, place),
            b'<' => after_iri(text, place),
            b'#' => after_line(text, place),
            b'\\' => place + 2,
            _ => place + 1,
        };
    }
    deepest
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
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
        }
        assert!(check(&"(".repeat(MAXIMUM_DEPTH)).is_ok());
        assert!(check(&"(".repeat(MAXIMUM_DEPTH + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_can_be_counted(text: String, looks_like_sparql in "[<>{}()'\"#\\\\ a\n]{0,60}") {
            let _counted = (depth(text.as_bytes()), depth(looks_like_sparql.as_bytes()));
        }
    }
}
