//! The generated data as a reader sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use oxrdfio::{RdfFormat, RdfParser};
use quadraft_tests::generator::{DataSet, QueryMix, Scale};
use sha2::{Digest as _, Sha256};

const TYPE: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type";
const BSBM: &str = "http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/";
const REVIEW: &str = "http://purl.org/stuff/rev#Review";

fn data_set(scale: Scale) -> DataSet {
    DataSet {
        scale,
        seed: 1,
        named_graphs: false,
    }
}

fn text_of(data_set: &DataSet) -> (String, u64) {
    let mut bytes = Vec::new();
    let quads = data_set.stream().write_to(&mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), quads)
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut digest, byte| {
            write!(digest, "{byte:02x}").unwrap();
            digest
        })
}

fn classes(text: &str) -> HashMap<String, usize> {
    let mut classes = HashMap::new();
    for quad in RdfParser::from_format(RdfFormat::NQuads).for_slice(text) {
        let quad = quad.unwrap();
        if quad.predicate.as_str() == TYPE {
            *classes
                .entry(quad.object.to_string().replace(['<', '>'], ""))
                .or_insert(0) += 1;
        }
    }
    classes
}

#[test]
fn the_bytes_of_a_seed_never_change() {
    let digests: Vec<String> = [
        data_set(Scale::Products(30)),
        DataSet {
            named_graphs: true,
            ..data_set(Scale::Products(30))
        },
        DataSet {
            seed: 2,
            ..data_set(Scale::Quads(10_000))
        },
    ]
    .iter()
    .map(|data_set| digest(&text_of(data_set).0))
    .collect();
    assert_eq!(
        digests,
        [
            "4f15efbdb992a2747cfefade29c4c3598769caef362e2fa7b68d83af47594115",
            "bc84d6a123e30a6d055296f4e30b242b23b014147867a8d559f3d96a609a2736",
            "0dfb28135f40fd7cfcffad01757f61b569907d809313d1cb8ee977c6d97d23c1",
        ]
    );
}

#[test]
fn different_seeds_give_different_data() {
    let other = DataSet {
        seed: 2,
        ..data_set(Scale::Products(30))
    };
    assert_ne!(text_of(&other).0, text_of(&data_set(Scale::Products(30))).0);
}

#[test]
fn every_line_is_a_statement_of_its_own() {
    for named_graphs in [false, true] {
        let data_set = DataSet {
            named_graphs,
            ..data_set(Scale::Products(120))
        };
        let (text, quads) = text_of(&data_set);
        let mut seen = HashSet::new();
        for quad in RdfParser::from_format(RdfFormat::NQuads).for_slice(&text) {
            let quad = quad.unwrap();
            assert_eq!(quad.graph_name.is_default_graph(), !named_graphs);
            assert!(!quad.subject.is_blank_node() && !quad.object.is_blank_node());
            assert!(seen.insert(quad));
        }
        assert_eq!(seen.len() as u64, quads);
        assert_eq!(text.lines().count() as u64, quads);
    }
}

#[test]
fn entities_occur_in_the_proportions_of_the_benchmark() {
    let (text, quads) = text_of(&data_set(Scale::Products(200)));
    let classes = classes(&text);
    let count = |name: &str| classes.get(&format!("{BSBM}{name}")).copied().unwrap_or(0);
    assert_eq!(count("Product"), 200);
    assert_eq!(count("Offer"), 4_000);
    assert_eq!(classes.get(REVIEW), Some(&2_000));
    assert_eq!(count("ProductType"), 1 + 4 + 32);
    assert!(
        (3..=6).contains(&count("Producer")),
        "{}",
        count("Producer")
    );
    assert!((2..=3).contains(&count("Vendor")), "{}", count("Vendor"));
    assert!((340..=420).contains(&(quads / 200)), "{quads}");
}

#[test]
fn everything_that_is_pointed_to_is_described() {
    let (text, _) = text_of(&data_set(Scale::Products(60)));
    let mut subjects = HashSet::new();
    let mut targets = HashSet::new();
    for quad in RdfParser::from_format(RdfFormat::NQuads).for_slice(&text) {
        let quad = quad.unwrap();
        subjects.insert(quad.subject.to_string());
        let object = quad.object.to_string();
        // Publishers of the benchmark are partly not described: rating sites and the institution.
        if object.contains("/bsbm/v01/instances/")
            && !quad.predicate.as_str().ends_with("publisher")
        {
            targets.insert(object);
        }
    }
    let missing: Vec<&String> = targets.difference(&subjects).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_number_of_quads_is_met_exactly_at_every_scale() {
    for wanted in [0, 1, 50, 1_000, 4_999, 60_000, 250_000] {
        let (text, quads) = text_of(&data_set(Scale::Quads(wanted)));
        assert_eq!(quads, wanted);
        assert_eq!(text.lines().count() as u64, wanted);
    }
}

#[test]
fn a_number_of_quads_holds_the_usual_share_of_reviews() {
    let data_set = data_set(Scale::Quads(100_000));
    let (text, _) = text_of(&data_set);
    let reviews = classes(&text).get(REVIEW).copied().unwrap_or(0) as u64;
    let per_product = reviews as f64 / data_set.products() as f64;
    assert!((9.0..=13.0).contains(&per_product), "{per_product}");
}

#[test]
fn queries_are_valid_and_the_same_for_the_same_seed() {
    let data_set = data_set(Scale::Products(100));
    let queries: Vec<_> = data_set.queries(7).take(4 * QueryMix::LENGTH).collect();
    for query in &queries {
        spargebra::SparqlParser::new()
            .parse_query(&query.text)
            .unwrap_or_else(|error| panic!("kind {}: {error}\n{}", query.kind, query.text));
    }
    let kinds: HashSet<u8> = queries.iter().map(|query| query.kind).collect();
    assert_eq!(kinds, (1..=12).collect());
    let again: Vec<_> = data_set.queries(7).take(queries.len()).collect();
    assert_eq!(again, queries);
    assert_ne!(data_set.queries(8).next(), data_set.queries(7).next());
}

#[test]
fn queries_ask_for_what_the_data_hold() {
    let data_set = data_set(Scale::Products(40));
    let (text, _) = text_of(&data_set);
    for query in data_set.queries(3).take(8 * QueryMix::LENGTH) {
        for part in query.text.split('<').skip(1) {
            let iri = part.split('>').next().unwrap();
            if iri.contains("/bsbm/v01/instances/") {
                assert!(
                    text.contains(&format!("<{iri}>")),
                    "{iri} in {}",
                    query.text
                );
            }
        }
    }
}
