//! Why a query has no answer.

use crate::sparql::complexity::TooComplex;
use crate::sparql::reserved::Refused;

/// Why a query has no answer, or no more of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is not a query.
    #[error("{message}")]
    Malformed {
        /// What the parser says.
        message: String,
        /// The line, from 1, where the parser tells it.
        line: Option<u64>,
        /// The column, from 1, where the parser tells it.
        column: Option<u64>,
    },
    /// It names the reserved graph or another endpoint.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It uses something that this database does not offer.
    #[error("{0}")]
    Unsupported(String),
    /// The text is so long or so nested that it would not even be planned.
    #[error("the query is too complex: {0}")]
    TooComplex(String),
    /// The client accepts no format that this kind of result can be written in.
    #[error(
        "none of the accepted media types can hold this result; it can be written as {offered}"
    )]
    NotAcceptable {
        /// The media types that can.
        offered: String,
    },
    /// The graph does not exist.
    #[error("the graph <{0}> does not exist")]
    UnknownGraph(String),
    /// The time was over.
    #[error("the query was cancelled after {timeout_ms} ms")]
    TimedOut {
        /// The limit in milliseconds.
        timeout_ms: u64,
    },
    /// The result has more rows or bytes than one may have.
    #[error("the result is too large: {0}")]
    TooLarge(String),
    /// The process was running out of the memory that queries may use.
    #[error("the query was cancelled because it used too much memory")]
    OutOfMemory,
    /// The store cannot be read, and is to be rebuilt.
    #[error("the store of this member is damaged and is being rebuilt")]
    StoreDamaged,
    /// Nobody waits for the result any more.
    #[error("the client has gone")]
    Disconnected,
    /// As many queries as allowed are running and waiting.
    #[error("too many queries are running and waiting")]
    Busy,
    /// The store or the evaluation failed.
    #[error("{0}")]
    Internal(String),
}

impl QueryError {
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed {
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

impl From<TooComplex> for QueryError {
    fn from(error: TooComplex) -> Self {
        Self::TooComplex(error.to_string())
    }
}
