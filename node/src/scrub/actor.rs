//! The thread that scrubs: asks what is next, does it, and notes what became of it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::monitor::ScrubMonitor;
use super::pace::Pace;
use super::parts::{
    IDENTITY_BYTES, LogPart, PartError, scrub_identity, scrub_log, scrub_snapshot, scrub_store,
};
use super::record::{Record, Tally};
use super::schedule::{Part, ScrubOptions, Step, Times, next};
use crate::disk::{Interrupted, Throttle};
use crate::log::LogStore;
use crate::position::LogPosition;
use crate::raft::Node;

/// How long a round waits for peers to give what cannot be read; they are asked on afterwards too.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);
const REPAIR_POLL: Duration = Duration::from_millis(100);
const LET_GO_DEADLINE: Duration = Duration::from_secs(600);
/// The wall clock may jump: it is looked at again after this at the latest.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// Until anything is read, a quad is taken to be so long as a line.
const ESTIMATED_QUAD_BYTES: u64 = 128;

/// Scrubbing goes on as long as this exists.
#[derive(Debug)]
pub struct ScrubHandle {
    _stop: Sender<()>,
}

/// Starts to scrub a node's volume in a thread of its own; `None` when that is switched off. Call
/// it within the node's runtime.
///
/// # Errors
/// When no thread can be started.
pub fn start_scrubbing(node: &Arc<Node>, options: ScrubOptions) -> io::Result<Option<ScrubHandle>> {
    if !options.is_on() {
        return Ok(None);
    }
    let monitor = Arc::<ScrubMonitor>::default();
    node.show_scrub(monitor.clone());
    let (sender, stop) = channel();
    let actor = Actor {
        record: Record::read(node.snapshots().file_system(), node.data()),
        node: node.clone(),
        monitor,
        options,
        runtime: Handle::current(),
        started: Instant::now(),
        failed: None,
        rest: Rest {
            stop,
            pace: Pace::new(options.bytes_per_second),
            started: Instant::now(),
        },
    };
    thread::Builder::new()
        .name("scrub".to_owned())
        .spawn(move || actor.run())?;
    Ok(Some(ScrubHandle { _stop: sender }))
}

/// Waits, until the node stops.
struct Rest {
    stop: Receiver<()>,
    pace: Pace,
    started: Instant,
}

impl Rest {
    fn wait(&self, time: Duration) -> Result<(), Interrupted> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Interrupted),
        }
    }
}

/// Reads at the pace that is set, and shows how far it is.
struct PacedReading<'a> {
    rest: &'a mut Rest,
    monitor: &'a ScrubMonitor,
}

impl Throttle for PacedReading<'_> {
    fn note(&mut self, bytes: u64) -> Result<(), Interrupted> {
        let pause = self.rest.pace.pause(bytes, self.rest.started.elapsed());
        self.rest.wait(pause)?;
        self.monitor.add_bytes(bytes);
        Ok(())
    }
}

