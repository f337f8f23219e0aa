//! One node process.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use quadraft_protocol::{AdminConnection, v1};
use serde_json::Value;
use tokio::process::{Child, Command};

/// Where the programs are: beside the program that runs, or, for a test, one folder above it, as
/// cargo builds them.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let running = std::env::current_exe().unwrap_or_default();
    running
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// `count` pairs of neighbouring ports that nobody listens on at the moment, the first of each.
///
/// They lie below the ports that the system gives to outgoing connections: a node that is killed
/// and started again must find its port as it left it.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = rand::random_range(16_000..32_000_u16);
        let Ok(first) = TcpListener::bind(("127.0.0.1", port)) else {
            continue;
        };
        let Ok(second) = TcpListener::bind(("127.0.0.1", port + 1)) else {
            continue;
        };
        held.push((first, second));
        ports.push(port);
    }
    ports
}

/// What a command of the node program came to.
#[derive(Debug)]
pub struct RunResult {
    pub exit_code: Option<i32>,
    pub report: Value,
    pub log: String,
}

/// Runs a command of the node program to its end.
///
/// # Errors
/// When it cannot be started.
pub async fn run_node(arguments: &[&str]) -> io::Result<RunResult> {
    run_node_with(arguments, &[]).await
}

/// As [`run_node`], with these variables in the program's environment.
///
/// # Errors
/// When it cannot be started.
pub async fn run_node_with(
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> io::Result<RunResult> {
    let output = Command::new(program("quadraft-node"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(RunResult {
        exit_code: output.status.code(),
        report: serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or(Value::Null),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A node that can be killed and started again on the same volume.
#[derive(Debug)]
pub struct LocalNode {
    pub data: PathBuf,
    pub host: String,
    pub port: u16,
    /// The network namespace that it runs in, when it has one of its own.
    namespace: Option<String>,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl LocalNode {
    /// A node on `data` that will listen on `port` and the next one; not started yet.
    #[must_use]
    pub fn new(data: PathBuf, port: u16, extra: &[&str]) -> Self {
        Self {
            log: data.with_extension("log"),
            data,
            host: "127.0.0.1".to_owned(),
            port,
            namespace: None,
            arguments: extra.iter().map(|&argument| argument.to_owned()).collect(),
            child: None,
        }
    }

    /// Has the node listen on another address than 127.0.0.1, in brackets when it is of IPv6.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Has the node run on a host of its own.
    #[must_use]
    pub fn on_host(mut self, namespace: String, address: String) -> Self {
        self.namespace = Some(namespace);
        self.host = address;
        self
    }

    /// Appends the log to another file than `DATA.log`.
    pub fn log_to(&mut self, path: PathBuf) {
        self.log = path;
    }

    /// Starts the process; its log is appended to `DATA.log`, unless another file was given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]);
                command.arg(program("quadraft-node"));
                command
            }
            None => Command::new(program("quadraft-node")),
        };
        let child = command
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .arg("--listen")
            .arg(format!("{}:{}", self.host, self.port))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM: tells the process to end in its own time.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn terminate(&self) -> io::Result<()> {
        let process = self
            .process_id()
            .ok_or_else(|| io::Error::other("the node does not run"))?
            .to_string();
        let status = Command::new("kill")
            .args(["-TERM", &process])
            .status()
            .await?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other("the process cannot be told to end"))
    }

    /// Whether the process has ended by itself, and if so, with which exit code.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn has_ended(&mut self) -> io::Result<Option<Option<i32>>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status.map(|status| status.code()))
    }

    /// Waits until the process ends by itself, and gives its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self, deadline: Duration) -> io::Result<Option<i32>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = tokio::time::timeout(deadline, child.wait())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the node did not end"))??;
        self.child = None;
        Ok(status.code())
    }

    /// The id of the process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// All that the node has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.host, self.port)
    }

    #[must_use]
    pub fn peer_address(&self) -> String {
        format!("{}:{}", self.host, self.port + 1)
    }

    /// The numbers that a writer wrote under `subject`, as this node has them now.
    ///
    /// # Errors
    /// When the node does not answer, or answers something else.
    pub async fn numbers(&self, subject: &str) -> Result<BTreeSet<u64>, String> {
        let query = format!("SELECT ?n {{ <urn:test:{subject}> <urn:test:wrote> ?n }}");
        let answer = reqwest::Client::new()
            .post(self.url("/query"))
            .header("content-type", "application/sparql-query")
            .header("accept", "text/csv")
            .body(query)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        text.lines()
            .skip(1)
            .map(|line| line.trim().parse().map_err(|_| format!("{line:?}")))
            .collect()
    }

    /// The node's status over the peer port.
    pub async fn status(&self) -> Option<v1::StatusResponse> {
        let mut connection = AdminConnection::connect(&self.peer_address(), Duration::from_secs(2))
            .await
            .ok()?;
        connection.status(v1::StatusRequest {}).await.ok()
    }

    /// Waits until the status meets a condition.
    ///
    /// # Errors
    /// The last status, when it never did.
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&v1::StatusResponse) -> bool,
    ) -> Result<v1::StatusResponse, String> {
        let until = Instant::now() + deadline;
        loop {
            let status = self.status().await;
            if let Some(status) = &status
                && condition(status)
            {
                return Ok(status.clone());
            }
            if Instant::now() > until {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                return Err(format!(
                    "port {} was never {what} within {deadline:?}; last status {status:?}; log, newest first: {tail:#?}",
                    self.port
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until clients may be sent here.
    ///
    /// # Errors
    /// The last status, when that never came.
    pub async fn wait_ready(&self) -> Result<v1::StatusResponse, String> {
        self.wait_for("ready", Duration::from_secs(60), |status| status.ready)
            .await
    }
}
