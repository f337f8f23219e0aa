//! From the text of a query to an algebra that may be evaluated.

use oxigraph::sparql::SparqlSyntaxError;
use oxrdf::NamedNode;
use spargebra::algebra::QueryDataset;
use spargebra::{Query, SparqlParser};

use super::QueryError;
use crate::sparql::{complexity, reserved};

/// A query as the protocol carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryText {
    /// The query itself.
    pub text: String,
    /// Against which relative IRIs are resolved.
    pub base_iri: Option<String>,
    /// The protocol's `default-graph-uri`.
    pub default_graphs: Vec<String>,
    /// The protocol's `named-graph-uri`.
    pub named_graphs: Vec<String>,
}

impl QueryText {
    /// A query without anything beside its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// Parses a query, applies the protocol's dataset to it and hides the reserved graph from it.
///
/// Recurses: needs a stack of some size, see `STACK_BYTES` in the module that evaluates.
pub(super) fn parse(query: &QueryText, maximum_text_bytes: usize) -> Result<Query, QueryError> {
    complexity::check_query_text(&query.text, maximum_text_bytes)?;
    let mut parser = SparqlParser::new();
    if let Some(base_iri) = &query.base_iri {
        parser = parser
            .with_base_iri(base_iri)
            .map_err(|error| QueryError::malformed(format!("the base IRI is invalid: {error}")))?;
    }
    let mut parsed = parser
        .parse_query(&query.text)
        .map_err(|error| syntax(&error))?;
    complexity::check_query(&parsed)?;
    if !query.default_graphs.is_empty() || !query.named_graphs.is_empty() {
        // What the protocol says goes before FROM and FROM NAMED.
        let given = QueryDataset {
            default: graphs(&query.default_graphs)?,
            named: Some(graphs(&query.named_graphs)?),
        };
        match &mut parsed {
            Query::Select { dataset, .. }
            | Query::Construct { dataset, .. }
            | Query::Describe { dataset, .. }
            | Query::Ask { dataset, .. } => *dataset = Some(given),
        }
    }
    reserved::hide_in_query(&mut parsed)?;
    Ok(parsed)
}

fn graphs(iris: &[String]) -> Result<Vec<NamedNode>, QueryError> {
    iris.iter()
        .map(|iri| {
            NamedNode::new(iri.as_str()).map_err(|error| {
                QueryError::malformed(format!("the graph {iri:?} has no valid IRI: {error}"))
            })
        })
        .collect()
}

fn syntax(error: &SparqlSyntaxError) -> QueryError {
    let message = error.to_string();
    let (line, column) = place_of(&message).unzip();
    QueryError::Malformed {
        message,
        line,
        column,
    }
}

/// The parser tells the place of an error in its message only: "error at 3:14: …".
fn place_of(message: &str) -> Option<(u64, u64)> {
    let mut parts = message.strip_prefix("error at ")?.splitn(3, ':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sparql::reserved::{RESERVED_GRAPH, Refused};

    fn parsed(query: &QueryText) -> Result<Query, QueryError> {
        parse(query, 1 << 20)
    }

    #[test]
    fn a_syntax_error_names_its_line_and_column() {
        let error = parsed(&QueryText::new("SELECT *\nWHERE { ?s ?p }")).unwrap_err();
        let QueryError::Malformed { line, column, .. } = error else {
            unreachable!("{error:?}")
        };
        assert_eq!((line, column), (Some(2), Some(16)));
    }

    #[test]
    fn the_dataset_of_the_protocol_goes_before_that_of_the_text() {
        let query = parsed(&QueryText {
            default_graphs: vec!["http://example.com/a".into()],
            ..QueryText::new("SELECT * FROM <http://example.com/b> { ?s ?p ?o }")
        })
        .unwrap();
        let dataset = query.dataset().unwrap();
        assert_eq!(dataset.default[0].as_str(), "http://example.com/a");
        assert_eq!(dataset.named, Some(Vec::new()));
    }

    #[test]
    fn the_dataset_of_the_protocol_cannot_name_the_reserved_graph() {
        for (default_graphs, named_graphs) in [
            (vec![RESERVED_GRAPH.to_owned()], vec![]),
            (vec![], vec![RESERVED_GRAPH.to_owned()]),
        ] {
            let query = QueryText {
                default_graphs,
                named_graphs,
                ..QueryText::new("ASK {}")
            };
            assert_eq!(
                parsed(&query),
                Err(QueryError::Refused(Refused::ReservedGraph))
            );
        }
    }

    #[test]
    fn relative_iris_need_a_valid_base() {
        let relative = QueryText::new("ASK { <a> <b> <c> }");
        assert!(matches!(
            parsed(&relative),
            Err(QueryError::Malformed { .. })
        ));
        let based = |base: &str| QueryText {
            base_iri: Some(base.into()),
            ..relative.clone()
        };
        assert!(parsed(&based("http://example.com/")).is_ok());
        assert!(matches!(
            parsed(&based("not an iri")),
            Err(QueryError::Malformed { .. })
        ));
    }

    #[test]
    fn a_graph_that_is_no_iri_is_refused() {
        let query = QueryText {
            named_graphs: vec!["relative".into()],
            ..QueryText::new("ASK {}")
        };
        assert!(matches!(parsed(&query), Err(QueryError::Malformed { .. })));
    }
}
