//! One evaluation by Oxigraph, of a query or of a part of an update: how it is stopped, how much
//! time and memory it may take, and how it learns that the store under it cannot be read.

mod guard;
mod memory;
mod points;
mod unreadable;
mod watchdog;

pub(in crate::sparql) use guard::{Broken, Stop, Switch, evaluator, run};
pub(crate) use watchdog::on_runaway;
pub(in crate::sparql) use watchdog::{Allowance, Watch, watch};

use spargebra::Query;

/// Puts into a query what stops it when it is to stop, and what notices terms of the store that
/// cannot be read. It means the same as before.
pub(in crate::sparql) fn prepare(query: &mut Query) {
    unreadable::insert(query);
    points::insert(query);
}
