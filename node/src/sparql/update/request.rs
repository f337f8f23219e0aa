//! What clients ask for.

use serde::{Deserialize, Serialize};

/// One write of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// A SPARQL 1.1 Update.
    Update {
        /// The text.
        text: String,
        /// Against which relative IRIs are resolved.
        base_iri: Option<String>,
        /// The protocol's `using-graph-uri` and `using-named-graph-uri`, if any were given.
        using_graphs: Option<UsingGraphs>,
    },
    /// Adds the statements of an RDF document.
    Add {
        /// Where to.
        target: Target,
        /// The media type of the document.
        media_type: String,
        /// Against which relative IRIs are resolved.
        base_iri: Option<String>,
        /// The document.
        #[serde(with = "body")]
        body: Vec<u8>,
    },
    /// Replaces all statements by those of an RDF document.
    Replace {
        /// Where.
        target: Target,
        /// The media type of the document.
        media_type: String,
        /// Against which relative IRIs are resolved.
        base_iri: Option<String>,
        /// The document.
        #[serde(with = "body")]
        body: Vec<u8>,
    },
    /// Deletes a graph or everything.
    Delete {
        /// What.
        target: Target,
    },
}

/// Where an upload or a deletion goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The default graph and all named graphs.
    Dataset,
    /// The default graph.
    DefaultGraph,
    /// One named graph, by its IRI.
    NamedGraph(String),
}

/// The graphs that the protocol's parameters name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsingGraphs {
    /// The values of `using-graph-uri`.
    pub default: Vec<String>,
    /// The values of `using-named-graph-uri`.
    pub named: Vec<String>,
}

/// Documents as base64 where people may look, as bytes elsewhere.
mod body {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(bytes))
        } else {
            bytes.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            STANDARD
                .decode(String::deserialize(deserializer)?)
                .map_err(de::Error::custom)
        } else {
            Vec::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_upload_survives_being_written_as_json() {
        let write = Write::Add {
            target: Target::NamedGraph("http://example.com/g".into()),
            media_type: "text/turtle".into(),
            base_iri: None,
            body: vec![0, 255, 128],
        };
        let text = serde_json::to_string(&write).unwrap();
        assert!(text.contains("\"AP+A\""), "{text}");
        assert_eq!(serde_json::from_str::<Write>(&text).unwrap(), write);
    }
}
