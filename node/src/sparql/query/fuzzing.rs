//! Fuzzing of what stands before the evaluation of a query.

#![allow(clippy::expect_used)]

use std::sync::OnceLock;
use std::thread;

use super::QueryLimits;
use super::engine::STACK_BYTES;
use super::format::{ResultKind, negotiate};
use super::parse::{QueryText, parse};
use crate::sparql::evaluation::{self, Switch};
use crate::state::State;

/// A query.
///
/// What the guards let through is parsed and planned on a quarter of the stack that a query has, so
/// that its depth leaves room.
pub fn sparql_query(data: &[u8]) {
    static STATE: OnceLock<State> = OnceLock::new();
    let state = STATE.get_or_init(|| State::in_memory().expect("an empty store opens"));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(STACK_BYTES / 4)
            .spawn_scoped(scope, || {
                let query = QueryText {
                    base_iri: Some("http://example.com/".into()),
                    ..QueryText::new(text)
                };
                let maximum_text_bytes = QueryLimits::default().maximum_text_bytes;
                let Ok(mut query) = parse(&query, maximum_text_bytes) else {
                    return;
                };
                let _format = negotiate(ResultKind::of(&query), None);
                evaluation::prepare(&mut query);
                let view = state.view();
                let reading = view.read().expect("the store can be read");
                let _planned = evaluation::evaluator(&Switch::default())
                    .for_query(query)
                    .on_transaction(reading.transaction())
                    .execute();
            })
            .expect("a thread starts")
            .join()
            .expect("parsing and planning do not panic");
    });
}
