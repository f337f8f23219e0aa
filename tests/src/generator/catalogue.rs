//! Product types, their hierarchy, and the features that products of a type may have.

use super::quads::QuadLines;
use super::sequence::{Purpose, Sequence};
use super::vocabulary as v;
use super::words;

/// How often the levels below the first one branch.
const BRANCHES: u64 = 8;

#[derive(Clone, Debug)]
struct TypeNode {
    parent: Option<u64>,
    first_feature: u64,
    features: u64,
}

/// The tree of product types. It grows with the logarithm of the products, and is the one table
/// that the generator keeps.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    seed: u64,
    types: Vec<TypeNode>,
    first_leaf: u64,
}

impl Catalogue {
    pub(crate) fn new(seed: u64, products: u64) -> Self {
        let magnitude = rounded_log10(products).max(1);
        let depth = 1 + magnitude / 2;
        let mut catalogue = Self {
            seed,
            types: Vec::new(),
            first_leaf: 0,
        };
        catalogue.add(None, 0);
        let mut level_start = 0;
        for level in 1..=depth {
            let level_end = catalogue.types.len() as u64;
            let branches = if level == 1 { 2 * magnitude } else { BRANCHES };
            for parent in level_start..level_end {
                for _ in 0..branches {
                    catalogue.add(Some(parent), level);
                }
            }
            level_start = level_end;
        }
        catalogue.first_leaf = level_start;
        catalogue
    }

    fn add(&mut self, parent: Option<u64>, level: u64) {
        let number = self.types.len() as u64;
        let mut sequence = Sequence::new(self.seed, Purpose::TypeFeatures, number);
        // Deeper types are more specific and have more features of their own.
        let features = sequence.between(5 * (level + 1), 10 * (level + 1));
        self.types.push(TypeNode {
            parent,
            first_feature: self.features(),
            features,
        });
    }

    pub(crate) const fn types(&self) -> u64 {
        self.types.len() as u64
    }

    pub(crate) fn features(&self) -> u64 {
        self.types
            .last()
            .map_or(0, |last| last.first_feature + last.features)
    }

    /// How many quads link an average product to its types and features: one for each level, and
    /// what [`Self::choose_features`] takes of the features that [`Self::add`] gives each level.
    pub(crate) fn links_per_product(&self) -> u64 {
        let levels = self.lineage(self.types() - 1).count() as u64;
        levels + 3 * levels * (levels + 1) / 2
    }

    /// A type that no other type is below of.
    pub(crate) fn choose_leaf(&self, sequence: &mut Sequence) -> u64 {
        sequence.between(self.first_leaf, self.types() - 1)
    }

    /// A type and all types above it, the most specific first.
    pub(crate) fn lineage(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        std::iter::successors(Some(number), |number| self.types[*number as usize].parent)
    }

    /// A choice from the features of a type and of those above it; none occurs twice.
    pub(crate) fn choose_features(&self, leaf: u64, sequence: &mut Sequence) -> Vec<u64> {
        let mut chosen = Vec::with_capacity(24);
        for number in self.lineage(leaf) {
            let node = &self.types[number as usize];
            for feature in node.first_feature..node.first_feature + node.features {
                if sequence.chance(40) {
                    chosen.push(feature);
                }
            }
        }
        chosen
    }

    pub(crate) fn describe_type(&self, number: u64, lines: &mut QuadLines) {
        let mut sequence = Sequence::new(self.seed, Purpose::Type, number);
        let parent = self.types[number as usize].parent;
        let label = words::words(&mut sequence, 2);
        let comment_words = sequence.between(20, 50);
        let comment = words::words(&mut sequence, comment_words);
        let date = super::dates::published(&mut sequence);
        let mut description = lines.about(v::product_type(number), v::institution_graph());
        description
            .link(v::RDF_TYPE, v::PRODUCT_TYPE)
            .text(v::LABEL, &label)
            .text(v::COMMENT, &comment);
        if let Some(parent) = parent {
            description.link(v::SUBCLASS_OF, &v::product_type(parent));
        }
        description
            .link(v::DC_PUBLISHER, &v::institution())
            .date(v::DC_DATE, date);
    }

    pub(crate) fn describe_feature(&self, number: u64, lines: &mut QuadLines) {
        let mut sequence = Sequence::new(self.seed, Purpose::Feature, number);
        let label_words = sequence.between(1, 3);
        let label = words::words(&mut sequence, label_words);
        let comment_words = sequence.between(20, 50);
        let comment = words::words(&mut sequence, comment_words);
        let date = super::dates::published(&mut sequence);
        lines
            .about(v::feature(number), v::institution_graph())
            .link(v::RDF_TYPE, v::PRODUCT_FEATURE_CLASS)
            .text(v::LABEL, &label)
            .text(v::COMMENT, &comment)
            .link(v::DC_PUBLISHER, &v::institution())
            .date(v::DC_DATE, date);
    }
}

/// The power of ten nearest to a number, by ratio: computed in integers, because floating-point
/// logarithms may differ between machines.
const fn rounded_log10(number: u64) -> u64 {
    let mut magnitude = 0;
    let mut power: u128 = 1;
    // 10^(m + 1/2) < number is the same as 10^(2m + 1) < number^2.
    while power * power * 10 < number as u128 * number as u128 {
        power *= 10;
        magnitude += 1;
    }
    magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_rounded_by_ratio() {
        let rounded: Vec<u64> = [1, 3, 4, 10, 31, 32, 316, 317, 1_000, 10_000_000]
            .into_iter()
            .map(rounded_log10)
            .collect();
        assert_eq!(rounded, [0, 0, 1, 1, 1, 2, 2, 3, 3, 7]);
    }

    #[test]
    fn the_tree_grows_with_the_logarithm_of_the_products() {
        let shape = |products| {
            let catalogue = Catalogue::new(1, products);
            (
                catalogue.lineage(catalogue.types() - 1).count(),
                catalogue.types(),
            )
        };
        assert_eq!(shape(1), (2, 1 + 2));
        assert_eq!(shape(100), (3, 1 + 4 + 32));
        assert_eq!(shape(1_000), (3, 1 + 6 + 48));
        assert_eq!(shape(100_000), (4, 1 + 10 + 80 + 640));
    }

    #[test]
    fn features_of_different_types_are_different() {
        let catalogue = Catalogue::new(5, 1_000);
        let mut next = 0;
        for node in &catalogue.types {
            assert_eq!(node.first_feature, next);
            next += node.features;
        }
        assert_eq!(catalogue.features(), next);
    }

    #[test]
    fn a_product_has_features_of_its_lineage_only_and_none_twice() {
        let catalogue = Catalogue::new(5, 1_000);
        let mut sequence = Sequence::new(5, Purpose::Product, 0);
        let leaf = catalogue.choose_leaf(&mut sequence);
        let mut features = catalogue.choose_features(leaf, &mut sequence);
        let chosen = features.len();
        assert!(features.iter().all(|feature| {
            catalogue.lineage(leaf).any(|number| {
                let node = &catalogue.types[number as usize];
                (node.first_feature..node.first_feature + node.features).contains(feature)
            })
        }));
        features.sort_unstable();
        features.dedup();
        assert_eq!(features.len(), chosen);
    }
}
