//! The Kubernetes operator that runs Quadraft clusters.

pub mod api;
pub mod cluster;
