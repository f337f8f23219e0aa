//! A network of its own for nodes on this machine, in which some can be cut off from their peers.

use std::io;
use std::process::Command;

/// Set to any value, tests that need to make network namespaces are skipped, loudly.
const WITHOUT_NAMESPACES: &str = "QUADRAFT_WITHOUT_NAMESPACES";
const PEER_PORT: &str = "7879";
/// How many networks there can be beside each other.
const NETWORKS: u16 = 249;

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
        let built = Self::claim(hosts).and_then(|network| network.build().map(|()| network));
        match built {
            Ok(network) => Ok(Some(network)),
            Err(_) if std::env::var_os(WITHOUT_NAMESPACES).is_some() => Ok(None),
            Err(error) => Err(io::Error::other(format!(
                "network namespaces cannot be made ({error}): run as root, or set \
                 {WITHOUT_NAMESPACES}=1 to leave partitions out"
            ))),
        }
    }

    /// Takes a number that nobody has, from which all names and addresses follow: whoever makes its bridge
    /// has it.
    fn claim(hosts: usize) -> io::Result<Self> {
        let first = rand::random_range(0..NETWORKS);
        let mut taken = io::Error::other("there are no networks");
        for id in (0..NETWORKS).map(|number| (first + number) % NETWORKS + 1) {
            match ip(&["link", "add", &bridge(id), "type", "bridge"]) {
                Ok(()) => return Ok(Self { id, hosts }),
                Err(error) if error.to_string().contains("File exists") => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    fn build(&self) -> io::Result<()> {
        let id = self.id;
        let bridge = bridge(id);
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
        let _ = ip(&["link", "del", &bridge(self.id)]);
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

fn bridge(id: u16) -> String {
    format!("qbridge{id}")
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
