//! The order-independent digest over all user quads.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use oxrdf::QuadRef;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The sum modulo 2^256 of the SHA-256 of the canonical N-Quads line of each quad.
///
/// A sum does not depend on the order of the quads and can be kept up to date by adding and
/// subtracting. Written as 64 hexadecimal digits, most significant first.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Least significant first.
    limbs: [u64; 4],
}

impl Digest {
    /// The digest of no quads at all.
    pub const ZERO: Self = Self { limbs: [0; 4] };

    /// The number as 32 bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.limbs.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The number from 32 bytes, most significant first.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0_u64; 4];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *limb = chunk
                .iter()
                .fold(0, |value, byte| (value << 8) | u64::from(*byte));
        }
        Self { limbs }
    }

    /// The two halves, most significant first.
    pub(crate) fn halves(self) -> (u128, u128) {
        let half = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let [a, b, c, d] = self.limbs;
        (half(d, c), half(b, a))
    }

    /// The opposite of [`Self::halves`].
    pub(crate) fn from_halves(high: u128, low: u128) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&high.to_be_bytes());
        bytes[16..].copy_from_slice(&low.to_be_bytes());
        Self::from_bytes(bytes)
    }

    /// The sum modulo 2^256.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut limbs = [0; 4];
        let mut carry = false;
        for (sum, (left, right)) in limbs
            .iter_mut()
            .zip(self.limbs.into_iter().zip(other.limbs))
        {
            let (value, first) = left.overflowing_add(right);
            let (value, second) = value.overflowing_add(u64::from(carry));
            *sum = value;
            carry = first || second;
        }
        Self { limbs }
    }

    /// The difference modulo 2^256.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let mut limbs = [0; 4];
        let mut borrow = false;
        for (difference, (left, right)) in limbs
            .iter_mut()
            .zip(self.limbs.into_iter().zip(other.limbs))
        {
            let (value, first) = left.overflowing_sub(right);
            let (value, second) = value.overflowing_sub(u64::from(borrow));
            *difference = value;
            borrow = first || second;
        }
        Self { limbs }
    }
}

/// Hashes quads one after the other with one buffer for all of them.
#[derive(Debug, Default)]
pub(crate) struct QuadHasher {
    line: Vec<u8>,
}

impl QuadHasher {
    /// The line that was hashed last, in canonical N-Quads.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The digest of a dataset that holds this quad alone.
    pub(crate) fn hash<'a>(&mut self, quad: impl Into<QuadRef<'a>>) -> Digest {
        self.line.clear();
        // Writing to memory does not fail.
        let _infallible = writeln!(self.line, "{} .", quad.into());
        Digest::from_bytes(Sha256::digest(&self.line).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limbs
            .iter()
            .rev()
            .try_for_each(|limb| write!(formatter, "{limb:016x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a digest: expected 64 hexadecimal digits")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseDigestError(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut limbs = [0; 4];
        for (index, limb) in limbs.iter_mut().rev().enumerate() {
            *limb = u64::from_str_radix(&text[index * 16..(index + 1) * 16], 16)
                .map_err(|_| refused())?;
        }
        Ok(Self { limbs })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oxrdf::{GraphName, Literal, NamedNode, Quad};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quad_is_hashed_as_its_canonical_line() {
        let node = NamedNode::new("http://example.com/a").unwrap();
        let quad = Quad::new(
            node.clone(),
            node.clone(),
            Literal::new_simple_literal("one\n\"two\""),
            GraphName::DefaultGraph,
        );
        let line = "<http://example.com/a> <http://example.com/a> \"one\\n\\\"two\\\"\" .\n";
        assert_eq!(
            QuadHasher::default().hash(&quad),
            Digest::from_bytes(Sha256::digest(line).into())
        );
        let quad = Quad::new(node.clone(), node.clone(), node.clone(), node);
        let line = "<http://example.com/a> <http://example.com/a> <http://example.com/a> <http://example.com/a> .\n";
        assert_eq!(
            QuadHasher::default().hash(&quad),
            Digest::from_bytes(Sha256::digest(line).into())
        );
    }

    #[test]
    fn the_sum_wraps_around() {
        let most = Digest::from_bytes([0xff; 32]);
        let mut one = [0; 32];
        one[31] = 1;
        let one = Digest::from_bytes(one);
        assert_eq!(most.plus(one), Digest::ZERO);
        assert_eq!(Digest::ZERO.minus(one), most);
    }

    proptest! {
        #[test]
        fn every_way_of_writing_a_digest_is_read_back(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_bytes(), bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let (high, low) = digest.halves();
            prop_assert_eq!(Digest::from_halves(high, low), digest);
        }

        #[test]
        fn a_difference_undoes_a_sum(left: [u8; 32], right: [u8; 32]) {
            let (left, right) = (Digest::from_bytes(left), Digest::from_bytes(right));
            prop_assert_eq!(left.plus(right).minus(right), left);
            prop_assert_eq!(left.plus(right), right.plus(left));
        }
    }
}