struct Actor {
    node: Arc<Node>,
    monitor: Arc<ScrubMonitor>,
    options: ScrubOptions,
    runtime: Handle,
    record: Record,
    started: Instant,
    /// When a part last failed.
    failed: Option<Instant>,
    rest: Rest,
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Actor {
    fn run(mut self) {
        while self.step().is_ok() {}
    }

    fn step(&mut self) -> Result<(), Interrupted> {
        let times = Times {
            now_ms: now_ms(),
            up: self.started.elapsed(),
            since_failure: self.failed.map(|failed| failed.elapsed()),
        };
        match next(&self.record, &self.options, times) {
            Step::Wait(time) => {
                let until_ms = times.now_ms.saturating_add(milliseconds(time));
                self.monitor.show_record(&self.record, Some(until_ms));
                self.rest.wait(time.min(LONGEST_REST))
            }
            Step::Begin => {
                tracing::info!("scrubbing begins");
                self.record.begin(times.now_ms);
                self.keep_record();
                Ok(())
            }
            Step::GoOn(part) => self.go_on(part),
        }
    }

    fn keep_record(&self) {
        self.record
            .write(self.node.snapshots().file_system(), self.node.data());
        self.monitor.show_record(&self.record, None);
    }

    fn go_on(&mut self, part: Part) -> Result<(), Interrupted> {
        match self.scrub(part) {
            Ok(mut tally) => {
                tally.checked_bytes = self.monitor.bytes_done();
                self.failed = None;
                self.tell(part, &tally);
                self.record.finish(part, tally, now_ms());
                self.keep_record();
                Ok(())
            }
            Err(PartError::Interrupted(interrupted)) => Err(interrupted),
            Err(PartError::Failed(error)) => {
                tracing::warn!(
                    part = part.name(),
                    error,
                    "a part is not scrubbed to its end"
                );
                self.failed = Some(Instant::now());
                Ok(())
            }
        }
    }

    fn tell(&self, part: Part, tally: &Tally) {
        for what in &tally.findings {
            tracing::warn!(part = part.name(), what, "scrubbing found damage");
        }
        tracing::info!(
            part = part.name(),
            checked_bytes = tally.checked_bytes,
            checked = tally.checked,
            mended = tally.mended,
            repaired_from_peers = tally.repaired_from_peers,
            unrepairable = tally.unrepairable,
            "scrubbed"
        );
    }

    fn scrub(&mut self, part: Part) -> Result<Tally, PartError> {
        let node = self.node.clone();
        let mut reading = PacedReading {
            rest: &mut self.rest,
            monitor: &self.monitor,
        };
        let total = match part {
            Part::Identity => IDENTITY_BYTES,
            Part::Log => node.log().scrub_extent().1,
            Part::Snapshot => node
                .keeper()
                .current()
                .map_or(0, |snapshot| snapshot.summary().bytes),
            Part::Store => node.state().quads().saturating_mul(ESTIMATED_QUAD_BYTES),
        };
        self.monitor.begin_part(part, total);
        match part {
            Part::Identity => scrub_identity(node.log(), &mut reading),
            Part::Log => {
                let part = scrub_log(node.log(), &mut reading)?;
                Ok(self.await_repair(part)?)
            }
            Part::Snapshot => scrub_snapshot(node.keeper(), &mut reading),
            Part::Store => {
                let mut progress = |done, total| self.monitor.estimate_total(done, total);
                scrub_store(node.state(), &mut reading, &mut progress)
            }
        }
    }

    /// Waits for peers to give what cannot be read. What they do not give, and what has lost its
    /// name, is needed no more once a snapshot stands for it.
    fn await_repair(&self, part: LogPart) -> Result<Tally, Interrupted> {
        let LogPart {
            mut tally,
            unreadable,
            lost,
        } = part;
        let log = self.node.log();
        let until = Instant::now() + REPAIR_PATIENCE;
        let mut missing = still_missing(log, &unreadable);
        while !missing.is_empty() && self.node.has_other_members() && Instant::now() < until {
            self.rest.wait(REPAIR_POLL)?;
            missing = still_missing(log, &unreadable);
        }
        for entry in unreadable.iter().filter(|entry| !missing.contains(entry)) {
            tally.repaired(format!("entry {entry}, from a peer"));
        }
        let through = lost
            .iter()
            .filter_map(|lost| lost.through_index)
            .chain(missing.iter().map(|entry| entry.index))
            .max();
        if let Some(through) = through
            && let Err(error) = self
                .runtime
                .block_on(self.node.let_go(through, LET_GO_DEADLINE))
        {
            tracing::warn!(through, error, "damaged entries are not let go");
        }
        let still = still_missing(log, &missing);
        for entry in missing {
            if still.contains(&entry) {
                tally.unrepairable(format!("entry {entry} cannot be read, and no peer gave it"));
            } else {
                tally.mended(format!("entry {entry}, for which a snapshot stands now"));
            }
        }
        for lost in lost {
            if log.has_segment(lost.segment) {
                tally.unrepairable(lost.what);
            } else {
                tally.mended(format!(
                    "{}; a snapshot stands for that segment now",
                    lost.what
                ));
            }
        }
        Ok(tally)
    }
}

fn still_missing(log: &LogStore, entries: &[LogPosition]) -> Vec<LogPosition> {
    let unreadable = log.unreadable();
    entries
        .iter()
        .copied()
        .filter(|entry| unreadable.contains(entry))
        .collect()
}
