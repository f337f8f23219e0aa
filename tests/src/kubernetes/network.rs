//! A pod that is cut off from its peers, on the bed.

use super::kubectl::Kubectl;
use super::setup::tool_output;
use crate::local::peer_rules;

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
        let arguments = ["process", kubectl.namespace(), pod, "node"];
        Ok(Self {
            process_id: tool_output("tests/bed/bed", &arguments).await?,
        })
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
