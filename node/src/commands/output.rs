//! What a command says at its end: on stdout, and in the container's termination message.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The kubelet keeps this much of a termination message.
const MAXIMUM_TERMINATION_MESSAGE_BYTES: usize = 4096;

/// Where reports go.
#[derive(Clone, Debug)]
pub(super) struct Output {
    termination_message: Option<PathBuf>,
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    error: &'a str,
}

impl Output {
    pub(super) fn new(termination_message: Option<PathBuf>) -> Self {
        Self {
            termination_message,
        }
    }

    /// Prints a report, and leaves it as the termination message.
    pub(super) fn report(&self, report: &impl Serialize) {
        match serde_json::to_string(report) {
            Ok(json) => self.write(&json),
            Err(error) => tracing::error!(%error, "a report cannot be written as JSON"),
        }
    }

    /// Prints an error, and leaves it as the termination message.
    pub(super) fn error(&self, error: &(dyn std::error::Error + 'static)) {
        let text = crate::describe::describe(error);
        tracing::error!("{text}");
        self.report(&ErrorReport { error: &text });
    }

    fn write(&self, json: &str) {
        // Nobody may be reading; the exit code says the essential.
        let _ = writeln!(std::io::stdout().lock(), "{json}");
        if let Some(path) = &self.termination_message
            && let Err(error) = write_message(path, json)
        {
            tracing::warn!(%error, path = %path.display(), "failed to leave the termination message");
        }
    }
}

fn write_message(path: &Path, json: &str) -> std::io::Result<()> {
    if json.len() <= MAXIMUM_TERMINATION_MESSAGE_BYTES {
        return std::fs::write(path, json);
    }
    std::fs::write(path, shorten(json))
}

/// Cuts the longest lists and texts until the JSON document fits: it stays readable by programs.
fn shorten(json: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(json) else {
        return json
            .chars()
            .take(MAXIMUM_TERMINATION_MESSAGE_BYTES / 4)
            .collect();
    };
    for keep in [8, 2, 0] {
        if let Some(fields) = value.as_object_mut() {
            for field in fields.values_mut() {
                match field {
                    serde_json::Value::Array(items) => {
                        items.truncate(keep);
                        for item in items {
                            shorten_text(item, 200);
                        }
                    }
                    other => shorten_text(other, 1000),
                }
            }
        }
        let shorter = value.to_string();
        if shorter.len() <= MAXIMUM_TERMINATION_MESSAGE_BYTES {
            return shorter;
        }
    }
    "{}".to_owned()
}

fn shorten_text(value: &mut serde_json::Value, maximum_characters: usize) {
    if let serde_json::Value::String(text) = value
        && text.chars().count() > maximum_characters
    {
        *text = text.chars().take(maximum_characters).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_stays_json_and_fits() {
        let long = serde_json::json!({
            "outcome": "refused",
            "message": "x".repeat(9000),
            "corrupted_files": (0..500).map(|index| format!("file {index} {}", "y".repeat(300))).collect::<Vec<_>>(),
        });
        let short = shorten(&long.to_string());
        assert!(short.len() <= MAXIMUM_TERMINATION_MESSAGE_BYTES);
        let read: serde_json::Value = serde_json::from_str(&short).unwrap_or_default();
        assert_eq!(read["outcome"], "refused");
    }
}
