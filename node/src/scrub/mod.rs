//! Scrubbing in the background: everything on the volume is read again from time to time, so that
//! damage is found, and made good, while copies of it exist.
//!
//! A round goes through four parts: identity, log, snapshot, store. [`schedule`] says what is next
//! and when, [`pace`] how long to wait between two reads; neither has a clock or a disk. [`record`] is what a round has come to, kept on the volume
//! so that a restart goes on instead of beginning again. [`parts`] reads one part with what log,
//! snapshots and store offer for it, and [`actor`] is the thread that does all this.

mod actor;
mod monitor;
mod pace;
mod parts;
mod record;
mod schedule;

#[cfg(test)]
mod tests;

pub use actor::{ScrubHandle, start_scrubbing};
pub use schedule::ScrubOptions;
