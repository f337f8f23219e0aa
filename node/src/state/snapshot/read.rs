//! Reading and verifying a snapshot.

use std::io::{BufReader, Read};

use oxigraph::store::Store;
use oxrdf::{NamedOrBlankNode, Quad};

use super::SnapshotSummary;
use super::frame::{FrameReader, Kind, damaged};
use super::write::end;
use crate::state::codec::{DecodeError, Decoder};
use crate::state::digest::QuadHasher;
use crate::state::effects::{is_reserved, is_reserved_node};
use crate::state::normalise::normalise_quad;
use crate::state::request::{RequestId, RequestPlace, RequestTable};
use crate::state::{Digest, LogPosition, StateError, StateStatus};

/// Reads the beginning of a snapshot only: what it claims to hold, without having looked.
pub fn read_snapshot_summary(input: &mut dyn Read) -> Result<SnapshotSummary, StateError> {
    let mut frames = FrameReader::start(input)?;
    Ok(SnapshotSummary {
        status: header(&mut frames)?,
        ..SnapshotSummary::default()
    })
}

/// Reads and checks a whole snapshot without a store: every byte is covered by a checksum, the
/// digest over the quads is computed anew and compared.
pub fn verify_snapshot(input: &mut dyn Read) -> Result<SnapshotSummary, StateError> {
    verify(input)
}

pub(crate) fn verify<R: Read + ?Sized>(input: &mut R) -> Result<SnapshotSummary, StateError> {
    Ok(Contents::read(&mut BufReader::new(input), &mut |_| Ok(()))?.summary)
}

/// Each batch of the loader becomes files of its own: few large ones are better than many.
const BATCH_QUADS: usize = 200_000;

/// What was read at once, to be loaded in batches.
enum Part {
    Graphs(Vec<NamedOrBlankNode>),
    Quads(Vec<Quad>),
}

/// Loads a snapshot into an empty store, without the store's own records. Memory is bounded by
/// the size of a chunk and of the loader's batches.
pub(crate) fn load<R: Read + ?Sized>(
    input: &mut R,
    store: &Store,
) -> Result<(SnapshotSummary, RequestTable), StateError> {
    // Made with the first quads: in memory it holds the store alone, and graphs come before.
    let mut loader = None;
    let new_loader = || store.bulk_loader().without_atomicity();
    let mut batch = Vec::new();
    let contents = Contents::read(&mut BufReader::new(input), &mut |part| {
        match part {
            Part::Graphs(graphs) => {
                let mut transaction = store.start_transaction()?;
                for graph in &graphs {
                    transaction.insert_named_graph(graph);
                }
                transaction.commit()?;
            }
            Part::Quads(quads) => {
                batch.extend(quads);
                if batch.len() >= BATCH_QUADS {
                    loader
                        .get_or_insert_with(new_loader)
                        .load_quads(std::mem::take(&mut batch))?;
                }
            }
        }
        Ok(())
    })?;
    let mut loader = loader.unwrap_or_else(new_loader);
    loader.load_quads(batch)?;
    loader.commit()?;
    // The sum over the quads of the file is right; were some of them repeated, the store would
    // hold fewer.
    let loaded = store.len()? as u64;
    if loaded != contents.summary.status.quads {
        return Err(damaged(format!(
            "it has repeated quads: {loaded} of {} are different",
            contents.summary.status.quads
        )));
    }
    Ok((contents.summary, contents.requests))
}

struct Contents {
    summary: SnapshotSummary,
    requests: RequestTable,
}

