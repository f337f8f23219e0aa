//! The Kubernetes operator that runs Quadraft clusters.

pub mod api;
pub mod cluster;
pub mod conditions;
pub mod context;
pub mod jobs;
pub mod names;
pub mod kubernetes;
pub mod backup;
pub mod lease;
pub mod restore;
pub mod run;
