//! SPARQL Update.
