//! Calls of kubectl.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A call of kubectl that failed.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    #[error("failed to run kubectl")]
    Run(#[from] io::Error),
    #[error("kubectl {arguments}: {message}")]
    Failed { arguments: String, message: String },
    #[error("kubectl {arguments} printed something that is not JSON")]
    Json {
        arguments: String,
        source: serde_json::Error,
    },
}

/// kubectl in one namespace. The program is `$KUBECTL` when that is set.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: String,
    namespace: String,
}

impl Kubectl {
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self {
            program: std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned()),
            namespace: namespace.to_owned(),
        }
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--namespace")
            .arg(&self.namespace)
            .args(arguments);
        command.kill_on_drop(true);
        command
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// With what it wrote on stderr, when it failed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, KubectlError> {
        self.run_with_input(arguments, "").await
    }

    /// As [`Self::run`], with text on its standard input.
    ///
    /// # Errors
    /// With what it wrote on stderr, when it failed.
    pub async fn run_with_input(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, KubectlError> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(KubectlError::Failed {
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Applies a manifest on the server's side, refusing unknown fields.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, manifest: &str) -> Result<(), KubectlError> {
        self.run_with_input(
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "-f",
                "-",
            ],
            manifest,
        )
        .await
        .map(|_| ())
    }

    /// Evicts a pod, as whoever drains a machine does.
    ///
    /// # Errors
    /// When the disruption budget does not allow it, or there is no such pod.
    pub async fn evict(&self, pod: &str) -> Result<(), KubectlError> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}/eviction",
            self.namespace()
        );
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod },
        });
        let arguments = ["create", "--raw", &path, "--filename", "-"];
        self.run_with_input(&arguments, &eviction.to_string())
            .await
            .map(|_| ())
    }

    /// One object, or `None` when there is none.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<Value>, KubectlError> {
        let text = self
            .run(&["get", kind, name, "--ignore-not-found", "-o", "json"])
            .await?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        parse(&format!("get {kind} {name}"), &text).map(Some)
    }

    /// The objects of a kind with a label.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>, KubectlError> {
        let text = self
            .run(&["get", kind, "--selector", selector, "-o", "json"])
            .await?;
        let list = parse(&format!("get {kind}"), &text)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

fn parse(arguments: &str, text: &str) -> Result<Value, KubectlError> {
    serde_json::from_str(text).map_err(|source| KubectlError::Json {
        arguments: arguments.to_owned(),
        source,
    })
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// What was waited for, when the deadline has passed.
pub async fn wait_until<T, F>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T, String>
where
    F: Future<Output = Option<T>>,
{
    let until = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() > until {
            return Err(format!("{what}: not within {deadline:?}"));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
