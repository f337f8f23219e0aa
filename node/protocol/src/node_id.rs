//! Node identities as people and manifests write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A random 64-bit identity that is born with a volume and never used again.
///
/// Written as 16 hexadecimal digits: a number of this size does not survive JSON readers that
/// keep numbers as doubles. Never zero: zero means "none" on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// The text is not 16 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a node id: expected 16 hexadecimal digits")]
pub struct ParseNodeIdError(String);

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 {
            return Err(ParseNodeIdError(text.to_owned()));
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| ParseNodeIdError(text.to_owned()))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_written_and_read_as_sixteen_hexadecimal_digits() {
        let id = NodeId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "0123456789abcdef");
        assert_eq!("0123456789abcdef".parse::<NodeId>().ok(), Some(id));
        assert!("123".parse::<NodeId>().is_err());
        assert!("0123456789abcdeg".parse::<NodeId>().is_err());
    }
}
