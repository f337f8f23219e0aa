//! Positions in the replicated log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The place of one entry in the replicated log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The index of the entry.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_term_and_then_by_index() {
        let earlier = LogPosition { term: 1, index: 9 };
        let later = LogPosition { term: 2, index: 3 };
        assert!(earlier < later);
        assert!(later < LogPosition { term: 2, index: 4 });
        assert_eq!(later.to_string(), "2.3");
    }
}
