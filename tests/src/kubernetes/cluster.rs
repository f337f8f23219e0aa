//! One RdfCluster under test.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::kubectl::{Kubectl, KubectlError, wait_until};
use super::proxy::Proxy;

/// What a cluster is made with.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub name: String,
    pub replicas: u32,
    /// Name of the backup to start from.
    pub from_backup: Option<String>,
    pub snapshot_after_entries: u32,
    pub maximum_request_bytes: u32,
    pub scrub_interval_seconds: u32,
    /// The memory that each member may have, as Kubernetes writes it.
    pub memory_limit: Option<String>,
}

impl ClusterOptions {
    #[must_use]
    pub fn new(name: &str, replicas: u32) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            from_backup: None,
            snapshot_after_entries: 2000,
            maximum_request_bytes: 64 << 20,
            scrub_interval_seconds: 7 * 24 * 3600,
            memory_limit: None,
        }
    }

    /// The manifest. Elections are quick, as the tests wait for many.
    #[must_use]
    pub fn manifest(&self) -> String {
        let bootstrap = self.from_backup.as_ref().map_or(String::new(), |backup| {
            format!("\n  bootstrap:\n    fromBackup:\n      backupName: {backup}")
        });
        let limits = self.memory_limit.as_ref().map_or(String::new(), |limit| {
            format!("\n    limits:\n      memory: {limit}")
        });
        format!(
            "apiVersion: quadraft.dev/v1alpha1\nkind: RdfCluster\nmetadata:\n  name: {}\nspec:\n  replicas: {}\n  \
             version: 0.1.0\n  storage:\n    size: 1Gi\n  resources:\n    requests:\n      cpu: 20m\n      \
             memory: 64Mi{limits}\n  node:\n    snapshotAfterEntries: {}\n    maximumRequestBytes: {}\n    \
             scrubIntervalSeconds: {}{bootstrap}\n",
            self.name,
            self.replicas,
            self.snapshot_after_entries,
            self.maximum_request_bytes,
            self.scrub_interval_seconds
        )
    }
}

/// A member as its own HTTP port describes it.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub pod: String,
    pub node_id: String,
    pub role: String,
    pub term: u64,
    pub applied_index: u64,
    pub digest: String,
    pub quads: u64,
    pub ready: bool,
    /// Entries of the log that cannot be read.
    pub unreadable: u64,
    /// Entries that were repaired from peers since the start.
    pub repaired_from_peers: u64,
}

fn pod_is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// One RdfCluster, and ways to look at it.
#[derive(Debug)]
pub struct TestCluster {
    pub kubectl: Kubectl,
    pub proxy: Proxy,
    pub name: String,
    client: reqwest::Client,
}

