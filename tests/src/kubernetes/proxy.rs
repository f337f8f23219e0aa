//! HTTP into the cluster through the API server, so that no address of the cluster's network has
//! to be reachable from here.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::kubectl::Kubectl;

/// A running `kubectl proxy`; it ends with this value.
#[derive(Debug)]
pub struct Proxy {
    base: String,
    namespace: String,
    _child: Child,
}

impl Proxy {
    /// Starts the proxy on a free port of the loopback interface.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(kubectl: &Kubectl) -> io::Result<Self> {
        let mut child = kubectl
            .command(&["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("kubectl proxy has no output"))?;
        let line = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .ok_or_else(|| io::Error::other("kubectl proxy ended at once"))?;
        let address = line
            .rsplit(' ')
            .next()
            .ok_or_else(|| io::Error::other(format!("kubectl proxy said {line:?}")))?;
        Ok(Self {
            base: format!("http://{address}/api/v1"),
            namespace: kubectl.namespace().to_owned(),
            _child: child,
        })
    }

    /// URL of a path at a Service's port `http`.
    #[must_use]
    pub fn service_url(&self, service: &str, path: &str) -> String {
        format!(
            "{}/namespaces/{}/services/{service}:http/proxy{path}",
            self.base, self.namespace
        )
    }

    /// URL of the list of the pods that have certain labels.
    #[must_use]
    pub fn pods_url(&self, selector: &str) -> String {
        format!(
            "{}/namespaces/{}/pods?labelSelector={selector}",
            self.base, self.namespace
        )
    }

    /// URL of a path at one pod's HTTP port.
    #[must_use]
    pub fn pod_url(&self, pod: &str, path: &str) -> String {
        format!(
            "{}/namespaces/{}/pods/{pod}:7878/proxy{path}",
            self.base, self.namespace
        )
    }
}
