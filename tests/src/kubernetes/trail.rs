//! What a failed test leaves for whoever looks for the reason.

use super::kubectl::Kubectl;
use super::setup::OPERATOR_NAMESPACE;

/// Prints objects, events, status and logs of a namespace and of the operator.
pub async fn print_trail(kubectl: &Kubectl) {
    let sections: [&[&str]; 5] = [
        &[
            "get",
            "rdfclusters,rdfbackups,rdfrestores,statefulsets,pods,persistentvolumeclaims,jobs",
            "-o",
            "wide",
        ],
        &["get", "rdfclusters,rdfbackups,rdfrestores", "-o", "yaml"],
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["describe", "pods"],
        &[
            "logs",
            "--selector=quadraft.dev/cluster",
            "--all-containers",
            "--prefix",
            "--tail=60",
            "--ignore-errors",
        ],
    ];
    let mut text = String::new();
    for arguments in sections {
        text.push_str(&section(kubectl, arguments).await);
    }
    let operator = Kubectl::new(OPERATOR_NAMESPACE);
    text.push_str(
        &section(
            &operator,
            &[
                "logs",
                "--selector=app.kubernetes.io/name=quadraft-operator",
                "--tail=200",
                "--ignore-errors",
            ],
        )
        .await,
    );
    // A test's output is shown when it fails.
    #[allow(clippy::print_stderr)]
    {
        eprintln!("{text}");
    }
}

async fn section(kubectl: &Kubectl, arguments: &[&str]) -> String {
    let output = kubectl
        .run(arguments)
        .await
        .unwrap_or_else(|error| error.to_string());
    format!("==== kubectl {}\n{output}\n", arguments.join(" "))
}
