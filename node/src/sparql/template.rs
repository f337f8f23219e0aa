//! Templates and data blocks to ground quads.

use std::collections::HashMap;

use oxigraph::sparql::QuerySolution;
use oxrdf::{BlankNode, GraphName, NamedNode, NamedOrBlankNode, Quad, Term, Variable};
use spargebra::term::{
    GraphName as UpdateGraphName, GraphNamePattern, GroundQuad, GroundQuadPattern, GroundTerm,
    GroundTermPattern, NamedNodePattern, Quad as UpdateQuad, QuadPattern, TermPattern,
};

/// Fresh names for the blank nodes of one solution, document or data block.
#[derive(Debug, Default)]
pub(super) struct FreshBlankNodes(HashMap<BlankNode, BlankNode>);

impl FreshBlankNodes {
    fn rename(&mut self, node: &BlankNode) -> BlankNode {
        // A random number of 128 bits.
        self.0.entry(node.clone()).or_default().clone()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A quad of INSERT DATA.
pub(super) fn inserted_quad(quad: UpdateQuad, fresh: &mut FreshBlankNodes) -> Quad {
    Quad {
        subject: match quad.subject {
            NamedOrBlankNode::BlankNode(node) => fresh.rename(&node).into(),
            node @ NamedOrBlankNode::NamedNode(_) => node,
        },
        predicate: quad.predicate,
        object: match quad.object {
            Term::BlankNode(node) => fresh.rename(&node).into(),
            term => term,
        },
        graph_name: graph_name(quad.graph_name),
    }
}

/// A quad of DELETE DATA.
pub(super) fn deleted_quad(quad: GroundQuad) -> Quad {
    Quad {
        subject: quad.subject.into(),
        predicate: quad.predicate,
        object: match quad.object {
            GroundTerm::NamedNode(node) => node.into(),
            GroundTerm::Literal(literal) => literal.into(),
        },
        graph_name: graph_name(quad.graph_name),
    }
}

pub(super) fn graph_name(name: UpdateGraphName) -> GraphName {
    match name {
        UpdateGraphName::NamedNode(node) => node.into(),
        UpdateGraphName::DefaultGraph => GraphName::DefaultGraph,
    }
}

/// The quad that a DELETE template means for a solution, if it means one: variables that are
/// unbound or bound to something that cannot stand in their place mean none.
pub(super) fn delete_from(template: &GroundQuadPattern, solution: &QuerySolution) -> Option<Quad> {
    let bound = |pattern: &GroundTermPattern| match pattern {
        GroundTermPattern::NamedNode(node) => Some(Term::from(node.clone())),
        GroundTermPattern::Literal(literal) => Some(literal.clone().into()),
        GroundTermPattern::Variable(variable) => solution.get(variable).cloned(),
    };
    Some(Quad {
        subject: as_subject(bound(&template.subject)?)?,
        predicate: predicate(&template.predicate, solution)?,
        object: bound(&template.object)?,
        graph_name: graph(&template.graph_name, solution)?,
    })
}

/// The quad that an INSERT template means for a solution, if it means one.
pub(super) fn insert_from(
    template: &QuadPattern,
    solution: &QuerySolution,
    fresh: &mut FreshBlankNodes,
) -> Option<Quad> {
    let mut bound = |pattern: &TermPattern| match pattern {
        TermPattern::NamedNode(node) => Some(Term::from(node.clone())),
        TermPattern::BlankNode(node) => Some(fresh.rename(node).into()),
        TermPattern::Literal(literal) => Some(literal.clone().into()),
        TermPattern::Variable(variable) => solution.get(variable).cloned(),
    };
    Some(Quad {
        subject: as_subject(bound(&template.subject)?)?,
        object: bound(&template.object)?,
        predicate: predicate(&template.predicate, solution)?,
        graph_name: graph(&template.graph_name, solution)?,
    })
}

fn as_subject(term: Term) -> Option<NamedOrBlankNode> {
    match term {
        Term::NamedNode(node) => Some(node.into()),
        Term::BlankNode(node) => Some(node.into()),
        Term::Literal(_) => None,
    }
}

fn predicate(pattern: &NamedNodePattern, solution: &QuerySolution) -> Option<NamedNode> {
    match pattern {
        NamedNodePattern::NamedNode(node) => Some(node.clone()),
        NamedNodePattern::Variable(variable) => match solution.get(variable)? {
            Term::NamedNode(node) => Some(node.clone()),
            Term::BlankNode(_) | Term::Literal(_) => None,
        },
    }
}

fn graph(pattern: &GraphNamePattern, solution: &QuerySolution) -> Option<GraphName> {
    match pattern {
        GraphNamePattern::NamedNode(node) => Some(node.clone().into()),
        GraphNamePattern::DefaultGraph => Some(GraphName::DefaultGraph),
        GraphNamePattern::Variable(variable) => {
            as_subject(solution.get(variable)?.clone()).map(Into::into)
        }
    }
}

/// The variables that templates use, each once.
pub(super) fn variables(delete: &[GroundQuadPattern], insert: &[QuadPattern]) -> Vec<Variable> {
    let mut variables = Vec::new();
    let mut add = |variable: &Variable| {
        if !variables.contains(variable) {
            variables.push(variable.clone());
        }
    };
    for template in delete {
        for term in [&template.subject, &template.object] {
            if let GroundTermPattern::Variable(variable) = term {
                add(variable);
            }
        }
        if let NamedNodePattern::Variable(variable) = &template.predicate {
            add(variable);
        }
        if let GraphNamePattern::Variable(variable) = &template.graph_name {
            add(variable);
        }
    }
    for template in insert {
        for term in [&template.subject, &template.object] {
            if let TermPattern::Variable(variable) = term {
                add(variable);
            }
        }
        if let NamedNodePattern::Variable(variable) = &template.predicate {
            add(variable);
        }
        if let GraphNamePattern::Variable(variable) = &template.graph_name {
            add(variable);
        }
    }
    variables
}

/// Whether a template makes blank nodes, so that every solution means other quads.
pub(super) fn makes_blank_nodes(insert: &[QuadPattern]) -> bool {
    insert.iter().any(|template| {
        [&template.subject, &template.object]
            .into_iter()
            .any(|term| matches!(term, TermPattern::BlankNode(_)))
    })
}
