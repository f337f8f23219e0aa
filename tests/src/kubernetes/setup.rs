//! Images and operator on the Kubernetes to test on.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::kubectl::{Kubectl, wait_until};

/// Namespace that the operator is installed in.
pub(super) const OPERATOR_NAMESPACE: &str = "quadraft-system";
const OPERATOR_RELEASE: &str = "quadraft-operator";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs a program of the repository, or of the PATH, and gives its last line of output.
///
/// # Errors
/// With its output, when it failed.
pub async fn tool_output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = repository().join(program);
    let program = if path.exists() {
        path
    } else {
        PathBuf::from(program)
    };
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("failed to run {}: {error}", program.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout.lines().last().unwrap_or_default().to_owned());
    }
    Err(format!(
        "{} {}: {stdout}{}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Whether the Kubernetes is the repository's own bed, where processes can be killed and volumes
/// are folders of this machine.
pub async fn uses_bed() -> bool {
    let Ok(kubeconfig) = std::env::var("KUBECONFIG") else {
        return false;
    };
    let state =
        std::env::var("QUADRAFT_BED_STATE").unwrap_or_else(|_| "/var/lib/quadraft-bed".to_owned());
    kubeconfig.starts_with(&state)
}

/// Loads the images in the folder `$QUADRAFT_IMAGES` into the bed. On another Kubernetes they must
/// be there already.
///
/// # Errors
/// When they cannot be loaded.
pub async fn load_images() -> Result<(), String> {
    let Ok(folder) = std::env::var("QUADRAFT_IMAGES") else {
        return Ok(());
    };
    if !uses_bed().await {
        return Ok(());
    }
    let node = format!("{folder}/quadraft-node.tar");
    let operator = format!("{folder}/quadraft-operator.tar");
    tool_output("tests/bed/bed", &["load-image", &node, &operator])
        .await
        .map(|_| ())
}

/// Installs or upgrades the operator by its chart, and waits until it runs.
///
/// # Errors
/// When helm refuses or the operator does not become available.
pub async fn install_operator(values: &[&str]) -> Result<(), String> {
    install_release(OPERATOR_RELEASE, OPERATOR_NAMESPACE, values).await
}

/// Installs or upgrades an operator as a release of its own, and waits until it runs.
///
/// # Errors
/// When helm refuses or the operator does not become available.
pub async fn install_release(
    release: &str,
    namespace: &str,
    values: &[&str],
) -> Result<(), String> {
    let helm = helm().await?;
    let mut arguments = vec![
        "upgrade",
        "--install",
        release,
        "charts/quadraft-operator",
        "--namespace",
        namespace,
        "--create-namespace",
        "--wait",
        "--timeout",
        "180s",
    ];
    for value in values {
        arguments.extend(["--set", value]);
    }
    tool_output(&helm, &arguments).await.map(|_| ())
}

/// Waits until an operator that runs holds the Lease, so that somebody reconciles again.
///
/// # Errors
/// When none does in time.
pub async fn wait_operator(deadline: Duration) -> Result<(), String> {
    let kubectl = Kubectl::new(OPERATOR_NAMESPACE);
    wait_until("an operator that holds the Lease", deadline, || async {
        let lease = kubectl
            .get("lease", "quadraft-operator")
            .await
            .ok()
            .flatten()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        let pods = kubectl
            .list("pods", "app.kubernetes.io/name=quadraft-operator")
            .await
            .ok()?;
        pods.iter()
            .any(|pod| {
                let name = pod["metadata"]["name"].as_str();
                name.is_some_and(|name| holder.starts_with(name))
                    && pod["metadata"]["deletionTimestamp"].is_null()
            })
            .then_some(())
    })
    .await
}

/// Uninstalls the operator by its chart.
///
/// # Errors
/// When helm refuses.
pub async fn uninstall_operator() -> Result<(), String> {
    uninstall_release(OPERATOR_RELEASE, OPERATOR_NAMESPACE).await
}

/// Uninstalls a release.
///
/// # Errors
/// When helm refuses.
pub async fn uninstall_release(release: &str, namespace: &str) -> Result<(), String> {
    let helm = helm().await?;
    let arguments = [
        "uninstall",
        release,
        "--namespace",
        namespace,
        "--wait",
        "--timeout",
        "120s",
    ];
    tool_output(&helm, &arguments).await.map(|_| ())
}

async fn helm() -> Result<String, String> {
    match std::env::var("HELM") {
        Ok(helm) => Ok(helm),
        Err(_) => tool_output("packaging/tool", &["helm"]).await,
    }
}

/// Ends the node process of a pod by SIGKILL. On a Kubernetes that is not the bed the pod is
/// deleted without grace instead, which ends it the same way and moves it.
///
/// # Errors
/// When the process cannot be ended.
pub async fn kill_node_process(kubectl: &Kubectl, pod: &str) -> Result<(), String> {
    if uses_bed().await {
        return tool_output("tests/bed/bed", &["kill", kubectl.namespace(), pod, "node"])
            .await
            .map(|_| ());
    }
    kubectl
        .run(&[
            "delete",
            "pod",
            pod,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ])
        .await
        .map_err(|error| error.to_string())?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
