//! What the tests of Quadraft as a whole are made of: data, load, clusters, measuring.

pub mod bench;
pub mod damage;
pub mod generator;
pub mod kubernetes;
pub mod load;
pub mod local;
pub mod object_store;
pub mod partition;
