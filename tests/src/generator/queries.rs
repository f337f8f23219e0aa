//! Queries of somebody who looks for a product, after the published description of the benchmark's
//! explore use case: twelve kinds of queries, in a mix that begins with a search and ends with an
//! offer.
//!
//! Parameters come from the data: a search for features uses features that some product has, so
//! that answers are not empty by accident. The queries ask the default graph.

use super::catalogue::Catalogue;
use super::dates::TODAY;
use super::market::{Market, ProductFacts};
use super::opinions::Opinions;
use super::sequence::{Purpose, Sequence};
use super::vocabulary::{PREFIXES, country, feature, product_type};
use super::{DataSet, words};

/// A SPARQL query and the kind it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The number of the kind in the benchmark's description, 1 to 12.
    pub kind: u8,
    /// What it asks, in a few words.
    pub name: &'static str,
    pub text: String,
}

/// The kinds of one mix, in order: 25 queries.
const MIX: [u8; 25] = [
    1, 2, 2, 3, 2, 2, 4, 2, 2, 5, 7, 7, 6, 7, 7, 8, 9, 9, 8, 9, 9, 10, 10, 11, 12,
];

/// An endless sequence of queries about a data set: mix after mix, each with parameters of its own.
#[derive(Debug)]
pub struct QueryMix {
    catalogue: Catalogue,
    market: Market,
    opinions: Opinions,
    seed: u64,
    asked: u64,
}

impl QueryMix {
    pub(super) fn new(data_set: &DataSet, seed: u64) -> Self {
        let (catalogue, market, opinions) = data_set.parts();
        Self {
            catalogue,
            market,
            opinions,
            // Queries of equal seed about different data are as different as the data.
            seed: seed ^ data_set.seed.rotate_left(32),
            asked: 0,
        }
    }

    /// How many queries make one mix.
    pub const LENGTH: usize = MIX.len();

    fn product(&self, sequence: &mut Sequence) -> (String, ProductFacts) {
        let number = sequence.below(self.market.products());
        let facts = self.market.product_facts(&self.catalogue, number);
        (self.market.product_iri(number), facts)
    }

    fn query(&self, kind: u8, sequence: &mut Sequence) -> Query {
        let (name, body) = match kind {
            1 => ("products with two features", self.by_features(sequence)),
            2 => ("one product for display", self.display(sequence)),
            3 => (
                "products with one feature and without another",
                self.without_feature(sequence),
            ),
            4 => (
                "products with either of two sets of features",
                self.either_set(sequence),
            ),
            5 => ("products similar to one", self.similar(sequence)),
            6 => (
                "products with a word in their label",
                word_in_label(sequence),
            ),
            7 => (
                "one product with its offers and reviews",
                self.in_depth(sequence),
            ),
            8 => (
                "latest English reviews of a product",
                self.latest_reviews(sequence),
            ),
            9 => ("the author of a review", self.author(sequence)),
            10 => ("cheap offers that arrive soon", self.cheap_offers(sequence)),
            11 => ("everything about an offer", self.about_offer(sequence)),
            _ => (
                "an offer in another vocabulary",
                self.export_offer(sequence),
            ),
        };
        Query {
            kind,
            name,
            text: format!("{PREFIXES}\n{body}"),
        }
    }

    fn by_features(&self, sequence: &mut Sequence) -> String {
        let (_, facts) = self.product(sequence);
        let [first, second] = two_features(&facts, sequence);
        let kind = product_type(facts.leaf_type);
        let least = below(facts.numeric[0], sequence);
        format!(
            "SELECT DISTINCT ?product ?label
WHERE {{
  ?product a <{kind}> ;
    rdfs:label ?label ;
    bsbm:productFeature <{first}>, <{second}> ;
    bsbm:productPropertyNumeric1 ?size .
  FILTER (?size > {least})
}}
ORDER BY ?label
LIMIT 10
"
        )
    }

    fn display(&self, sequence: &mut Sequence) -> String {
        let (product, _) = self.product(sequence);
        format!(
            "SELECT ?label ?comment ?producerLabel ?featureLabel
  ?textual1 ?textual2 ?textual3 ?textual4 ?textual5 ?numeric1 ?numeric2 ?numeric4
WHERE {{
  BIND (<{product}> AS ?product)
  ?product rdfs:label ?label ;
    rdfs:comment ?comment ;
    bsbm:producer ?producer ;
    dc:publisher ?producer ;
    bsbm:productFeature ?feature ;
    bsbm:productPropertyTextual1 ?textual1 ;
    bsbm:productPropertyTextual2 ?textual2 ;
    bsbm:productPropertyTextual3 ?textual3 ;
    bsbm:productPropertyNumeric1 ?numeric1 ;
    bsbm:productPropertyNumeric2 ?numeric2 .
  ?producer rdfs:label ?producerLabel .
  ?feature rdfs:label ?featureLabel .
  OPTIONAL {{ ?product bsbm:productPropertyTextual4 ?textual4 }}
  OPTIONAL {{ ?product bsbm:productPropertyTextual5 ?textual5 }}
  OPTIONAL {{ ?product bsbm:productPropertyNumeric4 ?numeric4 }}
}}
"
        )
    }

