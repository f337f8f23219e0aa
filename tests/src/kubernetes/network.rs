//! A pod that is cut off from its peers, or from the API server, on the bed.

use super::kubectl::Kubectl;
use super::setup::tool_output;
use crate::local::peer_rules;

/// The port of the API server's Service.
const API_SERVER_PORT: &str = "443";

/// The network of one pod.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    /// A process of the pod.
    process_id: String,
}

impl PodNetwork {
    /// The network of a member's pod.
    ///
    /// # Errors
    /// When the pod does not run.
    pub async fn of(kubectl: &Kubectl, pod: &str) -> Result<Self, String> {
        Self::of_container(kubectl, pod, "node").await
    }

    /// The network of an operator's pod.
    ///
    /// # Errors
    /// When the pod does not run.
    pub async fn of_operator(kubectl: &Kubectl, pod: &str) -> Result<Self, String> {
        Self::of_container(kubectl, pod, "operator").await
    }

    async fn of_container(kubectl: &Kubectl, pod: &str, container: &str) -> Result<Self, String> {
        let arguments = ["process", kubectl.namespace(), pod, container];
        Ok(Self {
            process_id: tool_output("tests/bed/bed", &arguments).await?,
        })
    }

    /// Drops whatever the pod sends to the API server and gets from it: connections stay half open.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub async fn cut_off_from_api_server(&self) -> Result<(), String> {
        for (chain, end) in [("OUTPUT", "--dport"), ("INPUT", "--sport")] {
            let rule = ["-A", chain, "-p", "tcp", end, API_SERVER_PORT, "-j", "DROP"];
            self.iptables(&rule).await?;
        }
        Ok(())
    }

    /// Drops whatever the member and its peers send each other. Clients, and the kubelet, still
    /// reach it.
    ///
    /// # Errors
    /// When the rules cannot be set: that takes root, and the programs `nsenter` and `iptables`.
    pub async fn cut_off(&self) -> Result<(), String> {
        for rule in peer_rules() {
            self.iptables(&rule).await?;
        }
        Ok(())
    }

    /// Undoes [`Self::cut_off`].
    ///
    /// # Errors
    /// When the rules cannot be taken back.
    pub async fn reconnect(&self) -> Result<(), String> {
        self.iptables(&["-F"]).await
    }

    async fn iptables(&self, arguments: &[&str]) -> Result<(), String> {
        let mut all = vec!["--target", &self.process_id, "--net", "iptables", "-w"];
        all.extend(arguments);
        tool_output("nsenter", &all).await.map(|_| ())
    }
}
