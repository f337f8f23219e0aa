//! Cases made from real encodings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use oxrdf::{BlankNode, Literal, NamedNode, Quad};
use prost::Message as _;
use quadraft_protocol::{NodeId, v1};
use uuid::Uuid;

use super::twin::flag;
use crate::disk::FileSystem as _;
use crate::disk::simulated::SimulatedDisk;
use crate::identity::{StoredVote, Superblock, SuperblockFile, VoteFile};
use crate::position::LogPosition;
use crate::raft::{
    MemberAddresses, Membership, StoredMembership, encode_stored_membership, to_log_id,
};
use crate::state::{Command, Effects, RequestId};

const SNAPSHOT: &[u8] = include_bytes!("../state/fixtures/snapshot-1.bin");

/// Those of one target.
pub(super) fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "backup_manifest" => vec![manifest().into_bytes()],
        "command" => [0, 1]
            .map(|apply| prefixed(apply, &command().encode()))
            .into(),
        "http_request" => requests(),
        "log_parts" => crate::log::fuzzing::part_seeds(),
        "log_segments" => segments(),
        "peer_message" => messages(),
        "peers_file" => [0, 1]
            .map(|sealed| prefixed(sealed, &crate::raft::fuzzing::peers_copy()))
            .into(),
        "raft_payload" => payloads(),
        "rdf_upload" => documents(),
        "snapshot" => vec![prefixed(0, SNAPSHOT), prefixed(1, &frames())],
        "sparql_query" => QUERIES
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect(),
        "sparql_update" => updates(),
        "store_records" => vec![crate::state::fuzzing::records_seed()],
        "twin" => twins(),
        _ => Vec::new(),
    }
}

fn prefixed(byte: u8, bytes: &[u8]) -> Vec<u8> {
    [&[byte], bytes].concat()
}

fn manifest() -> String {
    format!(
        r#"{{"format_version":1,"cluster_uuid":"{}","node_id":"00000000000000ff","log_term":2,
        "log_index":17,"digest":"{}","quads":4,"bytes":597,"sha256":"{}"}}"#,
        Uuid::from_u128(0x11),
        "0a".repeat(32),
        "0b".repeat(32)
    )
}

fn example(name: &str) -> NamedNode {
    NamedNode::new_unchecked(format!("http://example.com/{name}"))
}

fn command() -> Command {
    let quad = |object: oxrdf::Term| Quad::new(example("a"), example("p"), object, example("g"));
    let effects = Effects {
        deletes: vec![quad(example("b").into()), quad(example("c").into())],
        dropped_graphs: vec![oxrdf::GraphName::DefaultGraph, example("g").into()],
        created_graphs: vec![
            example("h").into(),
            BlankNode::new_unchecked("named").into(),
        ],
        inserts: vec![
            quad(Literal::new_simple_literal("plain").into()),
            quad(Literal::new_language_tagged_literal_unchecked("wort", "de").into()),
            quad(Literal::from(5).into()),
            quad(BlankNode::new_from_unique_id(7).into()),
        ],
    };
    Command {
        base_index: 300,
        requests: vec![
            (RequestId([7; 16]), effects),
            (RequestId([8; 16]), Effects::default()),
        ],
    }
}

fn membership() -> StoredMembership {
    let member = |name: &str| MemberAddresses {
        peer: format!("{name}:7879"),
        http: format!("{name}:7878"),
    };
    let membership = Membership::new(
        vec![BTreeSet::from([1, 2])],
        BTreeMap::from([(1, member("a")), (2, member("b")), (3, member("c"))]),
    )
    .unwrap();
    let position = LogPosition { term: 3, index: 9 };
    StoredMembership::new(Some(to_log_id(position)), membership)
}