    fn without_feature(&self, sequence: &mut Sequence) -> String {
        let (_, facts) = self.product(sequence);
        let [wanted, _] = two_features(&facts, sequence);
        let unwanted = feature(sequence.below(self.catalogue.features()));
        let kind = product_type(facts.leaf_type);
        let least = below(facts.numeric[0], sequence);
        let most = above(facts.numeric[2], sequence);
        format!(
            "SELECT ?product ?label
WHERE {{
  ?product a <{kind}> ;
    rdfs:label ?label ;
    bsbm:productFeature <{wanted}> ;
    bsbm:productPropertyNumeric1 ?size ;
    bsbm:productPropertyNumeric3 ?weight .
  FILTER (?size > {least} && ?weight < {most})
  FILTER NOT EXISTS {{ ?product bsbm:productFeature <{unwanted}> }}
}}
ORDER BY ?label
LIMIT 10
"
        )
    }

    fn either_set(&self, sequence: &mut Sequence) -> String {
        let (_, facts) = self.product(sequence);
        let [common, first] = two_features(&facts, sequence);
        let [_, second] = two_features(&facts, sequence);
        let kind = product_type(facts.leaf_type);
        let least1 = below(facts.numeric[0], sequence);
        let least2 = below(facts.numeric[1], sequence);
        format!(
            "SELECT DISTINCT ?product ?label ?text
WHERE {{
  ?product a <{kind}> ;
    rdfs:label ?label ;
    bsbm:productFeature <{common}> ;
    bsbm:productPropertyTextual1 ?text .
  {{
    ?product bsbm:productFeature <{first}> ;
      bsbm:productPropertyNumeric1 ?value .
    FILTER (?value > {least1})
  }} UNION {{
    ?product bsbm:productFeature <{second}> ;
      bsbm:productPropertyNumeric2 ?value .
    FILTER (?value > {least2})
  }}
}}
ORDER BY ?label
OFFSET 5
LIMIT 10
"
        )
    }

    fn similar(&self, sequence: &mut Sequence) -> String {
        let (product, _) = self.product(sequence);
        format!(
            "SELECT DISTINCT ?other ?label
WHERE {{
  <{product}> bsbm:productFeature ?feature ;
    bsbm:productPropertyNumeric1 ?size ;
    bsbm:productPropertyNumeric2 ?weight .
  ?other bsbm:productFeature ?feature ;
    rdfs:label ?label ;
    bsbm:productPropertyNumeric1 ?otherSize ;
    bsbm:productPropertyNumeric2 ?otherWeight .
  FILTER (?other != <{product}>)
  FILTER (?otherSize > ?size - 120 && ?otherSize < ?size + 120)
  FILTER (?otherWeight > ?weight - 170 && ?otherWeight < ?weight + 170)
}}
ORDER BY ?label
LIMIT 5
"
        )
    }

