//! The reconcile of an RdfCluster. The phases are files in call order: observe, validate, plan,
//! build, ensure, apply, status.

pub mod apply;
mod ask;
pub mod build;
mod deletion;
pub mod ensure;
mod events;
pub mod health;
pub mod observation;
pub mod observe;
pub mod origin;
pub mod plan;
mod reconcile;
pub mod serving;
pub mod status;
pub mod validate;

pub use reconcile::{ReconcileError, reconcile};
