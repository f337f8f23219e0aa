//! A real browser on a node: with a page whose origin the node allows, and with another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use quadraft_tests::local::{LocalNode, free_ports};
use tokio::process::Command;

/// Far more than it takes, also where the packages have to be installed first.
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_page_uses_a_node_in_a_browser_when_its_origin_is_allowed_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(2);
    let page_port = ports[1].to_string();
    let origin = format!("http://127.0.0.1:{page_port}");
    let arguments = ["--cors-origin", &origin];
    let mut node = LocalNode::new(folder.path().join("node"), ports[0], &arguments);
    node.start().unwrap();
    node.wait_ready().await.unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/run");
    let run = Command::new(script)
        .arg(node.url(""))
        .arg(&page_port)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, run)
        .await
        .expect("the script did not end in time")
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
