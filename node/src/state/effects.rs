//! What one log entry changes: ground quads, nothing to evaluate.

use oxrdf::{GraphName, NamedNode, NamedNodeRef, NamedOrBlankNode, Quad};

use super::RequestId;

/// The graph in which the store keeps its own records. No client can read or write it.
pub const RESERVED_GRAPH: &str = "urn:quadraft:reserved";

/// The reserved graph as a term.
pub(crate) const RESERVED: NamedNodeRef<'static> = NamedNodeRef::new_unchecked(RESERVED_GRAPH);

/// The net changes of one request, in the order in which they are applied: `deletes`,
/// `dropped_graphs`, `created_graphs`, `inserts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Quads that go, except those that go with a dropped graph.
    pub deletes: Vec<Quad>,
    /// Graphs that lose all their quads and, if they are named, their existence.
    pub dropped_graphs: Vec<GraphName>,
    /// Named graphs that exist afterwards even if no quad is in them.
    pub created_graphs: Vec<NamedOrBlankNode>,
    /// Quads that come; their graphs exist afterwards.
    pub inserts: Vec<Quad>,
}

impl Effects {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty()
            && self.dropped_graphs.is_empty()
            && self.created_graphs.is_empty()
            && self.inserts.is_empty()
    }

    /// Whether the reserved graph would be changed: no honest leader proposes that.
    pub(crate) fn touch_reserved_graph(&self) -> bool {
        self.deletes
            .iter()
            .chain(&self.inserts)
            .map(|quad| &quad.graph_name)
            .chain(&self.dropped_graphs)
            .any(is_reserved)
            || self.created_graphs.iter().any(
                |name| matches!(name, NamedOrBlankNode::NamedNode(node) if is_reserved_node(node)),
            )
    }
}

/// Whether this is the reserved graph.
pub(crate) fn is_reserved(name: &GraphName) -> bool {
    matches!(name, GraphName::NamedNode(node) if is_reserved_node(node))
}

/// Whether this node names the reserved graph.
pub(crate) fn is_reserved_node(node: &NamedNode) -> bool {
    node.as_str() == RESERVED_GRAPH
}

/// The content of one log entry: the effects of a group of requests, evaluated one after the
/// other on the state that the entry `base_index` left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The index of the last entry that had changed data when the group was evaluated, 0 for none.
    pub base_index: u64,
    /// The requests in the order in which they were evaluated.
    pub requests: Vec<(RequestId, Effects)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_on_the_reserved_graph_are_noticed_wherever_they_are() {
        let node = NamedNode::new_unchecked("http://example.com/a");
        let reserved = RESERVED.into_owned();
        let quad = Quad::new(node.clone(), node.clone(), node.clone(), reserved.clone());
        let harmless = Quad::new(reserved.clone(), reserved.clone(), reserved.clone(), node);
        let effects = Effects {
            inserts: vec![harmless],
            ..Effects::default()
        };
        assert!(!effects.touch_reserved_graph());
        for effects in [
            Effects {
                deletes: vec![quad.clone()],
                ..Effects::default()
            },
            Effects {
                inserts: vec![quad],
                ..Effects::default()
            },
            Effects {
                dropped_graphs: vec![reserved.clone().into()],
                ..Effects::default()
            },
            Effects {
                created_graphs: vec![reserved.into()],
                ..Effects::default()
            },
        ] {
            assert!(effects.touch_reserved_graph());
        }
    }
}