impl Contents {
    fn read<R: Read + ?Sized>(
        input: &mut R,
        part: &mut dyn FnMut(Part) -> Result<(), StateError>,
    ) -> Result<Self, StateError> {
        let mut frames = FrameReader::start(input)?;
        let status = header(&mut frames)?;
        let mut hasher = QuadHasher::default();
        let (mut graphs, mut quads, mut digest) = (0, 0, Digest::ZERO);
        let mut requests = Vec::new();
        let mut last = Kind::Header;
        loop {
            let (kind, payload) = frames.frame()?;
            if kind < last || kind == Kind::Header {
                return Err(damaged("its chunks are not in order"));
            }
            last = kind;
            match kind {
                Kind::Graphs => {
                    let chunk = read_graphs(&payload).map_err(|error| undecodable(&error))?;
                    check_graphs(&chunk)?;
                    graphs += chunk.len() as u64;
                    part(Part::Graphs(chunk))?;
                }
                Kind::Quads => {
                    let chunk = read_quads(&payload).map_err(|error| undecodable(&error))?;
                    for quad in &chunk {
                        check_quad(quad)?;
                        digest = digest.plus(hasher.hash(quad));
                    }
                    quads += chunk.len() as u64;
                    part(Part::Quads(chunk))?;
                }
                Kind::Requests => read_requests(&payload, &mut requests)?,
                Kind::End => {
                    let requests_count = requests.len() as u64;
                    if payload != end(graphs, quads, requests_count, digest)
                        || (quads, digest) != (status.quads, status.digest)
                    {
                        return Err(damaged(format!(
                            "it holds {quads} quads with digest {digest} instead of {} with {}",
                            status.quads, status.digest
                        )));
                    }
                    let requests = RequestTable::from_places(requests)
                        .ok_or_else(|| damaged("its requests are repeated or too many"))?;
                    let bytes = frames.finish()?;
                    return Ok(Self {
                        summary: SnapshotSummary {
                            status,
                            graphs,
                            requests: requests_count,
                            bytes,
                        },
                        requests,
                    });
                }
                Kind::Header => {}
            }
        }
    }
}

fn undecodable(error: &DecodeError) -> StateError {
    damaged(format!("a chunk cannot be decoded: {error}"))
}

fn header<R: Read + ?Sized>(frames: &mut FrameReader<'_, R>) -> Result<StateStatus, StateError> {
    let (kind, payload) = frames.frame()?;
    if kind != Kind::Header {
        return Err(damaged("it has no header"));
    }
    read_header(&payload).map_err(|error| undecodable(&error))
}

fn read_header(payload: &[u8]) -> Result<StateStatus, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let applied = if flag(&mut decoder)? {
        Some(LogPosition {
            term: decoder.number()?,
            index: decoder.number()?,
        })
    } else {
        None
    };
    let digest = Digest::from_bytes(decoder.array("the digest")?);
    let quads = decoder.number()?;
    let data_index = decoder.number()?;
    let membership = if flag(&mut decoder)? {
        let length = decoder.count(1, "the membership")?;
        Some(decoder.bytes(length, "the membership")?.to_vec())
    } else {
        None
    };
    decoder.finish()?;
    Ok(StateStatus {
        applied,
        membership,
        digest,
        quads,
        data_index,
    })
}

fn flag(decoder: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match decoder.byte("a flag")? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(DecodeError::Tag { tag, what: "flag" }),
    }
}

fn read_graphs(payload: &[u8]) -> Result<Vec<NamedOrBlankNode>, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let mut graphs = Vec::new();
    while !decoder.is_empty() {
        graphs.push(decoder.graph()?);
    }
    Ok(graphs)
}

fn read_quads(payload: &[u8]) -> Result<Vec<Quad>, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let mut quads: Vec<Quad> = Vec::new();
    while !decoder.is_empty() {
        let quad = decoder.quad(quads.last())?;
        quads.push(quad);
    }
    Ok(quads)
}

fn read_requests(
    payload: &[u8],
    requests: &mut Vec<(RequestId, RequestPlace)>,
) -> Result<(), StateError> {
    let mut decoder = Decoder::new(payload);
    while !decoder.is_empty() {
        let id = RequestId(
            decoder
                .array("a request")
                .map_err(|error| undecodable(&error))?,
        );
        let place =
            RequestPlace::from_number(decoder.number().map_err(|error| undecodable(&error))?)
                .ok_or_else(|| damaged("the place of a request is too large"))?;
        requests.push((id, place));
    }
    Ok(())
}

/// A snapshot that is well-formed may still not be one that this program wrote.
fn check_quad(quad: &Quad) -> Result<(), StateError> {
    if is_reserved(&quad.graph_name) {
        return Err(damaged("it has quads in the reserved graph"));
    }
    if normalise_quad(quad.clone()) != *quad {
        return Err(damaged(format!(
            "the quad {quad} is not in the form of the store"
        )));
    }
    Ok(())
}

fn check_graphs(graphs: &[NamedOrBlankNode]) -> Result<(), StateError> {
    let reserved = graphs
        .iter()
        .any(|graph| matches!(graph, NamedOrBlankNode::NamedNode(node) if is_reserved_node(node)));
    if reserved {
        return Err(damaged("it has the reserved graph"));
    }
    Ok(())
}
