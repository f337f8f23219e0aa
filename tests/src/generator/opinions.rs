//! Rating sites, the persons who write on them, and their reviews.

use std::fmt::Write as _;

use super::market::Market;
use super::partition::Partition;
use super::quads::QuadLines;
use super::sequence::{Purpose, Sequence};
use super::vocabulary as v;
use super::{dates, words};

const REVIEWS_PER_PRODUCT: u64 = 10;
const REVIEWS_PER_PERSON: u64 = 20;
const PERSONS_PER_SITE: u64 = 500;

#[derive(Clone, Debug)]
pub(crate) struct Opinions {
    seed: u64,
    expected: u64,
    persons: Partition,
    sites: Partition,
}

impl Opinions {
    /// With `endless` the reviews do not stop after ten for each product.
    pub(crate) fn new(seed: u64, products: u64, endless: bool) -> Self {
        let expected = products.saturating_mul(REVIEWS_PER_PRODUCT);
        // Far beyond what can be written, and far enough from where numbers end.
        let reviews = if endless { u64::MAX / 1_024 } else { expected };
        let persons = Partition::new(seed, Purpose::PersonBoundary, REVIEWS_PER_PERSON, reviews);
        let sites = Partition::new(
            seed,
            Purpose::SiteBoundary,
            PERSONS_PER_SITE,
            persons.groups(),
        );
        Self {
            seed,
            expected,
            persons,
            sites,
        }
    }

    /// How many reviews there are when they end by themselves.
    pub(crate) const fn expected(&self) -> u64 {
        self.expected
    }

    pub(crate) fn persons(&self) -> u64 {
        self.persons.groups()
    }

    pub(crate) fn reviews_by(&self, person: u64) -> std::ops::Range<u64> {
        self.persons.items_of(person)
    }

    pub(crate) fn review_iri(&self, review: u64) -> String {
        let site = self.sites.group_of(self.persons.group_of(review));
        v::review(site, review)
    }

    pub(crate) fn describe_person(&self, number: u64, lines: &mut QuadLines) {
        let mut sequence = Sequence::new(self.seed, Purpose::Person, number);
        let site = self.sites.group_of(number);
        let name = words::person_name(&mut sequence);
        let mut mailbox = String::with_capacity(40);
        for _ in 0..5 {
            // Writing to a string cannot fail.
            let _ = write!(mailbox, "{:08x}", sequence.next() as u32);
        }
        let country = v::country(sequence.below(100));
        let date = dates::published(&mut sequence);
        lines
            .about(v::person(site, number), v::site_graph(site))
            .link(v::RDF_TYPE, v::FOAF_PERSON)
            .text(v::FOAF_NAME, &name)
            .text(v::FOAF_MAILBOX_SHA1, &mailbox)
            .link(v::COUNTRY, &country)
            .link(v::DC_PUBLISHER, &v::site(site, site))
            .date(v::DC_DATE, date);
    }

    pub(crate) fn describe_review(
        &self,
        market: &Market,
        person: u64,
        number: u64,
        lines: &mut QuadLines,
    ) {
        let mut sequence = Sequence::new(self.seed, Purpose::Review, number);
        let site = self.sites.group_of(person);
        let product = sequence.below(market.products());
        let language = words::language(&mut sequence);
        let title_words = sequence.between(3, 12);
        let title = words::words(&mut sequence, title_words);
        let text_words = sequence.between(30, 150);
        let text = words::sentences(&mut sequence, language, text_words);
        let reviewed = dates::reviewed(&mut sequence);
        let mut description = lines.about(v::review(site, number), v::site_graph(site));
        description
            .link(v::RDF_TYPE, v::REV_REVIEW)
            .link(v::REVIEW_FOR, &market.product_iri(product))
            .link(v::REV_REVIEWER, &v::person(site, person))
            .midnight(v::REVIEW_DATE, reviewed)
            .text(v::DC_TITLE, &title)
            .text_in(v::REV_TEXT, &text, language.tag);
        for place in 1..=4 {
            if sequence.chance(70) {
                let rating = sequence.between(1, 10);
                description.integer(&format!("{}{place}", v::RATING), rating);
            }
        }
        description
            .link(v::DC_PUBLISHER, &v::site(site, site))
            .date(v::DC_DATE, dates::soon_after(reviewed, &mut sequence));
    }
}
