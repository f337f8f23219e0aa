//! One writer: evaluates waiting writes together and commits them as one entry.
//!
//! A command says on which state it was evaluated (`base_index`). Should another leader's command
//! come in between, applying notices it, changes nothing, and the group is evaluated again. So the
//! outcome is that of evaluating all writes one after another, whoever leads.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::contact::leads;
use super::failure::{Committed, WriteFailure};
use super::space::Space;
use super::state_machine::StateMachine;
use super::types::{Applied, EncodedCommand, TypeConfig};
use crate::sparql::update::{Evaluated, EvaluationLimits, Write, WriteError, evaluate_group};
use crate::state::{Command, Outcome, RequestId, State};

/// Writes that may wait; more are answered as overloaded.
const QUEUE_WRITES: usize = 4096;
/// Writes evaluated and committed together.
const MAXIMUM_GROUP_WRITES: usize = 1024;
const MAXIMUM_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// What the writer answers to one write.
#[derive(Clone, Debug)]
pub(crate) enum WriterAnswer {
    Committed(Committed),
    Failed(WriteFailure),
    /// Not proposed: this node does not lead. Asking the leader may succeed.
    NotLeader,
    /// It was proposed, but another leader took over: asking again with the same id tells.
    Lost,
}

struct Waiting {
    id: RequestId,
    write: Write,
    deadline: Instant,
    answer: oneshot::Sender<WriterAnswer>,
    claim: Claim,
}

/// Decides once whether a write is proposed or given up, whichever comes first.
#[derive(Clone, Debug, Default)]
struct Claim(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const EVALUATING: u8 = 1;
const PROPOSED: u8 = 2;
const GIVEN_UP: u8 = 3;

/// Up to where a write had come when it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenUp {
    InTheQueue,
    WhileEvaluated,
    /// Too late: it is proposed.
    Not,
}

impl Claim {
    /// The write is evaluated, unless it was given up.
    fn evaluate(&self) -> bool {
        let seen = self
            .0
            .compare_exchange(QUEUED, EVALUATING, Ordering::SeqCst, Ordering::SeqCst);
        seen != Err(GIVEN_UP)
    }

    /// Whether the write is proposed: no, when it was given up before.
    fn propose(&self) -> bool {
        let seen =
            self.0
                .compare_exchange(EVALUATING, PROPOSED, Ordering::SeqCst, Ordering::SeqCst);
        seen != Err(GIVEN_UP)
    }

    /// The write is given up, unless it is proposed already.
    fn give_up(&self) -> GivenUp {
        for (from, given_up) in [
            (QUEUED, GivenUp::InTheQueue),
            (EVALUATING, GivenUp::WhileEvaluated),
        ] {
            let seen = self
                .0
                .compare_exchange(from, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst);
            if seen.is_ok() {
                return given_up;
            }
        }
        GivenUp::Not
    }
}

/// The queue of the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
    leading: Leading,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Tells whether this node leads and hears from a majority.
#[derive(Clone)]
struct Leading {
    raft: openraft::Raft<TypeConfig, StateMachine>,
    space: Space,
    election_timeout: Duration,
}

impl Leading {
    fn check(&self) -> Result<(), WriterAnswer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.running_state.is_err() {
            return Err(WriterAnswer::Failed(WriteFailure::Stopped));
        }
        // A leader that does not hear from a majority proposes nothing: the outcome would be
        // unknown, while now it is known that nothing was changed.
        if !leads(&metrics, self.election_timeout) {
            return Err(WriterAnswer::NotLeader);
        }
        match self.space.refusal() {
            Some(reason) => Err(WriterAnswer::Failed(WriteFailure::DiskFull(reason))),
            None => Ok(()),
        }
    }
}

