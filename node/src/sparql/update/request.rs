//! What clients ask for.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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

impl Write {
    /// A digest of what is asked for. The base IRI is no part of it: it is that of the member that
    /// was asked, and a request may be repeated at another.
    pub fn content_digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        // Each part with its length, so that no two requests have the same bytes.
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        match self {
            Self::Update {
                text,
                base_iri: _,
                using_graphs,
            } => {
                part(b"update");
                part(text.as_bytes());
                let graphs = using_graphs.iter();
                for (kind, graphs) in graphs
                    .flat_map(|graphs| [(b"default", &graphs.default), (b"  named", &graphs.named)])
                {
                    for graph in graphs {
                        part(kind);
                        part(graph.as_bytes());
                    }
                }
            }
            Self::Add {
                target,
                media_type,
                base_iri: _,
                body,
            }
            | Self::Replace {
                target,
                media_type,
                base_iri: _,
                body,
            } => {
                let is_replace = matches!(self, Self::Replace { .. });
                part(if is_replace { b"replace" } else { b"add" });
                target.digest_into(&mut part);
                part(media_type.as_bytes());
                part(body);
            }
            Self::Delete { target } => {
                part(b"delete");
                target.digest_into(&mut part);
            }
        }
        hasher.finalize().into()
    }
}

impl Target {
    fn digest_into(&self, part: &mut impl FnMut(&[u8])) {
        match self {
            Self::Dataset => part(b"dataset"),
            Self::DefaultGraph => part(b"default"),
            Self::NamedGraph(iri) => {
                part(b"named");
                part(iri.as_bytes());
            }
        }
    }
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
    fn what_is_asked_for_has_a_digest_of_its_own_wherever_it_is_asked() {
        let update = |text: &str, base: Option<&str>, using: Option<UsingGraphs>| Write::Update {
            text: text.into(),
            base_iri: base.map(ToOwned::to_owned),
            using_graphs: using,
        };
        let using = |default: &[&str], named: &[&str]| {
            let owned = |iris: &[&str]| iris.iter().map(|iri| (*iri).to_owned()).collect();
            Some(UsingGraphs {
                default: owned(default),
                named: owned(named),
            })
        };
        let upload = |target: Target, media_type: &str, body: &[u8]| Write::Add {
            target,
            media_type: media_type.into(),
            base_iri: None,
            body: body.to_vec(),
        };
        let graph = || Target::NamedGraph("http://example.com/g".into());
        let different = [
            update("CLEAR ALL", None, None),
            update("CLEAR DEFAULT", None, None),
            update("CLEAR ALL", None, using(&["a"], &[])),
            update("CLEAR ALL", None, using(&[], &["a"])),
            update("CLEAR ALL", None, using(&["a", "b"], &[])),
            upload(graph(), "text/turtle", b""),
            upload(graph(), "text/turtle", b"1"),
            upload(graph(), "text/turtle1", b""),
            upload(Target::DefaultGraph, "text/turtle", b""),
            upload(Target::Dataset, "text/turtle", b""),
            Write::Replace {
                target: graph(),
                media_type: "text/turtle".into(),
                base_iri: None,
                body: Vec::new(),
            },
            Write::Delete { target: graph() },
            Write::Delete {
                target: Target::Dataset,
            },
        ];
        let digests: std::collections::HashSet<_> =
            different.iter().map(Write::content_digest).collect();
        assert_eq!(digests.len(), different.len());
        assert_eq!(
            update("CLEAR ALL", Some("http://one/update"), None).content_digest(),
            update("CLEAR ALL", Some("http://other/update"), None).content_digest()
        );
    }

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
