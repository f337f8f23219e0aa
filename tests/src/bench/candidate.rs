//! A program that appends batches when it is told to.

use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

/// `NAME=PROGRAM ARGUMENTS`: how a candidate is called and started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateSpecification {
    pub name: String,
    pub command: Vec<String>,
}

impl FromStr for CandidateSpecification {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not NAME=PROGRAM ARGUMENTS"))?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || command.is_empty() {
            return Err(format!("`{text}` has no name or no program"));
        }
        Ok(Self {
            name: name.to_owned(),
            command,
        })
    }
}

/// Why a candidate gave no figure.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    #[error("{name} cannot be started")]
    Start { name: String, source: io::Error },
    #[error("{name} does not answer; what it said stands above")]
    Gone { name: String, source: io::Error },
    #[error("{name} answered `{answer}` instead of nanoseconds")]
    Answer { name: String, answer: String },
}

/// A running candidate. It is ended when this is dropped.
#[derive(Debug)]
pub struct Candidate {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Candidate {
    /// Starts `PROGRAM ARGUMENTS FOLDER PAYLOAD_BYTES`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        specification: &CandidateSpecification,
        folder: &Path,
        payload_bytes: usize,
    ) -> Result<Self, CandidateError> {
        let failed = |source| CandidateError::Start {
            name: specification.name.clone(),
            source,
        };
        let mut child = Command::new(&specification.command[0])
            .args(&specification.command[1..])
            .arg(folder)
            .arg(payload_bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let missing = || failed(io::Error::other("it has no pipes"));
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            name: specification.name.clone(),
            child,
            input: Some(input),
            output: BufReader::new(output),
        })
    }

    /// Has one batch of `entries` appended; the time until it was durable, by the candidate's own
    /// clock.
    ///
    /// # Errors
    /// When the program has ended, or answers something else.
    pub fn append(&mut self, entries: usize) -> Result<Duration, CandidateError> {
        let mut answer = String::new();
        let mut exchange = || -> io::Result<usize> {
            let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            writeln!(input, "{entries}")?;
            input.flush()?;
            self.output.read_line(&mut answer)
        };
        let read = exchange().map_err(|source| CandidateError::Gone {
            name: self.name.clone(),
            source,
        })?;
        if read == 0 {
            return Err(CandidateError::Gone {
                name: self.name.clone(),
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        let nanoseconds = answer.trim().parse().map_err(|_| CandidateError::Answer {
            name: self.name.clone(),
            answer: answer.trim().to_owned(),
        })?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CandidateSpecification {
        CandidateSpecification {
            name: "shell".to_owned(),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        }
    }

    #[test]
    fn answers_are_nanoseconds_and_an_end_is_an_error() {
        let specification = shell("read count; echo $((count * 1000)); read count; echo no");
        let mut candidate = Candidate::start(&specification, Path::new("x"), 1).unwrap();
        assert_eq!(candidate.append(7).unwrap(), Duration::from_micros(7));
        assert!(matches!(
            candidate.append(1),
            Err(CandidateError::Answer { .. })
        ));
        assert!(matches!(
            candidate.append(1),
            Err(CandidateError::Gone { .. })
        ));
    }

    #[test]
    fn a_specification_has_a_name_and_a_program() {
        let specification: CandidateSpecification = "log=program --with argument".parse().unwrap();
        assert_eq!(specification.name, "log");
        assert_eq!(specification.command, ["program", "--with", "argument"]);
        for text in ["log", "=program", "log="] {
            assert!(text.parse::<CandidateSpecification>().is_err(), "{text}");
        }
    }
}
