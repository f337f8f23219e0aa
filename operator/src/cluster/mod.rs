//! The reconcile of an RdfCluster. The phases are files in call order: observe, validate, plan,
//! build, apply, status.

pub mod health;
pub mod observation;
pub mod plan;
pub mod validate;
