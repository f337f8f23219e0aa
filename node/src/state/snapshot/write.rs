//! Writing a snapshot.

use std::io::Write;

use oxrdf::Quad;

use super::SnapshotSummary;
use super::frame::{CHUNK_BYTES, FrameWriter, Kind};
use crate::state::codec::{put_graph, put_number, put_quad};
use crate::state::digest::QuadHasher;
use crate::state::request::RequestTable;
use crate::state::view::Reading;
use crate::state::{Digest, StateError, StateStatus};

/// Writes the whole of one state, whose digest and count are checked on the way: a store that has
/// lost quads must not become anybody's snapshot.
pub(crate) fn write(
    reading: &Reading<'_>,
    requests: &RequestTable,
    out: &mut dyn Write,
) -> Result<SnapshotSummary, StateError> {
    let status = reading.status();
    let mut frames = FrameWriter::start(out)?;
    frames.frame(Kind::Header, &header(status))?;

    let mut graphs = 0;
    let mut payload = Vec::new();
    for graph in reading.named_graphs() {
        put_graph(&mut payload, &graph?);
        graphs += 1;
        if payload.len() >= CHUNK_BYTES {
            frames.frame(Kind::Graphs, &payload)?;
            payload.clear();
        }
    }
    flush(&mut frames, Kind::Graphs, &mut payload)?;

    let mut hasher = QuadHasher::default();
    let mut digest = Digest::ZERO;
    let mut quads = 0;
    let mut previous: Option<Quad> = None;
    for quad in reading.quads() {
        let quad = quad?;
        put_quad(&mut payload, &quad, previous.as_ref());
        digest = digest.plus(hasher.hash(&quad));
        quads += 1;
        previous = Some(quad);
        if payload.len() >= CHUNK_BYTES {
            frames.frame(Kind::Quads, &payload)?;
            payload.clear();
            previous = None;
        }
    }
    flush(&mut frames, Kind::Quads, &mut payload)?;
    if let Some(difference) = status.difference_from(digest, quads) {
        return Err(StateError::Inconsistent(difference));
    }

    for (id, place) in requests.iter() {
        payload.extend_from_slice(&id.0);
        put_number(&mut payload, place.number());
    }
    flush(&mut frames, Kind::Requests, &mut payload)?;

    let requests = requests.len() as u64;
    frames.frame(Kind::End, &end(graphs, quads, requests, digest))?;
    Ok(SnapshotSummary {
        status: status.clone(),
        graphs,
        requests,
        bytes: frames.finish()?,
    })
}

fn flush<W: Write + ?Sized>(
    frames: &mut FrameWriter<'_, W>,
    kind: Kind,
    payload: &mut Vec<u8>,
) -> Result<(), StateError> {
    if !payload.is_empty() {
        frames.frame(kind, payload)?;
        payload.clear();
    }
    Ok(())
}

fn header(status: &StateStatus) -> Vec<u8> {
    let mut header = Vec::new();
    match status.applied {
        Some(applied) => {
            header.push(1);
            put_number(&mut header, applied.term);
            put_number(&mut header, applied.index);
        }
        None => header.push(0),
    }
    header.extend_from_slice(&status.digest.to_bytes());
    put_number(&mut header, status.quads);
    put_number(&mut header, status.data_index);
    match &status.membership {
        Some(membership) => {
            header.push(1);
            put_number(&mut header, membership.len() as u64);
            header.extend_from_slice(membership);
        }
        None => header.push(0),
    }
    header
}

pub(super) fn end(graphs: u64, quads: u64, requests: u64, digest: Digest) -> Vec<u8> {
    let mut end = Vec::new();
    put_number(&mut end, graphs);
    put_number(&mut end, quads);
    put_number(&mut end, requests);
    end.extend_from_slice(&digest.to_bytes());
    end
}
