//! The calendar of the data: everything happens before the benchmark's "today".

use jiff::ToSpan as _;
use jiff::civil::{Date, date};

use super::sequence::Sequence;

/// The day on which the queries are asked.
pub(crate) const TODAY: Date = date(2008, 6, 20);

/// A day some days before or after today.
fn away(days: i64) -> Date {
    TODAY.saturating_add(days.days())
}

/// When a type, a feature, a product or a company was published.
pub(crate) fn published(sequence: &mut Sequence) -> Date {
    away(-(sequence.between(100, 2_800) as i64))
}

/// When a review was written.
pub(crate) fn reviewed(sequence: &mut Sequence) -> Date {
    away(-(sequence.between(1, 700) as i64))
}

/// The first and the last day of an offer, around today.
pub(crate) fn validity(sequence: &mut Sequence) -> (Date, Date) {
    let from = -(sequence.between(0, 90) as i64);
    let to = from + sequence.between(10, 180) as i64;
    (away(from), away(to))
}

/// Some days after another day, never after today.
pub(crate) fn soon_after(day: Date, sequence: &mut Sequence) -> Date {
    let days = sequence.between(0, 60) as i64;
    day.saturating_add(days.days()).min(TODAY)
}
