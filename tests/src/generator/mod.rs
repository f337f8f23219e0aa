//! RDF data in the schema of the Berlin SPARQL Benchmark (BSBM), for tests, demonstrations and
//! measurements.
//!
//! The schema, its vocabulary and the proportions (20 offers and 10 reviews a product, 50 products
//! a producer, 2,000 offers a vendor, 20 reviews a person) are those of the published
//! specification; the data are not: names and texts are made of invented words, and numbers come
//! from an algorithm that is part of this project. The same arguments give the same bytes, on every
//! machine and with every version of every library.
//!
//! Data are made entity by entity from the entity's number alone, so memory does not grow with the
//! scale. No statement occurs twice and there are no blank nodes: the number of lines is the number
//! of quads that a store holds afterwards.

mod catalogue;
mod dates;
mod market;
mod opinions;
mod partition;
mod quads;
mod queries;
mod sequence;
mod stream;
mod vocabulary;
mod words;

pub use queries::{Query, QueryMix};
pub use stream::QuadStream;

use catalogue::Catalogue;
use market::Market;
use opinions::Opinions;

/// How much data there shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// All data of so many products: some 370 quads each.
    Products(u64),
    /// Exactly so many quads: products to fit, and as many reviews as are needed to fill up.
    Quads(u64),
}

/// A data set: what it holds follows from these three values alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSet {
    pub scale: Scale,
    pub seed: u64,
    /// One graph for each producer, vendor and rating site, and one for the types and features;
    /// otherwise everything is in the default graph.
    pub named_graphs: bool,
}

/// What a quad count is divided by to get products: a little more than a product needs with its
/// share of everything else, so that reviews fill up rather than being cut off.
const QUADS_PER_PRODUCT_AT_LEAST: u64 = 385;

impl DataSet {
    /// How many products the data describe.
    #[must_use]
    pub fn products(&self) -> u64 {
        match self.scale {
            Scale::Products(products) => products.max(1),
            Scale::Quads(quads) => {
                let mut products = (quads / QUADS_PER_PRODUCT_AT_LEAST).max(1);
                // Types and features weigh much in small data sets and follow from the products.
                for _ in 0..4 {
                    let catalogue = Catalogue::new(self.seed, products);
                    let shared = 6 * catalogue.types() + 5 * catalogue.features();
                    products =
                        (quads.saturating_sub(shared) / QUADS_PER_PRODUCT_AT_LEAST).max(1);
                }
                products
            }
        }
    }

    /// The data, as N-Quads.
    #[must_use]
    pub fn stream(&self) -> QuadStream {
        QuadStream::new(self)
    }

    /// Queries about the data.
    #[must_use]
    pub fn queries(&self, query_seed: u64) -> QueryMix {
        QueryMix::new(self, query_seed)
    }

    fn parts(&self) -> (Catalogue, Market, Opinions) {
        let products = self.products();
        let endless = matches!(self.scale, Scale::Quads(_));
        (
            Catalogue::new(self.seed, products),
            Market::new(self.seed, products),
            Opinions::new(self.seed, products, endless),
        )
    }
}
