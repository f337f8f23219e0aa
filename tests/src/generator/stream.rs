//! The order in which entities are written, one after another.

use std::io;

use super::catalogue::Catalogue;
use super::market::Market;
use super::opinions::Opinions;
use super::quads::QuadLines;
use super::{DataSet, Scale};

/// Where the stream is: what comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Type(u64),
    Feature(u64),
    Producer(u64),
    Product(u64),
    Vendor(u64),
    Offer(u64),
    Person(u64),
    Review { person: u64, review: u64 },
    End,
}

/// The quads of a data set, entity by entity.
#[derive(Debug)]
pub struct QuadStream {
    catalogue: Catalogue,
    market: Market,
    opinions: Opinions,
    lines: QuadLines,
    next: Next,
    /// How many quads may still be written.
    left: u64,
}

impl QuadStream {
    pub(super) fn new(data_set: &DataSet) -> Self {
        let (catalogue, market, opinions) = data_set.parts();
        Self {
            catalogue,
            market,
            opinions,
            lines: QuadLines::new(data_set.named_graphs),
            next: Next::Type(0),
            left: match data_set.scale {
                Scale::Products(_) => u64::MAX,
                Scale::Quads(quads) => quads,
            },
        }
    }

    /// The next entity: whole lines of N-Quads and their number. `None` at the end.
    pub fn next_entity(&mut self) -> Option<(&str, u64)> {
        if self.left == 0 {
            return None;
        }
        self.lines.clear();
        let lines = &mut self.lines;
        self.next = match self.next {
            Next::Type(number) => {
                self.catalogue.describe_type(number, lines);
                or(
                    number + 1 < self.catalogue.types(),
                    Next::Type(number + 1),
                    Next::Feature(0),
                )
            }
            Next::Feature(number) => {
                self.catalogue.describe_feature(number, lines);
                let more = number + 1 < self.catalogue.features();
                or(more, Next::Feature(number + 1), Next::Producer(0))
            }
            Next::Producer(number) => {
                self.market.describe_producer(number, lines);
                Next::Product(self.market.producers.items_of(number).start)
            }
            Next::Product(number) => {
                self.market.describe_product(&self.catalogue, number, lines);
                self.after_product(number)
            }
            Next::Vendor(number) => {
                self.market.describe_vendor(number, lines);
                Next::Offer(self.market.vendors.items_of(number).start)
            }
            Next::Offer(number) => {
                self.market.describe_offer(number, lines);
                self.after_offer(number)
            }
            Next::Person(number) => {
                self.opinions.describe_person(number, lines);
                Next::Review {
                    person: number,
                    review: self.opinions.reviews_by(number).start,
                }
            }
            Next::Review { person, review } => {
                self.opinions
                    .describe_review(&self.market, person, review, lines);
                self.after_review(person, review)
            }
            Next::End => return None,
        };
        self.lines.truncate(self.left);
        self.left -= self.lines.count();
        Some((self.lines.text(), self.lines.count()))
    }

    fn after_product(&self, number: u64) -> Next {
        let producers = &self.market.producers;
        let next = number + 1;
        if next >= self.market.products() {
            return Next::Vendor(0);
        }
        let (producer, following) = (producers.group_of(number), producers.group_of(next));
        or(
            producer == following,
            Next::Product(next),
            Next::Producer(following),
        )
    }

    fn after_offer(&self, number: u64) -> Next {
        let vendors = &self.market.vendors;
        let next = number + 1;
        if next >= self.market.offers() {
            return Next::Person(0);
        }
        let (vendor, following) = (vendors.group_of(number), vendors.group_of(next));
        or(
            vendor == following,
            Next::Offer(next),
            Next::Vendor(following),
        )
    }

    fn after_review(&self, person: u64, review: u64) -> Next {
        let next = review + 1;
        if next < self.opinions.reviews_by(person).end {
            Next::Review {
                person,
                review: next,
            }
        } else {
            or(
                person + 1 < self.opinions.persons(),
                Next::Person(person + 1),
                Next::End,
            )
        }
    }

    /// Writes all that is left and returns how many quads that were.
    ///
    /// # Errors
    ///
    /// When `output` cannot be written.
    pub fn write_to(&mut self, output: &mut dyn io::Write) -> io::Result<u64> {
        let mut quads = 0;
        while let Some((text, count)) = self.next_entity() {
            output.write_all(text.as_bytes())?;
            quads += count;
        }
        Ok(quads)
    }
}

const fn or(first: bool, then: Next, otherwise: Next) -> Next {
    if first { then } else { otherwise }
}
