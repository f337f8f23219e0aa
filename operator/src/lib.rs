//! The Kubernetes operator that runs Quadraft clusters.

pub mod api;
pub mod backup;
pub mod cluster;
pub mod conditions;
pub mod context;
pub mod jobs;
pub mod kubernetes;
pub mod lease;
pub mod names;
pub mod progress;
pub mod quantity;
pub mod releases;
pub mod restore;
pub mod run;
pub mod territory;
pub mod turns;
