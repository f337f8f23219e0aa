//! Why a write is refused.

use serde::{Deserialize, Serialize};

use crate::sparql::complexity::TooComplex;
use crate::state::StateError;

/// Why a write changes nothing. Travels from the leader to the node that the client asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WriteError {
    /// The request or the document is not well-formed.
    #[error("{message}")]
    Malformed {
        /// What the parser says.
        message: String,
        /// The line, from 1, where the parser tells it.
        line: Option<u64>,
        /// The column, from 1, where the parser tells it.
        column: Option<u64>,
    },
    /// The graph does not exist.
    #[error("the graph {graph} does not exist")]
    UnknownGraph {
        /// The graph.
        graph: String,
    },
    /// The graph that should be created exists.
    #[error("the graph {graph} exists already")]
    GraphExists {
        /// The graph.
        graph: String,
    },
    /// The request names or would change the graph that is reserved for the database itself.
    #[error(
        "the graph {} is reserved for the database itself",
        crate::state::RESERVED_GRAPH
    )]
    ReservedGraph,
    /// The document has a media type that is unknown or cannot be used for this graph.
    #[error("{message}")]
    UnsupportedMediaType {
        /// What is wrong with it.
        message: String,
    },
    /// The request would change more than one request may.
    #[error("the request is too large: {message}")]
    TooLarge {
        /// Which limit it passed.
        message: String,
    },
    /// The text is so long or so nested that it would not even be planned.
    #[error("the update is too complex: {message}")]
    TooComplex {
        /// Which limit it passed.
        message: String,
    },
    /// Its idempotency key was used before, for something else.
    #[error(
        "the Idempotency-Key was used before for another request: nothing was changed by this one"
    )]
    KeyReused,
    /// The evaluation took too long and was stopped.
    #[error("the evaluation was stopped after {timeout_ms} ms")]
    TimedOut {
        /// The limit in milliseconds.
        timeout_ms: u64,
    },
    /// The request uses something that this database does not offer.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it uses.
        what: String,
    },
    /// The evaluation used too much memory and was stopped.
    #[error("the evaluation was stopped because it used too much memory")]
    OutOfMemory,
    /// The store of the member that evaluates cannot be read, and is to be rebuilt.
    #[error("the store of this member is damaged and is being rebuilt")]
    StoreDamaged,
    /// The store failed.
    #[error("{message}")]
    Storage {
        /// What it says.
        message: String,
    },
}

impl WriteError {
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed {
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

impl From<TooComplex> for WriteError {
    fn from(error: TooComplex) -> Self {
        Self::TooComplex {
            message: error.to_string(),
        }
    }
}

impl From<StateError> for WriteError {
    fn from(error: StateError) -> Self {
        if error.is_damage() {
            return Self::StoreDamaged;
        }
        Self::Storage {
            message: error.to_string(),
        }
    }
}

impl From<oxigraph::store::StorageError> for WriteError {
    fn from(error: oxigraph::store::StorageError) -> Self {
        StateError::from(error).into()
    }
}
