//! Fuzzing of writes: updates and documents.

#![allow(clippy::expect_used)]

use std::thread;
use std::time::Duration;

use super::group::{EVALUATION_STACK_BYTES, evaluate_here};
use super::{EvaluationLimits, Target, Write};
use crate::fuzzing::Input;
use crate::state::{Apply, Command, LogPosition, RequestId, State};

/// Small, so that a case does not take long.
const LIMITS: EvaluationLimits = EvaluationLimits {
    maximum_effect_quads: 10_000,
    maximum_effect_bytes: 1 << 20,
    timeout: Duration::from_millis(500),
    // Other threads of the process take memory too.
    maximum_growth_bytes: u64::MAX,
};

const DATA: &str = "PREFIX : <http://example.com/> \
    INSERT DATA { :a :p :b , 1 , 'x'@en . GRAPH :g { :a :p _:c . :b :q 2 } } ; CREATE GRAPH :empty";

/// A SPARQL update.
pub fn sparql_update(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        write(update(text));
    }
}

/// An RDF document: a byte for its format and where it goes, and the document.
pub fn rdf_upload(data: &[u8]) {
    const MEDIA_TYPES: [&str; 7] = [
        "text/turtle",
        "application/n-triples",
        "application/n-quads",
        "application/trig",
        "application/rdf+xml",
        "application/ld+json",
        "text/n3",
    ];
    let mut input = Input::new(data);
    let kind = input.byte();
    let target = match kind / 7 % 3 {
        0 => Target::Dataset,
        1 => Target::DefaultGraph,
        _ => Target::NamedGraph("http://example.com/g".into()),
    };
    let media_type = MEDIA_TYPES[usize::from(kind % 7)].into();
    let base_iri = Some("http://example.com/".into());
    let body = input.rest().to_vec();
    write(if kind & 0x80 == 0 {
        Write::Add {
            target,
            media_type,
            base_iri,
            body,
        }
    } else {
        Write::Replace {
            target,
            media_type,
            base_iri,
            body,
        }
    });
}

fn update(text: &str) -> Write {
    Write::Update {
        text: text.into(),
        base_iri: Some("http://example.com/".into()),
        using_graphs: None,
    }
}

/// Evaluates a write on a small store, on a quarter of the stack that evaluations have.
///
/// Its effects are, written and read, the same; they leave the reserved graph alone; they can be
/// applied, and then the digest that is kept is that of the data.
fn write(write: Write) {
    let state = State::in_memory().expect("an empty store opens");
    let command = evaluate(&state, update(DATA)).expect("the data is evaluated");
    apply(&state, 1, command);
    let Some(command) = evaluate(&state, write) else {
        return;
    };
    assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
    for (_, effects) in &command.requests {
        assert!(!effects.touch_reserved_graph(), "{effects:?}");
    }
    apply(&state, 2, command);
    let (digest, quads, _) = state.recompute().expect("the store can be read");
    assert_eq!((digest, quads), (state.digest(), state.quads()));
}

fn evaluate(state: &State, write: Write) -> Option<Command> {
    let writes = [(RequestId::unique(), write)];
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(EVALUATION_STACK_BYTES / 4)
            .spawn_scoped(scope, || evaluate_here(state, &writes, LIMITS))
            .expect("a thread starts")
            .join()
            .expect("an evaluation does not panic")
    })
    .expect("the store can be read")
    .command
}

fn apply(state: &State, index: u64, command: Command) {
    let position = LogPosition { term: 1, index };
    state
        .apply(&[(position, Apply::Command(command))])
        .expect("effects can be applied");
}
