//! How deep brackets nest in a text, seen without parsing it.

/// Counts open brackets outside of strings, IRIs and comments. Where the text is no SPARQL it may
/// count too many or too few: there the parser stops anyway.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match first {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                tail
            }
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                tail
            }
            b'"' | b'\'' => skip_string(rest),
            b'<' => skip_iri(tail),
            b'#' => tail
                .iter()
                .position(|byte| b"\r\n".contains(byte))
                .map_or(&[], |end| &tail[end..]),
            // An escaped character in a local name.
            b'\\' => tail.get(1..).unwrap_or(&[]),
            _ => tail,
        };
    }
    deepest
}

/// What follows a string, or the opening quote where there is no whole string.
fn skip_string(text: &[u8]) -> &[u8] {
    let quote = text[0];
    let length = if text.starts_with(&[quote; 3]) { 3 } else { 1 };
    let mut place = length;
    while let Some(byte) = text.get(place) {
        match byte {
            b'\\' => place += 2,
            b'\r' | b'\n' if length == 1 => break,
            _ if text[place..].starts_with(&[quote; 3][..length]) => {
                return &text[place + length..];
            }
            _ => place += 1,
        }
    }
    &text[1..]
}

/// What follows an IRI, or the `<` where it is an operator.
fn skip_iri(tail: &[u8]) -> &[u8] {
    let end = tail
        .iter()
        .position(|byte| *byte <= b' ' || b"<>\"{}|^`".contains(byte));
    match end {
        Some(end) if tail[end] == b'>' => &tail[end + 1..],
        _ => tail,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::depth;

    #[test]
    fn brackets_count_where_they_nest() {
        for (text, expected) in [
            ("", 0),
            ("SELECT * { ?s ?p [] }", 2),
            ("{}{}{}", 1),
            ("ASK { <http://example.com/((((> a ?x }", 1),
            ("FILTER(?a<((1)) && ?b>2)", 3),
            ("\"((((\" (\\()", 1),
            ("'it\\'s ((((' (())", 2),
            ("'''one ' (( ''' ()", 1),
            ("'' (", 1),
            ("# ((((\n()", 1),
            ("# ((((", 0),
            ("\"without end ((((", 4),
            ("'one\n(('", 2),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_through(text: String, marks in "[<>{}()'\"#\\\\ a\n]{0,60}") {
            let _either = (depth(&text), depth(&marks));
        }
    }
}