fn payloads() -> Vec<Vec<u8>> {
    let membership = encode_stored_membership(&membership());
    vec![
        vec![0],
        prefixed(1, &command().encode()),
        prefixed(2, &membership),
        prefixed(3, &membership),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let identity = Uuid::from_u128(0x33).to_string();
    let envelope = v1::Envelope {
        cluster_uuid: Uuid::from_u128(0x11).to_string(),
        sender_node_id: 0x44,
        sender_incarnation: Uuid::from_u128(0x55).to_string(),
        sender_boot_count: 2,
        receiver_node_id: 0x22,
        seen_of_receiver: Some(v1::SeenOf {
            incarnation: identity.clone(),
            boot_count: 4,
            vote_term: 5,
            acknowledged_index: 6,
        }),
        sender_vote_term: 3,
        sender_log_end: 7,
        seen_of_others: Vec::new(),
    };
    let log_id = v1::LogId { term: 2, index: 9 };
    let vote = v1::Vote {
        term: 3,
        node_id: 0x44,
        committed: true,
    };
    let responder = v1::Responder {
        node_id: 0x22,
        incarnation: identity,
        boot_count: 4,
        disk_is_short: false,
        vote_term: 3,
        log_end: 7,
    };
    let append = v1::AppendEntriesRequest {
        envelope: Some(envelope.clone()),
        vote: Some(vote),
        previous_log_id: Some(log_id),
        entries: payloads()
            .into_iter()
            .take(3)
            .map(|payload| v1::Entry {
                log_id: Some(log_id),
                payload: payload.into(),
            })
            .collect(),
        leader_committed: Some(log_id),
        freshness: Some(v1::Freshness {
            answered_at: 5,
            quorum_age_ms: Some(3),
            applied_index: 7,
        }),
    };
    let voting = v1::VoteRequest {
        envelope: Some(envelope.clone()),
        vote: Some(vote),
        last_log_id: Some(log_id),
        leadership_transfer: true,
    };
    let fetching = v1::FetchEntriesRequest {
        envelope: Some(envelope.clone()),
        log_ids: vec![log_id, log_id],
    };
    let fetched = v1::FetchEntriesResponse {
        entries: vec![v1::FetchedEntry {
            state: v1::fetched_entry::State::Held.into(),
            payload: Bytes::from_static(b"payload"),
        }],
        responder: Some(responder),
    };
    let write = v1::WriteRequest {
        envelope: Some(envelope),
        request_id: Bytes::from_static(&[1; 16]),
        write: Bytes::from_static(
            br#"{"Add":{"target":{"NamedGraph":"http://example.com/g"},"media_type":"text/turtle","base_iri":null,"body":"AP+A"}}"#,
        ),
        deadline_ms: 1000,
    };
    vec![
        prefixed(0, &append.encode_to_vec()),
        prefixed(1, &voting.encode_to_vec()),
        prefixed(4, &fetching.encode_to_vec()),
        prefixed(5, &fetched.encode_to_vec()),
        prefixed(6, &write.encode_to_vec()),
    ]
}

/// The frames of the stored snapshot, without their checksums.
fn frames() -> Vec<u8> {
    let mut frames = Vec::new();
    let mut rest = &SNAPSHOT[12..];
    while let Some((kind, behind)) = rest.split_first() {
        let length = u32::from_le_bytes(behind[..4].try_into().unwrap()) as usize;
        frames.push(*kind);
        frames.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
        frames.extend_from_slice(&behind[4..4 + length]);
        rest = &behind[4 + length + 32..];
    }
    frames
}

/// The records of a state: what is stored of each, by the numbers of their names.
fn segments() -> Vec<Vec<u8>> {
    let change = |kind: u8, segment: u8, place: u32, rest: &[u8]| {
        [&[kind, segment], place.to_le_bytes().as_slice(), rest].concat()
    };
    let changes = [
        Vec::new(),
        change(0, 0, 8200, &[4, 1, 2, 3, 4]),
        change(1, 0, 4096, &[]),
        change(2, 1, 8192, &[0, 16, 0]),
        change(3, 2, 9000, &[]),
        change(4, 2, 12_288, &[]),
        change(5, 1, 8300, &[3]),
        change(6, 1, 0, &[]),
        [change(1, 2, 4096, &[]), change(5, 2, 8300, &[1])].concat(),
    ];
    [0, 1]
        .into_iter()
        .flat_map(|forged| changes.clone().map(|changes| prefixed(forged, &changes)))
        .collect()
}

fn twins() -> Vec<Vec<u8>> {
    let volume = Path::new("/volume");
    let disk = SimulatedDisk::new();
    disk.create_directory(volume).unwrap();
    let superblock = Superblock {
        node_id: NodeId(0x22),
        incarnation: Uuid::from_u128(0x33),
        cluster_uuid: Uuid::from_u128(0x11),
        boot_count: 4,
        ..Superblock::new(Uuid::nil(), NodeId(0))
    };
    SuperblockFile::create(&disk, volume, superblock).unwrap();
    let file_system: crate::disk::SharedFileSystem = std::sync::Arc::new(disk.clone());
    let (mut vote, _) =
        VoteFile::open(file_system, volume, crate::disk::OpenMode::ReadWrite).unwrap();
    vote.save(StoredVote {
        term: 3,
        candidate: NodeId(0x22),
        committed: true,
    })
    .unwrap();
    let mut seeds = Vec::new();
    for (path, kind, payload) in [
        (SuperblockFile::path(volume), 0, 58_usize),
        (VoteFile::path(volume), flag::VOTE, 17),
    ] {
        let copy = disk.read(&path).unwrap()[..24 + payload + 4].to_vec();
        for flags in [kind, kind | flag::SEAL, kind | flag::SHORT] {
            let length = u16::try_from(copy.len()).unwrap().to_le_bytes();
            seeds.push([&[flags], length.as_slice(), &copy, &copy].concat());
        }
    }
    seeds
}

const QUERIES: [&str; 12] = [
    "SELECT * { ?s ?p ?o }",
    "ASK { <a> <b> 'c'@en }",
    "DESCRIBE <http://example.com/>",
    "CONSTRUCT { ?s ?p _:b } WHERE { GRAPH ?g { ?s ?p ?o } } LIMIT 5 OFFSET 2",
    "PREFIX : <http://example.com/> SELECT DISTINCT ?a (COUNT(*) AS ?n) FROM :g FROM NAMED :h \
     { ?a (:p/^:q|!(:r|^:s))* ?b OPTIONAL { ?b :t ?c FILTER(?c > 3 && !BOUND(?d)) } } \
     GROUP BY ?a HAVING(SUM(?n) > 1) ORDER BY DESC(?n)",
    "SELECT * { { ?a ?b ?c } UNION { ?c ?b ?a } MINUS { ?a <x> 1.5e3 } }",
    "SELECT (IF(?x IN (1, 2.0, 'a'), STR(?x), COALESCE(?y, 1/0)) AS ?z) { VALUES (?x ?y) { (1 UNDEF) } }",
    "SELECT * { ?s ?p ?o FILTER NOT EXISTS { ?o ?p ?s . FILTER EXISTS { ?s ?q ?o } } }",
    "SELECT * { SERVICE SILENT <http://example.com/sparql> { ?s ?p ?o } }",
    "SELECT * { GRAPH <urn:quadraft:reserved> { ?s ?p ?o } }",
    "SELECT * { { SELECT ?s { ?s ?p ?o } LIMIT 1 } BIND(NOW() AS ?now) }",
    "SELECT * { [ <p> ( 1 2 [] ) ; <q> '''long''' , \"it\\u0041\" ] . # ((((\n }",
];

fn updates() -> Vec<Vec<u8>> {
    let mut updates: Vec<Vec<u8>> = [
        "PREFIX : <http://example.com/> DELETE { ?s :p ?o } INSERT { GRAPH :g { ?s :p [] } } \
         USING :g WHERE { ?s :p ?o FILTER(?o = 1) }",
        "WITH <http://example.com/g> DELETE WHERE { ?s ?p ?o }",
        "LOAD <http://example.com/document> INTO GRAPH <http://example.com/g>",
        "COPY DEFAULT TO GRAPH <http://example.com/g>; MOVE SILENT <a:b> TO DEFAULT; ADD <a:b> TO <a:c>",
        "CREATE GRAPH <a:b>; DROP ALL; CLEAR NAMED; DROP SILENT GRAPH <a:b>",
        "INSERT { ?s ?p ?u } WHERE { ?s ?p ?o BIND(UUID() AS ?u) BIND(RAND() AS ?r) }",
        "INSERT DATA { GRAPH <urn:quadraft:reserved> { <a:b> <a:c> 1 } }",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sparql11-update");
    for group in [
        "basic-update",
        "delete-insert",
        "add",
        "move",
        "clear",
        "delete",
    ] {
        let mut paths: Vec<_> = std::fs::read_dir(folder.join(group))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "ru"))
            .collect();
        paths.sort();
        updates.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
    }
    updates
}

