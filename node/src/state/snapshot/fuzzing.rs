//! Makes checksums match, so that fuzzing gets behind them.

#![allow(clippy::expect_used)]

use super::frame::{FrameWriter, Kind};
use crate::fuzzing::Input;

/// A snapshot with the given frames: each a byte for its kind, its length in two bytes, its payload.
pub(crate) fn framed(mut input: Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frames = FrameWriter::start(&mut bytes).expect("memory can be written to");
    while !input.is_empty() {
        let kind = [
            Kind::Header,
            Kind::Graphs,
            Kind::Quads,
            Kind::Requests,
            Kind::End,
        ][usize::from(input.byte().wrapping_sub(1)) % 5];
        let payload = input.sized();
        frames
            .frame(kind, payload)
            .expect("memory can be written to");
    }
    frames.finish().expect("memory can be written to");
    bytes
}