impl Writer {
    pub(crate) fn start(
        raft: openraft::Raft<TypeConfig, StateMachine>,
        state: Arc<State>,
        limits: EvaluationLimits,
        space: Space,
        election_timeout: Duration,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_WRITES);
        let leading = Leading {
            raft,
            space,
            election_timeout,
        };
        let worker = Worker {
            leading: leading.clone(),
            state,
            limits,
        };
        tokio::spawn(worker.run(waiting));
        Self { queue, leading }
    }

    /// Has a write evaluated and committed by this node as the leader.
    pub(crate) async fn write(
        &self,
        id: RequestId,
        write: Write,
        deadline: Instant,
    ) -> WriterAnswer {
        // A proposal without a majority waits for as long as that is away. What comes after it does
        // not queue behind it.
        if let Err(answer) = self.leading.check() {
            return answer;
        }
        let entered = Instant::now();
        let (answer, answered) = oneshot::channel();
        let claim = Claim::default();
        let waiting = Waiting {
            id,
            write,
            deadline,
            answer,
            claim: claim.clone(),
        };
        match self.queue.try_send(waiting) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return WriterAnswer::Failed(WriteFailure::Overloaded);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return WriterAnswer::Failed(WriteFailure::Stopped);
            }
        }
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => WriterAnswer::Failed(WriteFailure::Stopped),
            Err(_) => match claim.give_up() {
                GivenUp::InTheQueue => match self.leading.check() {
                    Ok(()) => WriterAnswer::Failed(WriteFailure::Overloaded),
                    Err(answer) => answer,
                },
                GivenUp::WhileEvaluated => {
                    let timeout_ms =
                        u64::try_from(entered.elapsed().as_millis()).unwrap_or(u64::MAX);
                    WriterAnswer::Failed(WriteFailure::Rejected(WriteError::TimedOut {
                        timeout_ms,
                    }))
                }
                GivenUp::Not => WriterAnswer::Failed(WriteFailure::OutcomeUnknown),
            },
        }
    }
}

struct Worker {
    leading: Leading,
    state: Arc<State>,
    limits: EvaluationLimits,
}

fn size_bytes(write: &Write) -> usize {
    match write {
        Write::Update { text, .. } => text.len(),
        Write::Add { body, .. } | Write::Replace { body, .. } => body.len(),
        Write::Delete { .. } => 0,
    }
}

impl Worker {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut held_back: Option<Waiting> = None;
        loop {
            let first = match held_back.take() {
                Some(first) => first,
                None => match waiting.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut bytes = size_bytes(&first.write);
            let mut keys = HashSet::from([first.id.key()]);
            let mut group = vec![first];
            while group.len() < MAXIMUM_GROUP_WRITES && bytes < MAXIMUM_GROUP_BYTES {
                let Ok(next) = waiting.try_recv() else { break };
                // The same request twice at once: the second is answered once the first is applied.
                if !keys.insert(next.id.key()) {
                    held_back = Some(next);
                    break;
                }
                bytes += size_bytes(&next.write);
                group.push(next);
            }
            // Nobody has an answer yet, so that any order will do. In this one, requests whose ids
            // follow each other are remembered together.
            group.sort_unstable_by_key(|waiting| waiting.id);
            self.commit(group).await;
        }
    }

    async fn commit(&self, mut group: Vec<Waiting>) {
        loop {
            // Who gave up was told that nothing was changed: that must stay true. Who stopped
            // waiting for a proposal was told that the outcome is unknown.
            let now = Instant::now();
            group.retain(|waiting| {
                waiting.claim.evaluate() && waiting.deadline > now && !waiting.answer.is_closed()
            });
            if group.is_empty() {
                return;
            }
            if let Err(answer) = self.leading.check() {
                answer_all(group, &answer);
                return;
            }
            let Some((command, places)) = self.evaluate(&mut group).await else {
                return;
            };
            let all = group.len();
            group.retain(|waiting| waiting.claim.propose());
            if group.len() < all {
                // The others are evaluated without what was given up meanwhile.
                continue;
            }
            match self.propose(&command).await {
                Proposed::Applied(outcomes) => {
                    for (waiting, (place, created)) in group.into_iter().zip(places) {
                        let answer = outcomes.get(place).map_or(
                            WriterAnswer::Failed(WriteFailure::OutcomeUnknown),
                            |outcome| {
                                WriterAnswer::Committed(Committed {
                                    log_index: outcome.log_index,
                                    duplicate: outcome.duplicate,
                                    created,
                                })
                            },
                        );
                        let _ = waiting.answer.send(answer);
                    }
                    return;
                }
                Proposed::Conflict => {}
                Proposed::Failed(answer) => {
                    answer_all(group, &answer);
                    return;
                }
            }
        }
    }