fn documents() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 7] = [
        (
            0,
            "@prefix : <http://example.com/> . :a :p 1 , 'x'@en , \"y\"^^:t ; :q [ :r ( 1 2.5 true ) ] .",
        ),
        (1, "<a:b> <a:c> \"d\\u0041\\n\" .\n_:x <a:c> _:y .\n"),
        (2, "<a:b> <a:c> <a:d> <a:g> .\n<a:b> <a:c> <a:d> _:g .\n"),
        (
            3,
            "@base <http://example.com/> . GRAPH <g> { <a> a <b> } { <c> <d> '''e''' }",
        ),
        (
            4,
            r#"<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="http://example.com/"><rdf:Description rdf:about="a"><e:p rdf:datatype="http://example.com/t">1</e:p><e:q rdf:parseType="Collection"><e:C/></e:q></rdf:Description></rdf:RDF>"#,
        ),
        (
            5,
            r#"{"@context":{"p":"http://example.com/p","@vocab":"http://example.com/"},"@id":"a:b","p":[1,{"@value":"x","@language":"en"},{"@list":[true,null]}],"@graph":[{"@id":"_:c","q":{"@id":"a:d"}}]}"#,
        ),
        (
            6,
            "@prefix : <http://example.com/> . { :a :b :c } => { :d :e :f } .",
        ),
    ];
    texts
        .iter()
        .flat_map(|(format, text)| {
            // Into the dataset, the default graph, a named graph; added, replaced.
            [0, 7, 14, 0x80 + 3].map(|target| {
                let kind = if target >= 0x80 {
                    // The smallest number from 128 on that names the same format.
                    (128..=255_u8).find(|kind| kind % 7 == *format).unwrap()
                } else {
                    target + format
                };
                prefixed(kind, text.as_bytes())
            })
        })
        .collect()
}

