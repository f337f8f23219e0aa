//! ASK and CONSTRUCT: from solutions to an answer.
//!
//! Oxigraph leaves out a triple when one of its terms cannot be read, and looks for a solution behind
//! an error, which a failed iterator yields for ever. So both are evaluated as a SELECT, where an
//! error is an error, and what they ask for is made of its solutions here.

use std::collections::HashSet;
use std::mem;

use oxigraph::sparql::QuerySolution;
use oxrdf::{Triple, Variable};
use spargebra::Query;
use spargebra::algebra::GraphPattern;
use spargebra::term::{GraphNamePattern, QuadPattern, TriplePattern};

use crate::sparql::template::{FreshBlankNodes, insert_from, variables};

/// The most triples that are remembered as written.
const REMEMBERED_TRIPLES: usize = 1 << 20;

/// What a query asks for.
#[derive(Debug)]
pub(super) enum Form {
    /// The solutions, or a description.
    AsEvaluated,
    /// Whether there is a solution.
    Boolean,
    /// Triples made of the solutions.
    Triples(Template),
}

impl Form {
    /// Takes from a query what it asks for, and leaves one whose solutions tell it.
    pub(super) fn take(query: &mut Query) -> Self {
        let (form, dataset, pattern, base_iri) = match query {
            Query::Select { .. } | Query::Describe { .. } => return Self::AsEvaluated,
            Query::Ask {
                dataset,
                pattern,
                base_iri,
            } => {
                let first = GraphPattern::Slice {
                    inner: Box::new(project(mem::take(pattern), Vec::new())),
                    start: 0,
                    length: Some(1),
                };
                (Self::Boolean, dataset, first, base_iri)
            }
            Query::Construct {
                template,
                dataset,
                pattern,
                base_iri,
            } => {
                let template = Template::of(mem::take(template));
                let needed = project(mem::take(pattern), variables(&[], &template.0));
                (Self::Triples(template), dataset, needed, base_iri)
            }
        };
        *query = Query::Select {
            dataset: dataset.take(),
            pattern,
            base_iri: base_iri.take(),
        };
        form
    }
}

fn project(inner: GraphPattern, variables: Vec<Variable>) -> GraphPattern {
    GraphPattern::Project {
        inner: Box::new(inner),
        variables,
    }
}

/// The template of a CONSTRUCT.
#[derive(Debug)]
pub(super) struct Template(Vec<QuadPattern>);

impl Template {
    fn of(triples: Vec<TriplePattern>) -> Self {
        let quads = triples.into_iter().map(|triple| QuadPattern {
            subject: triple.subject,
            predicate: triple.predicate,
            object: triple.object,
            graph_name: GraphNamePattern::DefaultGraph,
        });
        Self(quads.collect())
    }

    /// The triples that a solution means. Blank nodes of the template are new ones each time.
    pub(super) fn fill_in(&self, solution: &QuerySolution) -> Vec<Triple> {
        let mut fresh = FreshBlankNodes::default();
        self.0
            .iter()
            .filter_map(|pattern| insert_from(pattern, solution, &mut fresh))
            .map(Triple::from)
            .collect()
    }
}

/// The triples that were written before, as far as they are remembered: a graph has each once.
#[derive(Debug, Default)]
pub(super) struct Written(HashSet<Triple>);

impl Written {
    /// Whether a triple is to be written.
    pub(super) fn is_new(&mut self, triple: &Triple) -> bool {
        if self.0.len() >= REMEMBERED_TRIPLES {
            self.0.clear();
        }
        self.0.insert(triple.clone())
    }
}
