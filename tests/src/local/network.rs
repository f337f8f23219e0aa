//! A network of its own for nodes on this machine, in which some can be cut off from their peers.

use std::io;
use std::process::Command;

/// Set to any value, tests that need to make network namespaces are skipped, loudly.
const WITHOUT_NAMESPACES: &str = "QUADRAFT_WITHOUT_NAMESPACES";
const PEER_PORT: &str = "7879";

/// Hosts on one bridge, each a network namespace; all are gone when this is dropped. The machine
/// itself reaches them too.
#[derive(Debug)]
pub struct HostNetwork {
    id: u16,
    hosts: usize,
}

impl HostNetwork {
    /// Makes so many hosts. `None` when that is not possible here and `QUADRAFT_WITHOUT_NAMESPACES`
    /// says that this is known.
    ///
    /// # Errors
    /// When they cannot be made (that takes root, and the programs `ip` and `iptables`).
    pub fn new(hosts: usize) -> io::Result<Option<Self>> {
        let network = Self {
            id: rand::random_range(1..250),
            hosts,
        };
        match network.build() {
            Ok(()) => Ok(Some(network)),
            Err(_) if std::env::var_os(WITHOUT_NAMESPACES).is_some() => Ok(None),
            Err(error) => Err(io::Error::other(format!(
                "network namespaces cannot be made ({error}): run as root, or set \
                 {WITHOUT_NAMESPACES}=1 to leave partitions out"
            ))),
        }
    }

    fn build(&self) -> io::Result<()> {
        let bridge = self.bridge();
        let id = self.id;
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&[
            "addr",
            "add",
            &format!("10.213.{id}.254/24"),
            "dev",
            &bridge,
        ])?;
        ip(&["link", "set", &bridge, "up"])?;
        for host in 0..self.hosts {
            let (namespace, outside) = (self.namespace(host), self.outside(host));
            let address = format!("{}/24", self.address(host));
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("qbridge{}", self.id)
    }

    fn outside(&self, host: usize) -> String {
        format!("qhost{}n{host}", self.id)
    }

    /// The namespace of a host.
    #[must_use]
    pub fn namespace(&self, host: usize) -> String {
        format!("quadraft-{}-{host}", self.id)
    }

    /// The address of a host.
    #[must_use]
    pub fn address(&self, host: usize) -> String {
        format!("10.213.{}.{}", self.id, host + 1)
    }

    /// Drops whatever a host and its peers send each other. Clients still reach it.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub fn cut_off(&self, host: usize) -> io::Result<()> {
        for rule in peer_rules() {
            self.iptables(host, &rule)?;
        }
        Ok(())
    }

    /// Undoes [`Self::cut_off`].
    ///
    /// # Errors
    /// When the rules cannot be taken back.
    pub fn reconnect(&self, host: usize) -> io::Result<()> {
        self.iptables(host, &["-F"])
    }

    fn iptables(&self, host: usize, arguments: &[&str]) -> io::Result<()> {
        let namespace = self.namespace(host);
        let mut all = vec!["netns", "exec", namespace.as_str(), "iptables", "-w"];
        all.extend(arguments);
        ip(&all)
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        // What was not made cannot be removed, which does not matter.
        for host in 0..self.hosts {
            let _ = ip(&["netns", "del", &self.namespace(host)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

/// Arguments of iptables, in the network of a host: it drops whatever the host and its peers send
/// each other.
pub(crate) fn peer_rules() -> Vec<[&'static str; 8]> {
    let mut rules = Vec::new();
    for chain in ["INPUT", "OUTPUT"] {
        for end in ["--sport", "--dport"] {
            rules.push(["-A", chain, "-p", "tcp", end, PEER_PORT, "-j", "DROP"]);
        }
    }
    rules
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!(
        "ip {}: {}",
        arguments.join(" "),
        reason.trim()
    )))
}
