//! Uploads of RDF documents and deletions of whole graphs.

use oxrdf::{GraphName, NamedNode};
use oxrdfio::{RdfFormat, RdfParseError, RdfParser};

use super::budget::Budget;
use super::workspace::Workspace;
use super::{Target, WriteError, reserved};
use crate::state::named;

/// An RDF document and where it goes.
pub(super) struct Document<'a> {
    pub(super) target: &'a Target,
    pub(super) media_type: &'a str,
    pub(super) base_iri: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// One graph, or `None` for all.
fn graph(target: &Target) -> Result<Option<GraphName>, WriteError> {
    match target {
        Target::Dataset => Ok(None),
        Target::DefaultGraph => Ok(Some(GraphName::DefaultGraph)),
        Target::NamedGraph(iri) => {
            let node = NamedNode::new(iri.as_str()).map_err(|error| {
                WriteError::malformed(format!("the graph {iri} has no valid IRI: {error}"))
            })?;
            reserved::check_graph(&node)?;
            Ok(Some(node.into()))
        }
    }
}

/// Adds the statements of a document; its graph exists afterwards even if it has none. Tells
/// whether it is a named graph that did not exist before.
pub(super) fn add(
    document: &Document<'_>,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<bool, WriteError> {
    let graph = graph(document.target)?;
    let is_new = is_new(graph.as_ref(), workspace)?;
    fill(document, graph.as_ref(), workspace, budget)?;
    Ok(is_new)
}

fn is_new(graph: Option<&GraphName>, workspace: &Workspace<'_>) -> Result<bool, WriteError> {
    match graph.and_then(named) {
        Some(name) => Ok(!workspace.graph_exists(&name)?),
        None => Ok(false),
    }
}

fn fill(
    document: &Document<'_>,
    graph: Option<&GraphName>,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<(), WriteError> {
    let parser = parser(document, graph)?;
    if let Some(name) = graph.and_then(named) {
        workspace.create_graph(name)?;
    }
    for quad in parser.for_slice(document.body) {
        let quad = quad.map_err(|error| syntax(error.into()))?;
        workspace.insert(quad, budget)?;
    }
    budget.look()
}

/// Replaces the statements of a graph, or all, by those of a document. Tells the same as [`add`].
pub(super) fn replace(
    document: &Document<'_>,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<bool, WriteError> {
    let graph = graph(document.target)?;
    // The media type is checked before the old statements are looked through.
    let _usable = parser(document, graph.as_ref())?;
    let is_new = is_new(graph.as_ref(), workspace)?;
    remove(graph.clone(), workspace, budget)?;
    fill(document, graph.as_ref(), workspace, budget)?;
    Ok(is_new)
}

/// Deletes a graph, which must exist, or everything.
pub(super) fn delete(
    target: &Target,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<(), WriteError> {
    let graph = graph(target)?;
    if let Some(name) = graph.as_ref().and_then(named)
        && !workspace.graph_exists(&name)?
    {
        return Err(WriteError::UnknownGraph {
            graph: name.to_string(),
        });
    }
    remove(graph, workspace, budget)
}

fn remove(
    graph: Option<GraphName>,
    workspace: &mut Workspace<'_>,
    budget: &mut Budget,
) -> Result<(), WriteError> {
    let graphs = match graph {
        Some(graph) => vec![graph],
        None => workspace
            .named_graphs()?
            .into_iter()
            .map(GraphName::from)
            .chain([GraphName::DefaultGraph])
            .collect(),
    };
    for graph in graphs {
        workspace.drop_graph(&graph, budget)?;
    }
    Ok(())
}

fn parser(document: &Document<'_>, graph: Option<&GraphName>) -> Result<RdfParser, WriteError> {
    let media_type = document.media_type;
    let unsupported = |message: String| WriteError::UnsupportedMediaType { message };
    let format = RdfFormat::from_media_type(media_type)
        .ok_or_else(|| unsupported(format!("the media type {media_type} is not known")))?;
    let mut parser = RdfParser::from_format(format).rename_blank_nodes();
    if let Some(graph) = graph {
        if matches!(format, RdfFormat::NQuads | RdfFormat::TriG) {
            return Err(unsupported(format!(
                "a document of the media type {media_type} has graphs of its own and cannot go into one graph"
            )));
        }
        // JSON-LD serves for both: it is an error only if the document does name a graph.
        parser = parser
            .without_named_graphs()
            .with_default_graph(graph.clone());
    }
    if let Some(base_iri) = document.base_iri {
        parser = parser
            .with_base_iri(base_iri)
            .map_err(|error| WriteError::malformed(format!("the base IRI is invalid: {error}")))?;
    }
    Ok(parser)
}

fn syntax(error: RdfParseError) -> WriteError {
    match error {
        RdfParseError::Syntax(error) => {
            let place = error.location().map(|range| range.start);
            WriteError::Malformed {
                message: error.to_string(),
                line: place.as_ref().map(|place| place.line + 1),
                column: place.as_ref().map(|place| place.column + 1),
            }
        }
        RdfParseError::Io(error) => WriteError::malformed(error.to_string()),
    }
}
