//! A namespace for one test.

use tokio::sync::OnceCell;

use super::kubectl::Kubectl;
use super::setup::{install_operator, load_images};
use super::trail::print_trail;

/// What a test on pods comes to.
pub type Outcome = Result<(), String>;

static OPERATOR: OnceCell<Outcome> = OnceCell::const_new();

/// Runs a test in its own namespace, under the `restricted` pod security standard, with the operator
/// installed for all namespaces. It leaves a trail when it fails.
///
/// # Panics
/// When the test fails, or the operator or the namespace cannot be made.
#[allow(clippy::expect_used, clippy::panic)]
pub async fn in_namespace<F, T>(name: &str, test: F)
where
    F: FnOnce(Kubectl) -> T,
    T: Future<Output = Outcome>,
{
    let installed = OPERATOR.get_or_init(|| async {
        load_images().await?;
        install_operator(&[]).await
    });
    installed.await.clone().expect("the operator is installed");
    let namespace = format!("test-{name}");
    let kubectl = Kubectl::new(&namespace);
    let _ = kubectl
        .run(&[
            "delete",
            "namespace",
            &namespace,
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .await;
    kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        ))
        .await
        .expect("a namespace");
    let outcome = test(kubectl.clone()).await;
    if let Err(error) = outcome {
        print_trail(&kubectl).await;
        panic!("{error}");
    }
    // What a test leaves is taken away as a user would; claims go with the namespace.
    for arguments in [
        &[
            "delete",
            "rdfbackupschedules,rdfbackups,rdfrestores,rdfclusters",
            "--all",
            "--timeout=120s",
        ][..],
        &["delete", "namespace", &namespace, "--timeout=180s"],
    ] {
        let deleted = kubectl.run(arguments).await;
        deleted.expect("what a test leaves can be deleted");
    }
}
