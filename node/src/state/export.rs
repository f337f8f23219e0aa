//! All quads as N-Quads.

use std::io::Write;

use super::store::State;
use super::{Digest, StateError};

/// Quads between two words on progress.
const NOTED_QUADS: u64 = 1024;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenQuads {
    pub quads: u64,
    pub digest: Digest,
    /// Named graphs that exist and have no quads: N-Quads cannot say so.
    pub empty_graphs: u64,
}

impl State {
    /// Writes all user quads of one state as canonical N-Quads, in no order, and compares what was
    /// written with the digest of the state. `progress` is told how many quads of how many were
    /// written.
    ///
    /// # Errors
    /// When `out` fails; when the store cannot be read, or holds other data than was applied to it:
    /// then what was written is of no use.
    pub fn write_quads(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<WrittenQuads, StateError> {
        let view = self.view();
        let reading = view.read()?;
        let kept = reading.status();
        let (digest, quads) = reading.digest_lines(|line, quads| {
            if quads.is_multiple_of(NOTED_QUADS) {
                progress(quads, kept.quads);
            }
            out.write_all(line)
                .map_err(StateError::io("could not write the quads"))
        })?;
        progress(quads, kept.quads);
        if let Some(difference) = kept.difference_from(digest, quads) {
            return Err(StateError::Inconsistent(difference));
        }
        let mut empty_graphs = 0;
        for graph in reading.named_graphs() {
            let graph = graph?;
            let mut in_graph = reading.transaction().quads_for_pattern(
                None,
                None,
                None,
                Some(graph.as_ref().into()),
            );
            empty_graphs += u64::from(in_graph.next().transpose()?.is_none());
        }
        Ok(WrittenQuads {
            quads,
            digest,
            empty_graphs,
        })
    }
}