    /// Evaluates the group; answers those that need no proposal, and leaves the others with their
    /// places in the command, and whether each creates the graph that it names.
    async fn evaluate(&self, group: &mut Vec<Waiting>) -> Option<(Command, Vec<(usize, bool)>)> {
        let writes: Vec<(RequestId, Write)> = group
            .iter()
            .map(|waiting| (waiting.id, waiting.write.clone()))
            .collect();
        let state = self.state.clone();
        let limits = self.limits;
        let evaluated =
            tokio::task::spawn_blocking(move || evaluate_group(&state, &writes, limits)).await;
        let evaluation = match evaluated {
            Ok(Ok(evaluation)) => evaluation,
            // Another member can evaluate them: this one is about to end.
            Ok(Err(error)) if error.is_damage() => {
                answer_all(std::mem::take(group), &WriterAnswer::NotLeader);
                return None;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to evaluate a group of writes");
                let message = error.to_string();
                let failure =
                    WriteFailure::Rejected(crate::sparql::update::WriteError::Storage { message });
                answer_all(std::mem::take(group), &WriterAnswer::Failed(failure));
                return None;
            }
            Err(error) => {
                tracing::error!(%error, "evaluating a group of writes was broken off");
                let message = "the evaluation was broken off".to_owned();
                let failure =
                    WriteFailure::Rejected(crate::sparql::update::WriteError::Storage { message });
                answer_all(std::mem::take(group), &WriterAnswer::Failed(failure));
                return None;
            }
        };
        let mut remaining = Vec::new();
        let mut places = Vec::new();
        for (waiting, answer) in std::mem::take(group).into_iter().zip(evaluation.answers) {
            match answer {
                Ok(Evaluated::Proposed { place, created }) => {
                    remaining.push(waiting);
                    places.push((place, created));
                }
                Err(WriteError::StoreDamaged) => {
                    let _ = waiting.answer.send(WriterAnswer::NotLeader);
                }
                Ok(Evaluated::Duplicate { log_index }) => {
                    let committed = Committed {
                        log_index,
                        duplicate: true,
                        created: false,
                    };
                    let _ = waiting.answer.send(WriterAnswer::Committed(committed));
                }
                Err(error) => {
                    let _ = waiting
                        .answer
                        .send(WriterAnswer::Failed(WriteFailure::Rejected(error)));
                }
            }
        }
        *group = remaining;
        evaluation.command.map(|command| (command, places))
    }

    async fn propose(&self, command: &Command) -> Proposed {
        let encoded = EncodedCommand(Bytes::from(command.encode()));
        match self.leading.raft.client_write(encoded).await {
            Ok(response) => match response.data {
                Applied(Outcome::Applied(outcomes)) => Proposed::Applied(outcomes),
                Applied(Outcome::Conflict | Outcome::Nothing) => Proposed::Conflict,
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Proposed::Failed(WriterAnswer::NotLeader)
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Proposed::Failed(WriterAnswer::Lost)
            }
            Err(RaftError::APIError(error)) => {
                tracing::error!(%error, "the proposal was refused");
                Proposed::Failed(WriterAnswer::Failed(WriteFailure::OutcomeUnknown))
            }
            Err(RaftError::Fatal(error)) => {
                tracing::error!(%error, "the Raft core has stopped");
                Proposed::Failed(WriterAnswer::Failed(WriteFailure::OutcomeUnknown))
            }
        }
    }
}

enum Proposed {
    Applied(Vec<crate::state::RequestOutcome>),
    Conflict,
    Failed(WriterAnswer),
}

fn answer_all(group: Vec<Waiting>, answer: &WriterAnswer) {
    for waiting in group {
        let _ = waiting.answer.send(answer.clone());
    }
}
