//! How long appending takes, by the number of entries in a batch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::candidate::{Candidate, CandidateError, CandidateSpecification};
use super::median;
use super::table::markdown_table;

/// Rounds before those that count, for each size of batch.
const WARM_UP_ROUNDS: usize = 5;

/// A column that divides the medians of two candidates: `TITLE=DIVIDEND/DIVISOR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ratio {
    pub title: String,
    pub dividend: String,
    pub divisor: String,
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (title, ratio) = text.split_once('=')?;
            let (dividend, divisor) = ratio.split_once('/')?;
            Some(Self {
                title: title.to_owned(),
                dividend: dividend.to_owned(),
                divisor: divisor.to_owned(),
            })
        };
        parts().ok_or_else(|| format!("`{text}` is not TITLE=DIVIDEND/DIVISOR"))
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct AppendPlan {
    /// Each candidate gets a folder of its own in it.
    pub folder: PathBuf,
    pub payload_bytes: usize,
    /// Entries a batch.
    pub batches: Vec<usize>,
    pub rounds: usize,
    pub candidates: Vec<CandidateSpecification>,
    pub ratios: Vec<Ratio>,
}

/// Lets the candidates take turns, round by round, and gives the medians as a table in Markdown,
/// in microseconds, with the ratios behind them. `progress` is told what is being measured.
///
/// # Errors
/// When a candidate fails, or a ratio names one that is not there.
pub fn measure_appends(
    plan: &AppendPlan,
    mut progress: impl FnMut(&str),
) -> Result<String, String> {
    let place = |name: &str| {
        plan.candidates
            .iter()
            .position(|candidate| candidate.name == name)
            .ok_or_else(|| format!("there is no candidate {name}"))
    };
    let mut ratios = Vec::new();
    for ratio in &plan.ratios {
        ratios.push((place(&ratio.dividend)?, place(&ratio.divisor)?));
    }
    let mut running = plan
        .candidates
        .iter()
        .map(|candidate| {
            let folder = plan.folder.join(&candidate.name);
            Candidate::start(candidate, &folder, plan.payload_bytes)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(describe)?;
    let mut rows = Vec::new();
    for entries in &plan.batches {
        progress(&format!(
            "batches of {entries} entries of {} bytes, {} rounds of {} candidates",
            plan.payload_bytes,
            plan.rounds,
            running.len()
        ));
        let medians = medians(&mut running, *entries, plan.rounds).map_err(describe)?;
        let mut row = vec![entries.to_string()];
        row.extend(
            medians
                .iter()
                .map(|median| format!("{:.1}", median.as_secs_f64() * 1e6)),
        );
        row.extend(ratios.iter().map(|(dividend, divisor)| {
            format!(
                "{:.2}",
                medians[*dividend].as_secs_f64() / medians[*divisor].as_secs_f64()
            )
        }));
        rows.push(row);
    }
    let mut heading = vec!["entries a batch".to_owned()];
    heading.extend(
        plan.candidates
            .iter()
            .map(|candidate| candidate.name.clone()),
    );
    heading.extend(plan.ratios.iter().map(|ratio| ratio.title.clone()));
    Ok(markdown_table(&heading, &rows))
}

fn medians(
    candidates: &mut [Candidate],
    entries: usize,
    rounds: usize,
) -> Result<Vec<Duration>, CandidateError> {
    let mut times: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for round in 0..WARM_UP_ROUNDS + rounds {
        // Each round begins with another one: whoever follows a slow one is not always the same.
        for turn in 0..candidates.len() {
            let number = (round + turn) % candidates.len();
            let took = candidates[number].append(entries)?;
            if round >= WARM_UP_ROUNDS {
                times.entry(number).or_default().push(took);
            }
        }
    }
    Ok(times.into_values().map(median).collect())
}

fn describe(error: CandidateError) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn candidate(name: &str, nanoseconds_an_entry: u64) -> CandidateSpecification {
        let script = format!("while read count; do echo $((count * {nanoseconds_an_entry})); done");
        CandidateSpecification {
            name: name.to_owned(),
            command: vec!["sh".to_owned(), "-c".to_owned(), script],
        }
    }

    #[test]
    fn medians_and_their_ratios_stand_in_one_row() {
        let plan = AppendPlan {
            folder: PathBuf::from("unused"),
            payload_bytes: 1,
            batches: vec![1, 10],
            rounds: 3,
            candidates: vec![candidate("slow", 3000), candidate("fast", 1500)],
            ratios: vec!["fast / slow=fast/slow".parse().unwrap()],
        };
        let table = measure_appends(&plan, |_| {}).unwrap();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows[0], "| entries a batch | slow | fast | fast / slow |");
        assert_eq!(rows[2], "| 1 | 3.0 | 1.5 | 0.50 |");
        assert_eq!(rows[3], "| 10 | 30.0 | 15.0 | 0.50 |");
    }

    #[test]
    fn a_ratio_of_somebody_unknown_is_refused() {
        let plan = AppendPlan {
            folder: PathBuf::from("unused"),
            payload_bytes: 1,
            batches: vec![1],
            rounds: 1,
            candidates: vec![candidate("one", 1)],
            ratios: vec!["x=one/two".parse().unwrap()],
        };
        assert!(measure_appends(&plan, |_| {}).unwrap_err().contains("two"));
    }
}
