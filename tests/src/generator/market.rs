//! Producers and their products, vendors and their offers.

use super::catalogue::Catalogue;
use super::partition::Partition;
use super::quads::QuadLines;
use super::sequence::{Purpose, Sequence};
use super::vocabulary as v;
use super::{dates, words};

const PRODUCTS_PER_PRODUCER: u64 = 50;
const OFFERS_PER_PRODUCT: u64 = 20;
const OFFERS_PER_VENDOR: u64 = 2_000;

/// What a product is made of, apart from its texts: the queries ask for the same.
#[derive(Clone, Debug)]
pub(crate) struct ProductFacts {
    pub(crate) producer: u64,
    pub(crate) leaf_type: u64,
    pub(crate) features: Vec<u64>,
    /// Values of the numeric properties 1 to 6; the last three may be absent.
    pub(crate) numeric: [Option<u64>; 6],
    sequence: Sequence,
}

#[derive(Clone, Debug)]
pub(crate) struct Market {
    seed: u64,
    products: u64,
    pub(crate) producers: Partition,
    pub(crate) vendors: Partition,
}

impl Market {
    pub(crate) const fn new(seed: u64, products: u64) -> Self {
        Self {
            seed,
            products,
            producers: Partition::new(
                seed,
                Purpose::ProducerBoundary,
                PRODUCTS_PER_PRODUCER,
                products,
            ),
            vendors: Partition::new(
                seed,
                Purpose::VendorBoundary,
                OFFERS_PER_VENDOR,
                products.saturating_mul(OFFERS_PER_PRODUCT),
            ),
        }
    }

    pub(crate) const fn products(&self) -> u64 {
        self.products
    }

    pub(crate) fn product_iri(&self, number: u64) -> String {
        v::product(self.producers.group_of(number), number)
    }

    pub(crate) fn product_facts(&self, catalogue: &Catalogue, number: u64) -> ProductFacts {
        let mut sequence = Sequence::new(self.seed, Purpose::Product, number);
        let leaf_type = catalogue.choose_leaf(&mut sequence);
        let features = catalogue.choose_features(leaf_type, &mut sequence);
        let mut numeric = [None; 6];
        for (place, value) in numeric.iter_mut().enumerate() {
            let present = match place {
                0..=2 => true,
                3 => sequence.chance(75),
                4 => sequence.chance(70),
                _ => sequence.chance(50),
            };
            if present {
                *value = Some(sequence.central(1, 2_000));
            }
        }
        ProductFacts {
            producer: self.producers.group_of(number),
            leaf_type,
            features,
            numeric,
            sequence,
        }
    }

    pub(crate) fn describe_producer(&self, number: u64, lines: &mut QuadLines) {
        let iri = v::producer(number, number);
        let graph = v::producer_graph(number);
        let sequence = Sequence::new(self.seed, Purpose::Producer, number);
        describe_company(
            v::PRODUCER_CLASS,
            "Producer",
            number,
            &iri,
            graph,
            sequence,
            lines,
        );
    }

    pub(crate) fn describe_vendor(&self, number: u64, lines: &mut QuadLines) {
        let iri = v::vendor(number, number);
        let graph = v::vendor_graph(number);
        let sequence = Sequence::new(self.seed, Purpose::Vendor, number);
        describe_company(
            v::VENDOR_CLASS,
            "Vendor",
            number,
            &iri,
            graph,
            sequence,
            lines,
        );
    }

