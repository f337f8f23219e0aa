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
    /// All data of so many products: some 350 quads each.
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

/// What one product brings with it on average, its features and types apart: itself (17), 20 offers
/// of 10 quads, 10 reviews of 8 quads and 4 ratings of which 7 in 10 are given, half a person of
/// 6 quads, and small parts of a producer and a vendor; rounded up, so that reviews fill the rest
/// rather than being cut off.
const QUADS_PER_PRODUCT: u64 = 17 + 20 * 10 + 10 * 8 + 28 + 3 + 1;

impl DataSet {
    /// How many products the data describe.
    #[must_use]
    pub fn products(&self) -> u64 {
        match self.scale {
            Scale::Products(products) => products.max(1),
            Scale::Quads(quads) => {
                let mut products = (quads / QUADS_PER_PRODUCT).max(1);
                // Types and features follow from the products and weigh much in small data sets.
                // Downwards only, so that this ends.
                loop {
                    let catalogue = Catalogue::new(self.seed, products);
                    let shared = 6 * catalogue.types() + 5 * catalogue.features();
                    let each = QUADS_PER_PRODUCT + catalogue.links_per_product();
                    let fitting = (quads.saturating_sub(shared) / each).max(1);
                    if fitting >= products {
                        return products;
                    }
                    products = fitting;
                }
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