impl TestCluster {
    /// Applies the manifest.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(kubectl: &Kubectl, options: &ClusterOptions) -> Result<Self, KubectlError> {
        kubectl.apply(&options.manifest()).await?;
        Self::attach(kubectl, &options.name).await
    }

    /// A cluster that is there already.
    ///
    /// # Errors
    /// When the API server cannot be reached.
    pub async fn attach(kubectl: &Kubectl, name: &str) -> Result<Self, KubectlError> {
        Ok(Self {
            kubectl: kubectl.clone(),
            proxy: Proxy::start(kubectl).await?,
            name: name.to_owned(),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()
                .unwrap_or_default(),
        })
    }

    #[must_use]
    pub fn pod(&self, slot: u32) -> String {
        format!("{}-{slot}-0", self.name)
    }

    #[must_use]
    pub fn stateful_set(&self, slot: u32) -> String {
        format!("{}-{slot}", self.name)
    }

    #[must_use]
    pub fn claim(&self, slot: u32) -> String {
        format!("data-{}-{slot}-0", self.name)
    }

    /// URL that writes are sent to: the Service's.
    #[must_use]
    pub fn service_url(&self, path: &str) -> String {
        self.proxy.service_url(&self.name, path)
    }

    /// Host and port of the Service in the network of the cluster, which this machine reaches on
    /// the bed. It is as pods see it: no API server and no proxy is in between.
    ///
    /// # Errors
    /// When there is no Service.
    pub async fn service_address(&self) -> Result<String, String> {
        let service = self
            .kubectl
            .get("service", &self.name)
            .await
            .map_err(|error| error.to_string())?
            .unwrap_or(Value::Null);
        match service["spec"]["clusterIP"].as_str() {
            Some(address) => Ok(format!("{address}:7878")),
            None => Err(format!("the Service {} has no address", self.name)),
        }
    }

    /// Host and port of a slot's pod, likewise.
    ///
    /// # Errors
    /// When the pod has no address.
    pub async fn pod_address(&self, slot: u32) -> Result<String, String> {
        let pod = self
            .kubectl
            .get("pod", &self.pod(slot))
            .await
            .map_err(|error| error.to_string())?
            .unwrap_or(Value::Null);
        match pod["status"]["podIP"].as_str() {
            Some(address) => Ok(format!("{address}:7878")),
            None => Err(format!("the pod {} has no address", self.pod(slot))),
        }
    }

    /// Whether the RdfCluster is Ready, and what it says of that.
    pub async fn is_ready(&self) -> (bool, String) {
        let object = self.object().await;
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready");
        let Some(condition) = found else {
            return (false, "no condition Ready".to_owned());
        };
        let said = format!("{}: {}", condition["reason"], condition["message"]);
        (condition["status"] == "True", said)
    }

    /// The pods of members that Kubernetes does not report as ready.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods_not_ready(&self) -> Result<Vec<String>, String> {
        let selector = format!(
            "quadraft.dev/cluster={},app.kubernetes.io/component=node",
            self.name
        );
        let pods = self.kubectl.list("pods", &selector).await;
        Ok(pods
            .map_err(|error| error.to_string())?
            .iter()
            .filter(|pod| !pod_is_ready(pod))
            .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
            .collect())
    }

    /// How many pods of members Kubernetes reports as ready and not about to end. This asks the API server
    /// without a program in between, so that it can be done often.
    ///
    /// # Errors
    /// When the API server does not answer within a second.
    pub async fn pods_that_serve(&self) -> Result<usize, String> {
        let url = self.proxy.pods_url(&format!(
            "quadraft.dev/cluster={},app.kubernetes.io/component=node",
            self.name
        ));
        let answer = self.client.get(url).timeout(Duration::from_secs(1)).send();
        let answer = answer.await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let pods: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let serves =
            |pod: &&Value| pod_is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
        let pods = pods["items"].as_array().ok_or("no list of pods")?;
        Ok(pods.iter().filter(serves).count())
    }

    /// Waits for the condition Ready, as a user would.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<(), String> {
        self.kubectl
            .run(&[
                "wait",
                "--for=condition=Ready",
                &format!("rdfcluster/{}", self.name),
                &format!("--timeout={}s", deadline.as_secs()),
            ])
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// The RdfCluster object.
    pub async fn object(&self) -> Value {
        self.kubectl
            .get("rdfcluster", &self.name)
            .await
            .ok()
            .flatten()
            .unwrap_or(Value::Null)
    }

    /// Waits until the object meets a condition.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait_object(
        &self,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let result = wait_until(what, deadline, || async {
            let object = self.object().await;
            condition(&object).then_some(object)
        })
        .await;
        match result {
            Ok(object) => Ok(object),
            Err(error) => Err(format!(
                "{error}; status: {}",
                self.object().await["status"]
            )),
        }
    }

    /// What the member in a slot says of itself.
    pub async fn member(&self, slot: u32) -> Option<Member> {
        let pod = self.pod(slot);
        let url = self.proxy.pod_url(&pod, "/status");
        let answer = self.client.get(url).send().await.ok()?;
        let status: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| status[field].as_u64().unwrap_or_default();
        (!status["node_id"].is_null()).then(|| Member {
            pod,
            node_id: text("node_id"),
            role: text("role"),
            term: number("term"),
            applied_index: number("applied_index"),
            digest: text("digest"),
            quads: number("quads"),
            ready: status["ready"].as_bool().unwrap_or_default(),
            unreadable: number("unreadable_entries"),
            repaired_from_peers: number("repaired_from_peers"),
        })
    }

    /// Slot of the leader.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn leader(&self, replicas: u32) -> Result<u32, String> {
        wait_until("a leader", Duration::from_secs(60), || async {
            for slot in 0..replicas {
                if self
                    .member(slot)
                    .await
                    .is_some_and(|member| member.role == "leader")
                {
                    return Some(slot);
                }
            }
            None
        })
        .await
    }

    /// Waits until all members have applied the same entries, and gives them; their digests must
    /// be equal then.
    ///
    /// # Errors
    /// When that does not come in time, or the digests differ.
    pub async fn agree(&self, replicas: u32, deadline: Duration) -> Result<Vec<Member>, String> {
        let members = wait_until("all members at the same index", deadline, || async {
            let mut members = Vec::new();
            for slot in 0..replicas {
                members.push(self.member(slot).await?);
            }
            let indices: BTreeSet<u64> =
                members.iter().map(|member| member.applied_index).collect();
            (indices.len() == 1).then_some(members)
        })
        .await?;
        let digests: BTreeSet<&str> = members
            .iter()
            .map(|member| member.digest.as_str())
            .collect();
        if digests.len() == 1 {
            Ok(members)
        } else {
            Err(format!("the members' digests differ: {members:?}"))
        }
    }

    /// A SELECT or ASK query, at one member or at the Service.
    ///
    /// # Errors
    /// With the answer, when it is not a result.
    pub async fn query(&self, slot: Option<u32>, query: &str) -> Result<Value, String> {
        let url = match slot {
            Some(slot) => self.proxy.pod_url(&self.pod(slot), "/query"),
            None => self.service_url("/query"),
        };
        let answer = self
            .client
            .post(url)
            .header("content-type", "application/sparql-query")
            .header("accept", "application/sparql-results+json")
            .body(query.to_owned())
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// The answer of one member to a request that it may refuse.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(
        &self,
        slot: u32,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<reqwest::Response, String> {
        self.client
            .post(self.proxy.pod_url(&self.pod(slot), path))
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())
    }

    /// The numbers that a [`crate::local::Writer`] of that name wrote, as one member sees them.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn numbers(&self, slot: Option<u32>, name: &str) -> Result<BTreeSet<u64>, String> {
        let query = format!("SELECT ?n {{ <urn:test:{name}> <urn:test:wrote> ?n }}");
        let answer = self.query(slot, &query).await?;
        let rows = answer["results"]["bindings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(rows
            .iter()
            .filter_map(|row| row["n"]["value"].as_str()?.parse().ok())
            .collect())
    }

    /// How often the container of a slot's member was started again, and how it ended last.
    ///
    /// # Errors
    /// When the pod cannot be read.
    pub async fn restarts(&self, slot: u32) -> Result<(u64, Value), String> {
        let pod = self
            .kubectl
            .get("pod", &self.pod(slot))
            .await
            .map_err(|error| error.to_string())?
            .unwrap_or_default();
        let container = &pod["status"]["containerStatuses"][0];
        Ok((
            container["restartCount"].as_u64().unwrap_or_default(),
            match &container["state"]["terminated"] {
                Value::Null => container["lastState"]["terminated"].clone(),
                now => now.clone(),
            },
        ))
    }

    /// Folder of this machine that holds a slot's volume, on the bed.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn volume_path(&self, slot: u32) -> Result<std::path::PathBuf, String> {
        super::setup::tool_output(
            "tests/bed/bed",
            &["volume-path", self.kubectl.namespace(), &self.claim(slot)],
        )
        .await
        .map(Into::into)
    }
}