    fn in_depth(&self, sequence: &mut Sequence) -> String {
        let (product, _) = self.product(sequence);
        let country = country(sequence.below(100));
        format!(
            "SELECT ?label ?offer ?price ?vendor ?vendorName
  ?review ?title ?reviewer ?reviewerName ?rating1 ?rating2
WHERE {{
  <{product}> rdfs:label ?label .
  OPTIONAL {{
    ?offer bsbm:product <{product}> ;
      bsbm:price ?price ;
      bsbm:vendor ?vendor ;
      bsbm:validTo ?lastDay .
    ?vendor rdfs:label ?vendorName ;
      bsbm:country <{country}> .
    FILTER (?lastDay > \"{TODAY}T00:00:00\"^^xsd:dateTime)
  }}
  OPTIONAL {{
    ?review bsbm:reviewFor <{product}> ;
      rev:reviewer ?reviewer ;
      dc:title ?title .
    ?reviewer foaf:name ?reviewerName .
    OPTIONAL {{ ?review bsbm:rating1 ?rating1 }}
    OPTIONAL {{ ?review bsbm:rating2 ?rating2 }}
  }}
}}
"
        )
    }

    fn latest_reviews(&self, sequence: &mut Sequence) -> String {
        let (product, _) = self.product(sequence);
        format!(
            "SELECT ?title ?text ?date ?reviewer ?reviewerName ?rating1 ?rating2 ?rating3 ?rating4
WHERE {{
  ?review bsbm:reviewFor <{product}> ;
    dc:title ?title ;
    rev:text ?text ;
    bsbm:reviewDate ?date ;
    rev:reviewer ?reviewer .
  ?reviewer foaf:name ?reviewerName .
  FILTER (langMatches(lang(?text), \"en\"))
  OPTIONAL {{ ?review bsbm:rating1 ?rating1 }}
  OPTIONAL {{ ?review bsbm:rating2 ?rating2 }}
  OPTIONAL {{ ?review bsbm:rating3 ?rating3 }}
  OPTIONAL {{ ?review bsbm:rating4 ?rating4 }}
}}
ORDER BY DESC(?date)
LIMIT 20
"
        )
    }

    fn author(&self, sequence: &mut Sequence) -> String {
        // The last tenth may not exist where the data were cut at a number of quads.
        let reviews = (self.opinions.expected() * 9 / 10).max(1);
        let review = self.opinions.review_iri(sequence.below(reviews));
        format!("DESCRIBE ?author\nWHERE {{\n  <{review}> rev:reviewer ?author\n}}\n")
    }

    fn cheap_offers(&self, sequence: &mut Sequence) -> String {
        let (product, _) = self.product(sequence);
        let country = country(sequence.below(100));
        format!(
            "SELECT DISTINCT ?offer ?price
WHERE {{
  ?offer bsbm:product <{product}> ;
    bsbm:vendor ?vendor ;
    bsbm:price ?price ;
    bsbm:deliveryDays ?days ;
    bsbm:validTo ?lastDay .
  ?vendor bsbm:country <{country}> .
  FILTER (?days <= 3)
  FILTER (?lastDay > \"{TODAY}T00:00:00\"^^xsd:dateTime)
}}
ORDER BY xsd:decimal(str(?price))
LIMIT 10
"
        )
    }

    fn about_offer(&self, sequence: &mut Sequence) -> String {
        let offer = self.market.offer_iri(sequence.below(self.market.offers()));
        format!(
            "SELECT ?property ?out ?in
WHERE {{
  {{ <{offer}> ?property ?out }}
  UNION
  {{ ?in ?property <{offer}> }}
}}
"
        )
    }

    fn export_offer(&self, sequence: &mut Sequence) -> String {
        let offer = self.market.offer_iri(sequence.below(self.market.offers()));
        format!(
            "PREFIX schema: <http://schema.org/>
CONSTRUCT {{
  <{offer}> a schema:Offer ;
    schema:itemOffered ?product ;
    schema:seller ?vendor ;
    schema:price ?price ;
    schema:validThrough ?lastDay ;
    schema:url ?page .
  ?product schema:name ?productLabel .
  ?vendor schema:name ?vendorLabel ;
    schema:url ?homepage .
}}
WHERE {{
  <{offer}> bsbm:product ?product ;
    bsbm:vendor ?vendor ;
    bsbm:price ?price ;
    bsbm:validTo ?lastDay ;
    bsbm:offerWebpage ?page .
  ?product rdfs:label ?productLabel .
  ?vendor rdfs:label ?vendorLabel ;
    foaf:homepage ?homepage .
}}
"
        )
    }
}

impl Iterator for QueryMix {
    type Item = Query;

    fn next(&mut self) -> Option<Query> {
        let mut sequence = Sequence::new(self.seed, Purpose::Query, self.asked);
        let kind = MIX[(self.asked % MIX.len() as u64) as usize];
        self.asked += 1;
        Some(self.query(kind, &mut sequence))
    }
}

fn word_in_label(sequence: &mut Sequence) -> String {
    let word = words::word(words::common_word(sequence));
    format!(
        "SELECT ?product ?label
WHERE {{
  ?product a bsbm:Product ;
    rdfs:label ?label .
  FILTER regex(?label, \"{word}\")
}}
"
    )
}

/// Two features of a product; twice the same one where it has no other.
fn two_features(facts: &ProductFacts, sequence: &mut Sequence) -> [String; 2] {
    let count = facts.features.len() as u64;
    if count == 0 {
        return [feature(0), feature(0)];
    }
    let first = sequence.below(count);
    let second = (first + sequence.between(1, (count - 1).max(1))) % count;
    [first, second].map(|place| feature(facts.features[place as usize]))
}

/// A bound that the value is above of.
fn below(value: Option<u64>, sequence: &mut Sequence) -> u64 {
    value.unwrap_or(0).saturating_sub(sequence.between(1, 200))
}

/// A bound that the value is below of.
fn above(value: Option<u64>, sequence: &mut Sequence) -> u64 {
    value.unwrap_or(0) + sequence.between(1, 200)
}
