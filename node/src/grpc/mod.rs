//! The peer port: Raft and forwarded requests between nodes, and administration.

mod admin;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod raft;
mod repair;
mod server;

pub use admin::UnclaimedService;
pub use server::{serve, serve_repair, serve_unclaimed};
