//! Every manifest in `examples/` is applied as it is.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use quadraft_tests::kubernetes::{Kubectl, TestCluster, in_namespace, uses_bed, wait_until};
use quadraft_tests::object_store::ObjectStore;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
/// The machine, as pods on the bed reach it.
const MACHINE: [u8; 4] = [10, 244, 255, 1];

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn example(name: &str) -> Result<String, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

async fn apply(kubectl: &Kubectl, name: &str) -> Result<(), String> {
    kubectl
        .apply(&example(name)?)
        .await
        .map_err(|error| format!("{name}: {error}"))
}

async fn phase(kubectl: &Kubectl, kind: &str, name: &str, wanted: &str) -> Result<Value, String> {
    wait_until(
        &format!("{kind} {name} to be {wanted}"),
        4 * MINUTE,
        || async {
            let object = kubectl.get(kind, name).await.ok()??;
            (object["status"]["phase"] == wanted).then_some(object)
        },
    )
    .await
}

/// Gives an object store outside the Kubernetes a name inside.
async fn name_object_store(kubectl: &Kubectl, store: &ObjectStore) -> Result<(), String> {
    let address = store.address();
    kubectl
        .apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: object-store\nspec:\n  ports:\n    - port: 9000\n      \
             targetPort: {port}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: \
             object-store-1\n  labels:\n    kubernetes.io/service-name: object-store\naddressType: IPv4\nports:\n  - \
             port: {port}\nendpoints:\n  - addresses: [\"{ip}\"]\n",
            port = address.port(),
            ip = address.ip(),
        ))
        .await
        .map_err(words)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_cluster_its_backups_into_a_volume_and_an_object_store_and_its_restore() {
    in_namespace("examples", |kubectl| async move {
        if !uses_bed().await {
            return Err("an object store outside the Kubernetes is reached on the bed only".to_owned());
        }
        apply(&kubectl, "minimal.yaml").await?;
        let books = TestCluster::attach(&kubectl, "books").await.map_err(words)?;
        books.wait_ready(3 * MINUTE).await?;
        for number in 0..20 {
            let update = format!("INSERT DATA {{ <urn:test:example> <urn:test:wrote> {number} }}");
            let answer = books
                .post(0, "/update", "application/sparql-update", update.into_bytes())
                .await?;
            if answer.status() != 204 {
                return Err(format!("a write was answered with {}", answer.status()));
            }
        }
        apply(&kubectl, "backup.yaml").await?;
        let folder = tempfile::tempdir().map_err(words)?;
        let store = ObjectStore::start(folder.path(), MACHINE.into(), "change-me", "change-me")
            .await
            .map_err(words)?;
        store.make_bucket("my-backups").map_err(words)?;
        name_object_store(&kubectl, &store).await?;
        apply(&kubectl, "backup-s3.yaml").await?;
        let first = phase(&kubectl, "rdfbackup", "books-first", "Completed").await?;
        let offsite = phase(&kubectl, "rdfbackup", "books-offsite", "Completed").await?;
        if first["status"]["digest"] != offsite["status"]["digest"] {
            return Err(format!("{} and {}", first["status"], offsite["status"]));
        }
        apply(&kubectl, "restore.yaml").await?;
        let restored = phase(&kubectl, "rdfrestore", "books-again", "Completed").await?;
        if restored["status"]["digest"] != first["status"]["digest"] {
            return Err(format!("{}", restored["status"]));
        }
        // And from the object store.
        let location = offsite["status"]["location"].as_str().unwrap_or_default();
        kubectl
            .apply(&format!(
                "apiVersion: quadraft.dev/v1alpha1\nkind: RdfRestore\nmetadata:\n  name: from-afar\nspec:\n  source:\n    \
                 url: {location}\n    credentialsSecretName: backup-credentials\n  cluster:\n    name: afar\n    spec:\n      \
                 replicas: 1\n      version: 0.1.0\n      storage:\n        size: 1Gi\n"
            ))
            .await
            .map_err(words)?;
        let restored = phase(&kubectl, "rdfrestore", "from-afar", "Completed").await?;
        if restored["status"]["digest"] != first["status"]["digest"] {
            return Err(format!("{}", restored["status"]));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn a_cluster_with_every_field() {
    in_namespace("full", |kubectl| async move {
        apply(&kubectl, "full.yaml").await?;
        // Five members may ask for more than this machine has: that they are made is enough.
        wait_until("its five members", 2 * MINUTE, || async {
            let sets = kubectl
                .list("statefulsets", "quadraft.dev/cluster=library")
                .await
                .ok()?;
            (sets.len() == 5).then_some(())
        })
        .await?;
        let library = kubectl.get("rdfcluster", "library").await.map_err(words)?;
        let conditions = library.unwrap_or_default()["status"]["conditions"].clone();
        let stalled = conditions.as_array().is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition["type"] == "Stalled" && condition["status"] == "True")
        });
        if stalled {
            return Err(conditions.to_string());
        }
        Ok(())
    })
    .await;
}

/// The manifest that no test applies as it is, or more.
#[test]
fn every_example_is_in_a_test() -> Result<(), String> {
    let tried = [
        "minimal.yaml",
        "backup.yaml",
        "backup-s3.yaml",
        "restore.yaml",
        "full.yaml",
        // By the test of `kubernetes` that exports.
        "export.yaml",
    ];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for entry in std::fs::read_dir(folder).map_err(words)? {
        let name = entry
            .map_err(words)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let is_manifest = std::path::Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "yaml");
        if is_manifest && !tried.contains(&name.as_str()) {
            return Err(format!("examples/{name} is applied by no test"));
        }
    }
    Ok(())
}
