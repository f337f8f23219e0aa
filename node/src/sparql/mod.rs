//! SPARQL in, ground effects out.

pub mod update;
