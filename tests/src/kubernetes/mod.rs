//! A Kubernetes to test on: whichever KUBECONFIG names. kubectl is what users have, so everything
//! here goes through it.

mod cluster;
mod crash;
mod kubectl;
mod namespace;
mod network;
mod operator_killer;
mod proxy;
mod setup;
mod slow_disk;
mod trail;

pub use cluster::{ClusterOptions, Member, TestCluster};
pub use crash::{Interruption, kill_leader_while_writing};
pub use kubectl::{Kubectl, KubectlError, wait_until};
pub use namespace::{Outcome, in_namespace};
pub use network::PodNetwork;
pub use operator_killer::{OperatorKiller, kill_operator};
pub use proxy::Proxy;
pub use setup::{
    install_operator, install_release, kill_node_process, load_images, tool_output,
    uninstall_operator, uninstall_release, uses_bed, wait_operator,
};
pub use slow_disk::SlowDisk;
pub use trail::print_trail;
