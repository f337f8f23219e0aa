//! Generators for the tests of this folder.

#![allow(clippy::unwrap_used)]

use oxrdf::{BlankNode, GraphName, Literal, NamedNode, NamedOrBlankNode, Quad, Term};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Command, Effects, RequestId};

pub(crate) fn example(name: &str) -> NamedNode {
    NamedNode::new(format!("http://example.com/{name}")).unwrap()
}

pub(crate) fn any_node() -> impl Strategy<Value = NamedNode> {
    (0..4_u8).prop_map(|number| example(&format!("n{number}")))
}

pub(crate) fn any_blank_node() -> impl Strategy<Value = BlankNode> {
    prop_oneof![
        (0..3_u128).prop_map(BlankNode::new_from_unique_id),
        any::<u128>().prop_map(BlankNode::new_from_unique_id),
        "[a-z][a-z0-9]{0,20}".prop_map(|id| BlankNode::new(id).unwrap()),
    ]
}

pub(crate) fn any_subject() -> impl Strategy<Value = NamedOrBlankNode> {
    prop_oneof![
        4 => any_node().prop_map(Into::into),
        1 => any_blank_node().prop_map(Into::into),
    ]
}

pub(crate) fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        "\\PC{0,24}".prop_map(Literal::new_simple_literal),
        (
            "\\PC{0,4}",
            proptest::sample::select(&["en", "de-at", "zh-hans-cn"][..])
        )
            .prop_map(|(value, language)| {
                Literal::new_language_tagged_literal(value, language).unwrap()
            }),
        (-3..3_i64).prop_map(Literal::from),
        (0..3_u8).prop_map(|number| Literal::new_typed_literal(
            format!("0{number}"),
            oxrdf::vocab::xsd::INTEGER
        )),
        ("[a-z]{0,20}", any_node())
            .prop_map(|(value, datatype)| Literal::new_typed_literal(value, datatype)),
    ]
}

pub(crate) fn any_term() -> impl Strategy<Value = Term> {
    prop_oneof![
        any_node().prop_map(Into::into),
        any_blank_node().prop_map(Into::into),
        any_literal().prop_map(Into::into),
    ]
}

pub(crate) fn any_graph_name() -> impl Strategy<Value = GraphName> {
    prop_oneof![
        Just(GraphName::DefaultGraph),
        any_graph().prop_map(Into::into),
    ]
}

pub(crate) fn any_graph() -> impl Strategy<Value = NamedOrBlankNode> {
    prop_oneof![
        4 => (0..3_u8).prop_map(|number| example(&format!("g{number}")).into()),
        1 => (0..2_u128).prop_map(|number| BlankNode::new_from_unique_id(number).into()),
    ]
}

pub(crate) fn any_quad() -> impl Strategy<Value = Quad> {
    (any_subject(), any_node(), any_term(), any_graph_name()).prop_map(
        |(subject, predicate, object, graph)| Quad::new(subject, predicate, object, graph),
    )
}

/// Quads of which there are few, so that inserts and deletes meet.
pub(crate) fn common_quad() -> impl Strategy<Value = Quad> {
    let graph = prop_oneof![
        Just(GraphName::DefaultGraph),
        (0..2_u8).prop_map(|number| example(&format!("g{number}")).into()),
    ];
    let object = prop_oneof![
        (0..2_u8).prop_map(|number| Term::from(example(&format!("n{number}")))),
        Just(Literal::from(1).into()),
        Just(Literal::new_typed_literal("01", oxrdf::vocab::xsd::INTEGER).into()),
    ];
    (0..2_u8, object, graph).prop_map(|(subject, object, graph)| {
        Quad::new(example(&format!("n{subject}")), example("p"), object, graph)
    })
}

pub(crate) fn effects_of(quad: impl Strategy<Value = Quad>) -> impl Strategy<Value = Effects> {
    let quads = vec(quad, 0..24).prop_map(|mut quads| {
        let inserts = quads.split_off(quads.len() / 3);
        (quads, inserts)
    });
    (
        quads,
        prop_oneof![3 => Just(Vec::new()), 1 => vec(any_graph_name(), 0..3)],
        prop_oneof![3 => Just(Vec::new()), 1 => vec(any_graph(), 0..3)],
    )
        .prop_map(
            |((deletes, inserts), dropped_graphs, created_graphs)| Effects {
                deletes,
                dropped_graphs,
                created_graphs,
                inserts,
            },
        )
}

pub(crate) fn any_effects() -> impl Strategy<Value = Effects> {
    prop_oneof![effects_of(any_quad()), effects_of(common_quad())]
}

pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    (
        any::<u64>(),
        vec((any::<[u8; 16]>().prop_map(RequestId), any_effects()), 0..4),
    )
        .prop_map(|(base_index, requests)| Command {
            base_index,
            requests,
        })
}
