//! Terms and quads as bytes, shared by log entries and snapshots. `docs/formats/effects.md`
//! describes the format.

use oxrdf::{BlankNode, GraphName, Literal, NamedNode, NamedOrBlankNode, Quad, Term};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// Something follows the last element.
    #[error("{0} bytes follow the last element")]
    Trailing(usize),
    /// A number is written with more bytes than it needs, or does not fit.
    #[error("a number is not in its shortest form or too large")]
    Number,
    /// A byte that should name the kind of something names nothing known.
    #[error("{tag} is not a kind of {what}")]
    Tag {
        /// The byte.
        tag: u8,
        /// What it should have named.
        what: &'static str,
    },
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// The first quad refers to the one before.
    #[error("the first quad refers to a quad before it")]
    Reference,
    /// A version that this program does not know.
    #[error("the encoding has version {found}, this program reads version {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The version that can be read.
        known: u8,
    },
}

mod tag {
    pub(super) const SAME: u8 = 0;
    pub(super) const NAMED_NODE: u8 = 1;
    pub(super) const NUMBERED_BLANK_NODE: u8 = 2;
    pub(super) const NAMED_BLANK_NODE: u8 = 3;
    pub(super) const STRING: u8 = 4;
    pub(super) const LANGUAGE_STRING: u8 = 5;
    pub(super) const TYPED: u8 = 6;
    pub(super) const DEFAULT_GRAPH: u8 = 7;
}

/// Appends a number, seven bits a byte, the least significant first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_number(out, count as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_named_node(out: &mut Vec<u8>, node: &NamedNode) {
    out.push(tag::NAMED_NODE);
    put_text(out, node.as_str());
}

fn put_blank_node(out: &mut Vec<u8>, node: &BlankNode) {
    if let Some(number) = node.as_ref().unique_id() {
        out.push(tag::NUMBERED_BLANK_NODE);
        out.extend_from_slice(&number.to_be_bytes());
    } else {
        out.push(tag::NAMED_BLANK_NODE);
        put_text(out, node.as_str());
    }
}

fn put_subject(out: &mut Vec<u8>, node: &NamedOrBlankNode) {
    match node {
        NamedOrBlankNode::NamedNode(node) => put_named_node(out, node),
        NamedOrBlankNode::BlankNode(node) => put_blank_node(out, node),
    }
}

fn put_object(out: &mut Vec<u8>, term: &Term) {
    match term {
        Term::NamedNode(node) => put_named_node(out, node),
        Term::BlankNode(node) => put_blank_node(out, node),
        Term::Literal(literal) => {
            if let Some(language) = literal.language() {
                out.push(tag::LANGUAGE_STRING);
                put_text(out, literal.value());
                put_text(out, language);
            } else if literal.datatype() == oxrdf::vocab::xsd::STRING {
                out.push(tag::STRING);
                put_text(out, literal.value());
            } else {
                out.push(tag::TYPED);
                put_text(out, literal.value());
                put_text(out, literal.datatype().as_str());
            }
        }
    }
}

pub(crate) fn put_graph_name(out: &mut Vec<u8>, name: &GraphName) {
    match name {
        GraphName::NamedNode(node) => put_named_node(out, node),
        GraphName::BlankNode(node) => put_blank_node(out, node),
        GraphName::DefaultGraph => out.push(tag::DEFAULT_GRAPH),
    }
}

pub(crate) fn put_graph(out: &mut Vec<u8>, name: &NamedOrBlankNode) {
    put_subject(out, name);
}

/// Appends a quad; parts that equal those of `previous` take one byte.
pub(crate) fn put_quad(out: &mut Vec<u8>, quad: &Quad, previous: Option<&Quad>) {
    if previous.is_some_and(|previous| previous.graph_name == quad.graph_name) {
        out.push(tag::SAME);
    } else {
        put_graph_name(out, &quad.graph_name);
    }
    if previous.is_some_and(|previous| previous.subject == quad.subject) {
        out.push(tag::SAME);
    } else {
        put_subject(out, &quad.subject);
    }
    if previous.is_some_and(|previous| previous.predicate == quad.predicate) {
        out.push(tag::SAME);
    } else {
        put_named_node(out, &quad.predicate);
    }
    if previous.is_some_and(|previous| previous.object == quad.object) {
        out.push(tag::SAME);
    } else {
        put_object(out, &quad.object);
    }
}

/// Appends the number of quads and the quads.
pub(crate) fn put_quads(out: &mut Vec<u8>, quads: &[Quad]) {
    put_count(out, quads.len());
    let mut previous = None;
    for quad in quads {
        put_quad(out, quad, previous);
        previous = Some(quad);
    }
}

