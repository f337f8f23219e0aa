//! The protocol's `using-graph-uri` and `using-named-graph-uri`: as `USING` and `USING NAMED`
//! before each `WHERE` (SPARQL 1.1 Protocol, 2.2.3).
//!
//! They are put into the text, because the parser writes `ADD`, `COPY` and `MOVE` as the same
//! operations as `INSERT … WHERE`: afterwards nothing tells them apart, and a dataset for the one
//! would leave the others without the graph that they copy from.

use oxrdf::NamedNode;

use super::{UsingGraphs, WriteError};
use crate::sparql::nesting::{Token, tokens};

/// The text with the graphs that the parameters name. It must be an update that parses.
pub(super) fn insert(text: &str, graphs: &UsingGraphs) -> Result<String, WriteError> {
    let mut clauses = String::new();
    for (keyword, iris) in [("USING", &graphs.default), ("USING NAMED", &graphs.named)] {
        for iri in iris {
            let graph = NamedNode::new(iri.as_str()).map_err(|error| {
                WriteError::malformed(format!("the graph {iri} has no valid IRI: {error}"))
            })?;
            clauses.push_str(&format!("{keyword} {graph} "));
        }
    }
    let mut out = String::with_capacity(text.len() + clauses.len());
    let mut copied = 0;
    let mut outside = tokens(text).peekable();
    let mut before: Option<Token<'_>> = None;
    while let Some(token) = outside.next() {
        if token.is_word("WHERE") && !is_part_of_a_name(text, &token) {
            out.push_str(&text[copied..token.start]);
            copied = token.start;
            // The short form deletes what it finds: its pattern is the template too.
            if before.is_some_and(|before| before.is_word("DELETE"))
                && let Some(block) = outside.peek()
            {
                out.push_str(&text[block.start..block.end]);
                out.push(' ');
            }
            out.push_str(&clauses);
        }
        before = Some(token);
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

/// `ex:where` and `where:` are names of something else.
fn is_part_of_a_name(text: &str, token: &Token<'_>) -> bool {
    text[..token.start].ends_with(':') || text[token.end..].starts_with(':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn inserted(text: &str) -> String {
        let graphs = UsingGraphs {
            default: vec!["http://a".into()],
            named: vec!["http://b".into()],
        };
        insert(text, &graphs).unwrap()
    }

    #[test]
    fn each_where_gets_the_graphs() {
        assert_eq!(
            inserted(
                "INSERT { ?s ?p 1 } WHERE { ?s ?p ?o } ; DELETE { ?s ?p 'WHERE' }\nwhere{ ?s ?p ?o }"
            ),
            "INSERT { ?s ?p 1 } USING <http://a> USING NAMED <http://b> WHERE { ?s ?p ?o } ; \
             DELETE { ?s ?p 'WHERE' }\nUSING <http://a> USING NAMED <http://b> where{ ?s ?p ?o }"
        );
    }

    #[test]
    fn the_short_form_is_written_out() {
        assert_eq!(
            inserted("DELETE WHERE { ?s ?p \"}\" . GRAPH ?g { ?s ?p 1 } } ;"),
            "DELETE { ?s ?p \"}\" . GRAPH ?g { ?s ?p 1 } } USING <http://a> USING NAMED <http://b> \
             WHERE { ?s ?p \"}\" . GRAPH ?g { ?s ?p 1 } } ;"
        );
    }

    #[test]
    fn what_has_no_where_stays_as_it_is() {
        for text in [
            "MOVE <http://x> TO <http://y>",
            "PREFIX where: <http://x> COPY where:where TO where:y # WHERE",
            "INSERT DATA { <a:WHERE> <a:b> 'WHERE' }",
            "PREFIX ex: <http://x> CLEAR GRAPH ex:WHERE ; ADD DEFAULT TO ex:y",
            "DELETE DATA { <a:a> <a:b> ' WHERE { ' }",
            "",
        ] {
            assert_eq!(inserted(text), text);
        }
    }

    #[test]
    fn a_graph_that_is_no_iri_is_refused() {
        let graphs = UsingGraphs {
            default: vec!["a> WHERE {} ; DROP ALL ; #".into()],
            named: Vec::new(),
        };
        assert!(insert("DELETE WHERE { ?s ?p ?o }", &graphs).is_err());
    }
}
