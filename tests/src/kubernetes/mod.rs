//! A Kubernetes to test on: whichever KUBECONFIG names. kubectl is what users have, so everything
//! here goes through it.

mod cluster;
mod kubectl;
mod proxy;
mod setup;
mod trail;

pub use cluster::{ClusterOptions, Member, TestCluster};
pub use kubectl::{Kubectl, KubectlError, wait_until};
pub use proxy::Proxy;
pub use setup::{
    install_operator, kill_node_process, load_images, tool_output, uninstall_operator, uses_bed,
};
pub use trail::print_trail;
