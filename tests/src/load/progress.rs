//! Showing how far a load is: a bar on a terminal, lines in a log.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What has been acknowledged so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub quads: u64,
    pub bytes: u64,
}

/// What there is to load, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    Quads(u64),
    Bytes(u64),
    Unknown,
}

impl Total {
    const fn units(self, progress: Progress) -> u64 {
        match self {
            Self::Bytes(_) => progress.bytes,
            Self::Quads(_) | Self::Unknown => progress.quads,
        }
    }

    const fn end(self) -> Option<u64> {
        match self {
            Self::Quads(end) | Self::Bytes(end) => Some(end),
            Self::Unknown => None,
        }
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Progress on standard error.
#[derive(Debug)]
pub struct Display {
    total: Total,
    start: Instant,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Display {
    #[must_use]
    pub fn new(total: Total) -> Self {
        let start = Instant::now();
        Self {
            total,
            start,
            bar: std::io::stderr().is_terminal().then(|| bar(total)),
            last_line: Mutex::new(start),
        }
    }

    pub fn show(&self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.total.units(progress));
            bar.set_message(format!("{} quads", progress.quads));
            return;
        }
        let mut last_line = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= BETWEEN_LINES {
            *last_line = Instant::now();
            let line = plain_line(self.total, progress, self.start.elapsed());
            // Nothing better can be done when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

fn bar(total: Total) -> ProgressBar {
    let (bar, template) = match total.end() {
        Some(end) => (
            ProgressBar::new(end),
            "{elapsed:>4} [{bar:40}] {percent:>3} %  {msg}  ({eta} left)",
        ),
        None => (ProgressBar::new_spinner(), "{elapsed:>4} {spinner} {msg}"),
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.with_style(style)
}

fn plain_line(total: Total, progress: Progress, elapsed: Duration) -> String {
    let rate = progress.quads as f64 / elapsed.as_secs_f64().max(0.001);
    let share = match total.end() {
        Some(end) if end > 0 => {
            format!("{:>3} %  ", (total.units(progress) * 100 / end).min(100))
        }
        _ => String::new(),
    };
    format!("{share}{} quads, {rate:.0} a second", progress.quads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let progress = Progress {
            quads: 5_000,
            bytes: 100,
        };
        let after = Duration::from_secs(2);
        let line = |total| plain_line(total, progress, after);
        assert_eq!(
            line(Total::Quads(20_000)),
            " 25 %  5000 quads, 2500 a second"
        );
        assert_eq!(line(Total::Bytes(200)), " 50 %  5000 quads, 2500 a second");
        assert_eq!(line(Total::Unknown), "5000 quads, 2500 a second");
        assert_eq!(line(Total::Quads(0)), "5000 quads, 2500 a second");
    }
}
