//! Cutting N-Quads into batches of whole statements.

use std::io::{self, BufRead};

use crate::generator::QuadStream;

/// Some statements, to be written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Counts from 0 within one source.
    pub number: u64,
    pub quads: u64,
    pub text: String,
}

/// Why a source of statements cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("failed to read the statements")]
    Read(#[from] io::Error),
    #[error(
        "line {line} names a blank node: statements about one blank node may end up in different \
         batches, where they would be about different nodes; send the file as a single request"
    )]
    BlankNode { line: u64 },
}

enum Source {
    Generated(Box<QuadStream>),
    Read(Box<dyn BufRead + Send>),
}

/// Batches of statements from a generator or a reader. Memory holds one batch.
pub struct Batches {
    source: Source,
    quads_per_batch: u64,
    next_number: u64,
    lines_read: u64,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Batches")
            .field("quads_per_batch", &self.quads_per_batch)
            .field("next_number", &self.next_number)
            .finish_non_exhaustive()
    }
}

impl Batches {
    /// Batches of at least `quads_per_batch` statements, except for the last one: entities are
    /// not divided.
    #[must_use]
    pub fn generated(stream: QuadStream, quads_per_batch: u64) -> Self {
        Self::new(Source::Generated(Box::new(stream)), quads_per_batch)
    }

    /// Batches of exactly `quads_per_batch` statements, except for the last one.
    #[must_use]
    pub fn read(reader: Box<dyn BufRead + Send>, quads_per_batch: u64) -> Self {
        Self::new(Source::Read(reader), quads_per_batch)
    }

    fn new(source: Source, quads_per_batch: u64) -> Self {
        Self {
            source,
            quads_per_batch: quads_per_batch.max(1),
            next_number: 0,
            lines_read: 0,
        }
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<(), SourceError> {
        while batch.quads < self.quads_per_batch {
            match &mut self.source {
                Source::Generated(stream) => {
                    let Some((text, quads)) = stream.next_entity() else {
                        return Ok(());
                    };
                    batch.text.push_str(text);
                    batch.quads += quads;
                }
                Source::Read(reader) => {
                    let start = batch.text.len();
                    if reader.read_line(&mut batch.text)? == 0 {
                        return Ok(());
                    }
                    self.lines_read += 1;
                    let line = &batch.text[start..];
                    if line.trim().is_empty() || line.trim_start().starts_with('#') {
                        batch.text.truncate(start);
                        continue;
                    }
                    if names_blank_node(line) {
                        return Err(SourceError::BlankNode {
                            line: self.lines_read,
                        });
                    }
                    if !line.ends_with('\n') {
                        batch.text.push('\n');
                    }
                    batch.quads += 1;
                }
            }
        }
        Ok(())
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Batch {
            number: self.next_number,
            quads: 0,
            text: String::new(),
        };
        if let Err(error) = self.fill(&mut batch) {
            return Some(Err(error));
        }
        if batch.quads == 0 {
            return None;
        }
        self.next_number += 1;
        Some(Ok(batch))
    }
}

/// Whether a statement has a `_:` outside literals and IRIs.
fn names_blank_node(line: &str) -> bool {
    let mut within = None;
    let mut previous = '\0';
    let mut escaped = false;
    for character in line.chars() {
        match within {
            Some('"') if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(end) if character == end => within = None,
            Some(_) => {}
            None => match character {
                '"' => within = Some('"'),
                '<' => within = Some('>'),
                '#' => return false,
                ':' if previous == '_' => return true,
                _ => {}
            },
        }
        previous = character;
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::generator::{DataSet, Scale};

    fn batches_of(text: &'static str, quads_per_batch: u64) -> Vec<(u64, u64, String)> {
        Batches::read(Box::new(text.as_bytes()), quads_per_batch)
            .map(|batch| {
                let batch = batch.unwrap();
                (batch.number, batch.quads, batch.text)
            })
            .collect()
    }

    #[test]
    fn a_file_is_cut_between_statements_and_comments_do_not_count() {
        let text = "# a comment\n<a:1> <b:1> \"1\" .\n\n<a:2> <b:1> \"2\" .\n<a:3> <b:1> \"3\" .";
        assert_eq!(
            batches_of(text, 2),
            [
                (
                    0,
                    2,
                    "<a:1> <b:1> \"1\" .\n<a:2> <b:1> \"2\" .\n".to_owned()
                ),
                (1, 1, "<a:3> <b:1> \"3\" .\n".to_owned()),
            ]
        );
        assert!(batches_of("", 2).is_empty());
        assert!(batches_of("# nothing\n", 2).is_empty());
    }

    #[test]
    fn blank_nodes_are_refused_and_what_only_looks_like_one_is_not() {
        for line in [
            "_:a <b:1> \"1\" .",
            "<a:1> <b:1> _:c .",
            "<a:1> <b:1> \"\\\\\" _:g .",
        ] {
            assert!(names_blank_node(line), "{line}");
        }
        for line in [
            "<a:_:1> <b:1> \"_:a\" .",
            "<a:1> <b:1> \"a \\\" _:a\" .",
            "<a:1> <b:1> \"1\" . # _:a",
        ] {
            assert!(!names_blank_node(line), "{line}");
        }
        let error = Batches::read(
            Box::new("<a:1> <b:1> \"1\" .\n_:a <b:1> \"1\" .".as_bytes()),
            9,
        )
        .next()
        .unwrap()
        .unwrap_err();
        assert!(matches!(error, SourceError::BlankNode { line: 2 }));
    }

    #[test]
    fn generated_batches_hold_everything_that_was_generated() {
        let data_set = DataSet {
            scale: Scale::Quads(3_000),
            seed: 1,
            named_graphs: false,
        };
        let batches: Vec<Batch> = Batches::generated(data_set.stream(), 500)
            .map(Result::unwrap)
            .collect();
        assert!(batches.iter().rev().skip(1).all(|batch| batch.quads >= 500));
        assert_eq!(batches.iter().map(|batch| batch.quads).sum::<u64>(), 3_000);
        let mut whole = Vec::new();
        data_set.stream().write_to(&mut whole).unwrap();
        let joined: String = batches.into_iter().map(|batch| batch.text).collect();
        assert_eq!(joined.as_bytes(), whole);
    }
}
