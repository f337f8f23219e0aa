//! Has a volume hold other data than its peers, for the test of what is done about that.
//!
//! Usage: `diverge FOLDER`. The store in the folder is built anew: at the same position in the log,
//! with the same membership, and with one quad more than before. No node may have the volume open.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use oxrdf::{GraphName, NamedNode, Quad};
use quadraft_node::position::LogPosition;
use quadraft_node::state::{Apply, Command, Effects, RequestId, State};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("usage: diverge FOLDER")?;
    let path = PathBuf::from(folder).join("store");
    let (before, mut inserts) = {
        let state = State::open(&path)?;
        let view = state.view();
        let reading = view.read()?;
        let quads: Vec<Quad> = reading.quads().collect::<Result<_, _>>()?;
        (reading.status().clone(), quads)
    };
    let applied = before.applied.ok_or("nothing was applied to it")?;
    if before.data_index != applied.index {
        return Err("the last entry changed no data".into());
    }
    let term = NamedNode::new("urn:quadraft:diverged")?;
    let graph = GraphName::DefaultGraph;
    inserts.push(Quad::new(term.clone(), term.clone(), term, graph));
    std::fs::remove_dir_all(&path)?;
    let state = State::open(&path)?;
    let membership = before.membership.ok_or("it has no membership")?;
    let command = Command {
        base_index: 0,
        requests: vec![(
            RequestId::unique(),
            Effects {
                inserts,
                ..Effects::default()
            },
        )],
    };
    let previous = LogPosition {
        index: applied.index - 1,
        ..applied
    };
    state.apply(&[
        (previous, Apply::Membership(membership)),
        (applied, Apply::Command(command)),
    ])?;
    println!("{applied}: {} instead of {}", state.digest(), before.digest);
    Ok(())
}
