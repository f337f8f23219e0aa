//! Evaluating a group of writes, each on top of those before it.

use std::collections::HashMap;

use super::budget::Budget;
use super::upload::{self, Document};
use super::workspace::Workspace;
use super::{EvaluationLimits, Write, WriteError, operations};
use crate::state::{Command, RequestId, RequestKey, State, StateError};

/// What became of one write of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// Its effects are the request at this place of the command.
    Proposed {
        /// The place in [`Command::requests`].
        place: usize,
        /// The graph that an upload names did not exist before it.
        created: bool,
    },
    /// A write of this id was applied before: nothing is proposed for it.
    Duplicate {
        /// The entry that applied it.
        log_index: u64,
    },
}

/// A command to propose and an answer to each write.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The effects of all writes that succeeded, `None` if there are none.
    pub command: Option<Command>,
    /// One answer for each write, in the same order.
    pub answers: Vec<Result<Evaluated, WriteError>>,
}

/// Evaluates writes in order on the latest state. Each sees the effects of those before it; one
/// that is refused changes nothing and the others go on.
///
/// Blocks, and needs a stack of some size: see [`EVALUATION_STACK_BYTES`].
pub fn evaluate_group(
    state: &State,
    writes: &[(RequestId, Write)],
    limits: EvaluationLimits,
) -> Result<Evaluation, StateError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("update".into())
            .stack_size(EVALUATION_STACK_BYTES)
            .spawn_scoped(scope, || evaluate_here(state, writes, limits))
            .map_err(StateError::io("could not start a thread"))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Parsing and planning recurse into the text of an update. Only what is used of this takes memory.
pub(super) const EVALUATION_STACK_BYTES: usize = 256 << 20;

pub(super) fn evaluate_here(
    state: &State,
    writes: &[(RequestId, Write)],
    limits: EvaluationLimits,
) -> Result<Evaluation, StateError> {
    let view = state.view();
    let mut workspace = Workspace::new(view.read()?);
    let base_index = workspace.status().data_index;
    let mut requests = Vec::new();
    let mut places: HashMap<RequestKey, (RequestId, Evaluated)> = HashMap::new();
    let mut answers = Vec::with_capacity(writes.len());
    for (number, (id, write)) in writes.iter().enumerate() {
        let earlier = places
            .get(&id.key())
            .map(|(earlier, evaluated)| (*earlier, *evaluated))
            .or_else(|| {
                let (earlier, outcome) = state.request_outcome(*id)?;
                let log_index = outcome.log_index;
                Some((earlier, Evaluated::Duplicate { log_index }))
            });
        if let Some((earlier, evaluated)) = earlier {
            answers.push(if earlier == *id {
                Ok(evaluated)
            } else {
                Err(WriteError::KeyReused)
            });
            continue;
        }
        let another_follows = number + 1 < writes.len();
        let evaluated = evaluate(write, &mut workspace, limits)
            .and_then(|created| Ok((workspace.finish(another_follows)?, created)));
        match evaluated {
            Ok((effects, created)) => {
                let evaluated = Evaluated::Proposed {
                    place: requests.len(),
                    created,
                };
                requests.push((*id, effects));
                places.insert(id.key(), (*id, evaluated));
                answers.push(Ok(evaluated));
            }
            Err(error) => {
                // Without a clean ground the rest of the group cannot be evaluated either.
                workspace.abandon().map_err(|error| {
                    StateError::Inconsistent(format!("an evaluation could not be undone: {error}"))
                })?;
                answers.push(Err(error));
            }
        }
    }
    let command = (!requests.is_empty()).then_some(Command {
        base_index,
        requests,
    });
    Ok(Evaluation { command, answers })
}

/// Evaluates one write; tells whether the graph that it names did not exist before.
fn evaluate(
    write: &Write,
    workspace: &mut Workspace<'_>,
    limits: EvaluationLimits,
) -> Result<bool, WriteError> {
    let mut budget = Budget::new(limits);
    let _watch = budget.watch();
    match write {
        Write::Update {
            text,
            base_iri,
            using_graphs,
        } => {
            let update = operations::parse(text, base_iri.as_deref(), using_graphs.as_ref())?;
            operations::evaluate(update, workspace, &mut budget)?;
            Ok(false)
        }
        Write::Add {
            target,
            media_type,
            base_iri,
            body,
        } => upload::add(
            &Document {
                target,
                media_type,
                base_iri: base_iri.as_deref(),
                body,
            },
            workspace,
            &mut budget,
        ),
        Write::Replace {
            target,
            media_type,
            base_iri,
            body,
        } => upload::replace(
            &Document {
                target,
                media_type,
                base_iri: base_iri.as_deref(),
                body,
            },
            workspace,
            &mut budget,
        ),
        Write::Delete { target } => {
            upload::delete(target, workspace, &mut budget)?;
            Ok(false)
        }
    }
}