fn requests() -> Vec<Vec<u8>> {
    // The method and then the path, by their numbers in the target.
    let kind = |method: u8, path: u8| method + 6 * path;
    let request = |kind: u8, text: &str| prefixed(kind, text.as_bytes());
    vec![
        request(
            kind(0, 0),
            "query=ASK+%7B%7D&default-graph-uri=http://example.com/g\naccept: application/sparql-results+xml;q=0.5, text/*\nquadraft-consistency: session\nquadraft-minimum-index: 7\n\n",
        ),
        request(
            kind(1, 0),
            "\ncontent-type: application/sparql-query\naccept: text/csv\n\nSELECT * { ?s ?p ?o }",
        ),
        request(
            kind(1, 2),
            "\ncontent-type: application/x-www-form-urlencoded; charset=UTF-8\n\nquery=SELECT+*+%7B+%3Fs+%3Fp+%3Fo+%7D",
        ),
        request(
            kind(1, 1),
            "using-graph-uri=http://example.com/g\ncontent-type: application/sparql-update\nidempotency-key: order-1\n\nINSERT DATA { <a:b> <a:c> 1 }",
        ),
        request(
            kind(1, 1),
            "\ncontent-type: application/x-www-form-urlencoded\norigin: http://localhost\nhost: localhost\n\nupdate=CLEAR+ALL",
        ),
        request(
            kind(2, 3),
            "graph=http://example.com/g\ncontent-type: text/turtle\nsec-fetch-site: none\n\n<a:b> <a:c> 'd' .",
        ),
        request(kind(0, 3), "default\naccept: text/turtle\n\n"),
        request(kind(3, 3), "graph=http://example.com/g\n\n"),
        request(kind(4, 3), "\naccept: application/n-quads\n\n"),
        request(kind(0, 4), "\n\n"),
        request(kind(0, 5), "\n\n"),
        request(kind(5, 0), "\norigin: http://example.com\n\n"),
    ]
}
