//! What the tests of Quadraft as a whole are made of: data, load, clusters.

pub mod generator;
pub mod load;