    pub(crate) fn describe_product(
        &self,
        catalogue: &Catalogue,
        number: u64,
        lines: &mut QuadLines,
    ) {
        let mut facts = self.product_facts(catalogue, number);
        let sequence = &mut facts.sequence;
        let producer = v::producer(facts.producer, facts.producer);
        let label = words::words(sequence, 3);
        let comment_words = sequence.between(50, 120);
        let comment = words::words(sequence, comment_words);
        let mut description = lines.about(
            v::product(facts.producer, number),
            v::producer_graph(facts.producer),
        );
        description.link(v::RDF_TYPE, v::PRODUCT);
        for number in catalogue.lineage(facts.leaf_type) {
            description.link(v::RDF_TYPE, &v::product_type(number));
        }
        description
            .text(v::LABEL, &label)
            .text(v::COMMENT, &comment)
            .link(v::PRODUCER, &producer);
        for feature in &facts.features {
            description.link(v::PRODUCT_FEATURE, &v::feature(*feature));
        }
        for place in 1..=6 {
            let present = match place {
                1..=3 => true,
                4 => sequence.chance(70),
                5 => sequence.chance(80),
                _ => sequence.chance(50),
            };
            if present {
                let count = sequence.between(3, 15);
                let text = words::words(sequence, count);
                description.text(&format!("{}{place}", v::PROPERTY_TEXTUAL), &text);
            }
        }
        for (place, value) in facts.numeric.iter().enumerate() {
            if let Some(value) = value {
                description.integer(&format!("{}{}", v::PROPERTY_NUMERIC, place + 1), *value);
            }
        }
        description
            .link(v::DC_PUBLISHER, &producer)
            .date(v::DC_DATE, dates::published(sequence));
    }

    pub(crate) fn offer_iri(&self, number: u64) -> String {
        v::offer(self.vendors.group_of(number), number)
    }

    pub(crate) const fn offers(&self) -> u64 {
        self.products.saturating_mul(OFFERS_PER_PRODUCT)
    }

    pub(crate) fn describe_offer(&self, number: u64, lines: &mut QuadLines) {
        let mut sequence = Sequence::new(self.seed, Purpose::Offer, number);
        let vendor = self.vendors.group_of(number);
        let vendor_iri = v::vendor(vendor, vendor);
        let product = sequence.below(self.products);
        let cents = sequence.between(500, 1_000_000);
        let (from, to) = dates::validity(&mut sequence);
        // Half of the offers are delivered within a week.
        let longest = if sequence.chance(50) { 7 } else { 21 };
        let delivery_days = sequence.between(1, longest);
        let iri = v::offer(vendor, number);
        let webpage = format!(
            "http://www.vendor{}.com/offers/Offer{}/",
            vendor + 1,
            number + 1
        );
        lines
            .about(iri, v::vendor_graph(vendor))
            .link(v::RDF_TYPE, v::OFFER_CLASS)
            .link(v::OFFERED_PRODUCT, &self.product_iri(product))
            .link(v::VENDOR, &vendor_iri)
            .price(v::PRICE, cents)
            .midnight(v::VALID_FROM, from)
            .midnight(v::VALID_TO, to)
            .integer(v::DELIVERY_DAYS, delivery_days)
            .link(v::OFFER_WEBPAGE, &webpage)
            .link(v::DC_PUBLISHER, &vendor_iri)
            .date(v::DC_DATE, from);
    }
}

fn describe_company(
    class: &str,
    name: &str,
    number: u64,
    iri: &str,
    graph: String,
    mut sequence: Sequence,
    lines: &mut QuadLines,
) {
    let label_words = sequence.between(1, 3);
    let label = words::words(&mut sequence, label_words);
    let comment_words = sequence.between(20, 50);
    let comment = words::words(&mut sequence, comment_words);
    let homepage = format!("http://www.{}{}.com/", name.to_lowercase(), number + 1);
    let country = v::country(sequence.below(100));
    let date = dates::published(&mut sequence);
    lines
        .about(iri.to_owned(), graph)
        .link(v::RDF_TYPE, class)
        .text(v::LABEL, &label)
        .text(v::COMMENT, &comment)
        .link(v::FOAF_HOMEPAGE, &homepage)
        .link(v::COUNTRY, &country)
        .link(v::DC_PUBLISHER, iri)
        .date(v::DC_DATE, date);
}