/// Reads what the functions above wrote. Never panics and never allocates more than the bytes
/// can account for.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Refuses bytes after the last element.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(
        &mut self,
        length: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        self.bytes(N, what)?
            .try_into()
            .map_err(|_| DecodeError::Truncated(what))
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte("a number")?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
                return Err(DecodeError::Number);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Number)
    }

    /// A number of elements of at least `minimum_bytes` each, which must fit in the rest.
    pub(crate) fn count(
        &mut self,
        minimum_bytes: usize,
        what: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Number)?;
        if count.saturating_mul(minimum_bytes) > self.rest.len() {
            return Err(DecodeError::Truncated(what));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.count(1, "a text")?;
        std::str::from_utf8(self.bytes(length, "a text")?).map_err(|_| DecodeError::Text)
    }

    fn named_node(&mut self) -> Result<NamedNode, DecodeError> {
        // The leader checked the name; a follower must take what was agreed upon.
        Ok(NamedNode::new_unchecked(self.text()?))
    }

    fn blank_node(&mut self, tag: u8, what: &'static str) -> Result<BlankNode, DecodeError> {
        match tag {
            tag::NUMBERED_BLANK_NODE => Ok(BlankNode::new_from_unique_id(u128::from_be_bytes(
                self.array("a blank node")?,
            ))),
            tag::NAMED_BLANK_NODE => Ok(BlankNode::new_unchecked(self.text()?)),
            _ => Err(DecodeError::Tag { tag, what }),
        }
    }

    fn subject_of(&mut self, tag: u8, what: &'static str) -> Result<NamedOrBlankNode, DecodeError> {
        Ok(match tag {
            tag::NAMED_NODE => self.named_node()?.into(),
            _ => self.blank_node(tag, what)?.into(),
        })
    }

    fn object_of(&mut self, tag: u8) -> Result<Term, DecodeError> {
        Ok(match tag {
            tag::NAMED_NODE => self.named_node()?.into(),
            tag::STRING => Literal::new_simple_literal(self.text()?).into(),
            tag::LANGUAGE_STRING => {
                let value = self.text()?;
                Literal::new_language_tagged_literal_unchecked(value, self.text()?).into()
            }
            tag::TYPED => {
                let value = self.text()?;
                Literal::new_typed_literal(value, self.named_node()?).into()
            }
            _ => self.blank_node(tag, "object")?.into(),
        })
    }

    fn graph_name_of(&mut self, tag: u8) -> Result<GraphName, DecodeError> {
        Ok(match tag {
            tag::DEFAULT_GRAPH => GraphName::DefaultGraph,
            _ => self.subject_of(tag, "graph name")?.into(),
        })
    }

    pub(crate) fn graph_name(&mut self) -> Result<GraphName, DecodeError> {
        let tag = self.byte("a graph name")?;
        self.graph_name_of(tag)
    }

    pub(crate) fn graph(&mut self) -> Result<NamedOrBlankNode, DecodeError> {
        let tag = self.byte("a graph name")?;
        self.subject_of(tag, "graph name")
    }

    pub(crate) fn quad(&mut self, previous: Option<&Quad>) -> Result<Quad, DecodeError> {
        let before = || previous.ok_or(DecodeError::Reference);
        let graph_name = match self.byte("a quad")? {
            tag::SAME => before()?.graph_name.clone(),
            tag => self.graph_name_of(tag)?,
        };
        let subject = match self.byte("a quad")? {
            tag::SAME => before()?.subject.clone(),
            tag => self.subject_of(tag, "subject")?,
        };
        let predicate = match self.byte("a quad")? {
            tag::SAME => before()?.predicate.clone(),
            tag::NAMED_NODE => self.named_node()?,
            tag => {
                return Err(DecodeError::Tag {
                    tag,
                    what: "predicate",
                });
            }
        };
        let object = match self.byte("a quad")? {
            tag::SAME => before()?.object.clone(),
            tag => self.object_of(tag)?,
        };
        Ok(Quad {
            subject,
            predicate,
            object,
            graph_name,
        })
    }

    pub(crate) fn quads(&mut self) -> Result<Vec<Quad>, DecodeError> {
        let count = self.count(MINIMUM_QUAD_BYTES, "quads")?;
        let mut quads: Vec<Quad> = Vec::new();
        for _ in 0..count {
            let quad = self.quad(quads.last())?;
            quads.push(quad);
        }
        Ok(quads)
    }
}

/// A quad that equals the one before takes one byte for each of its parts.
pub(crate) const MINIMUM_QUAD_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_in_their_shortest_form_only() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
        assert_eq!(
            Decoder::new(&[0x80, 0x00]).number(),
            Err(DecodeError::Number)
        );
        assert_eq!(
            Decoder::new(&[0x80]).number(),
            Err(DecodeError::Truncated("a number"))
        );
        let mut largest = [0xff; 10];
        largest[9] = 0x01;
        assert_eq!(Decoder::new(&largest).number(), Ok(u64::MAX));
        largest[9] = 0x02;
        assert_eq!(Decoder::new(&largest).number(), Err(DecodeError::Number));
    }

    #[test]
    fn a_count_that_cannot_be_true_is_refused_before_anything_is_allocated() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, u64::MAX);
        assert!(Decoder::new(&bytes).quads().is_err());
    }

    proptest! {
        #[test]
        fn every_number_is_read_back(number: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.number(), Ok(number));
            prop_assert_eq!(decoder.finish(), Ok(()));
        }
    }
}
