//! Chaos on pods: a cluster of three under a writer, and one thing after another that happens to clusters:
//! members and the operator are killed, pods are evicted and machines cordoned, the API server hangs, Jobs
//! cannot start, specs change. `QUADRAFT_CHAOS_SECONDS` says how long (120 unless set),
//! `QUADRAFT_CHAOS_SEED` makes the same choices again.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quadraft_tests::damage::make_vote_unreadable;
use quadraft_tests::kubernetes::{
    ClusterOptions, Kubectl, PodNetwork, TestCluster, in_namespace, kill_node_process,
    kill_operator, tool_output, uses_bed, wait_until,
};
use quadraft_tests::local::Writer;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const MINUTE: Duration = Duration::from_secs(60);
const MEMBERS: u32 = 3;
/// How long the cluster may take to be whole again.
const HEALING: Duration = Duration::from_secs(240);
const WRITER: &str = "chaos";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    KillMember,
    KillAllMembers,
    Evict,
    Drain,
    KillOperator,
    CutOffOperator,
    PauseApiServer,
    JobCannotStart,
    ChangeOption,
}

const KINDS: [Kind; 9] = [
    Kind::KillMember,
    Kind::KillAllMembers,
    Kind::Evict,
    Kind::Drain,
    Kind::KillOperator,
    Kind::CutOffOperator,
    Kind::PauseApiServer,
    Kind::JobCannotStart,
    Kind::ChangeOption,
];

impl Kind {
    /// How many pods may be away at a time: what the operator does of its own accord takes one.
    fn may_be_away(self) -> usize {
        match self {
            // While the API server hangs, what it says of a pod's readiness is old.
            Self::KillAllMembers | Self::PauseApiServer => 3,
            _ => 1,
        }
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Looks at the pods all the time, and remembers the most that were away at once.
struct Watch {
    stop: Arc<AtomicBool>,
    most_away: Arc<AtomicUsize>,
}

impl Watch {
    fn start(cluster: Arc<TestCluster>) -> Self {
        let watch = Self {
            stop: Arc::default(),
            most_away: Arc::default(),
        };
        let (stop, most) = (watch.stop.clone(), watch.most_away.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                // No answer is no news.
                if let Ok(present) = cluster.pods_that_serve().await {
                    let away = (MEMBERS as usize).saturating_sub(present);
                    most.fetch_max(away, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        watch
    }

    /// The most that were away since the last time this was asked.
    fn take(&self) -> usize {
        self.most_away.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Chaos {
    kubectl: Kubectl,
    cluster: Arc<TestCluster>,
    random: StdRng,
    rounds: u32,
}

impl Chaos {
    fn slot(&mut self) -> u32 {
        self.random.random_range(0..MEMBERS)
    }

    /// Lets one thing happen, and says what it was.
    async fn strike(&mut self, kind: Kind) -> Result<String, String> {
        let slot = self.slot();
        let pod = self.cluster.pod(slot);
        match kind {
            Kind::KillMember => {
                self.kill(slot..slot + 1).await?;
                Ok(pod)
            }
            Kind::KillAllMembers => {
                self.kill(0..MEMBERS).await?;
                Ok("all members".to_owned())
            }
            Kind::Evict => {
                self.kubectl.evict(&pod).await.map_err(words)?;
                let other = self.cluster.pod((slot + 1) % MEMBERS);
                if self.kubectl.evict(&other).await.is_ok() {
                    return Err(format!("{pod} and {other} could be evicted at once"));
                }
                self.wait_away().await?;
                Ok(format!("{pod}, and {other} in vain"))
            }
            Kind::Drain => {
                let machine = self.machine(&pod).await?;
                self.kubectl
                    .run(&["cordon", &machine])
                    .await
                    .map_err(words)?;
                let drained = self.drain().await;
                self.kubectl
                    .run(&["uncordon", &machine])
                    .await
                    .map_err(words)?;
                Ok(format!("{machine}: {} pods went", drained?))
            }
            Kind::KillOperator => {
                let option = self.change_option().await?;
                kill_operator().await.map_err(words)?;
                Ok(format!("while {option}"))
            }
            Kind::CutOffOperator => self.cut_off_the_operator().await,
            Kind::PauseApiServer => {
                let process = api_server().await?;
                tool_output("kill", &["-STOP", &process]).await?;
                let seconds = self.random.random_range(5..25);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                tool_output("kill", &["-CONT", &process]).await?;
                Ok(format!("for {seconds} s"))
            }
            Kind::JobCannotStart => self.let_no_job_start(slot).await,
            Kind::ChangeOption => self.change_option().await,
        }
    }

    /// Kills members, and waits until Kubernetes has seen it: until then everything looks well.
    async fn kill(&self, slots: std::ops::Range<u32>) -> Result<(), String> {
        let mut before = Vec::new();
        for slot in slots.clone() {
            before.push(self.cluster.restarts(slot).await?.0);
        }
        for slot in slots.clone() {
            kill_node_process(&self.kubectl, &self.cluster.pod(slot)).await?;
        }
        for (slot, before) in slots.zip(before) {
            wait_until("the death to be seen", MINUTE, || async {
                let restarts = self.cluster.restarts(slot).await.ok()?.0;
                (restarts > before).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until a pod is away.
    async fn wait_away(&self) -> Result<(), String> {
        wait_until("a pod to be away", MINUTE, || async {
            let serve = self.cluster.pods_that_serve().await.ok()?;
            (serve < MEMBERS as usize).then_some(())
        })
        .await
    }

    async fn machine(&self, pod: &str) -> Result<String, String> {
        let pod = self.kubectl.get("pod", pod).await.map_err(words)?;
        let machine = pod.and_then(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned()));
        machine.ok_or_else(|| "the pod has no machine".to_owned())
    }

    /// Evicts all pods, as whoever drains a machine: none can come back meanwhile, so that one goes.
    async fn drain(&self) -> Result<u32, String> {
        let mut gone = 0;
        for slot in 0..MEMBERS {
            let evicted = self.kubectl.evict(&self.cluster.pod(slot)).await;
            gone += u32::from(evicted.is_ok());
        }
        if gone == 1 {
            return Ok(gone);
        }
        Err(format!("{gone} pods could be drained at once"))
    }

    /// A recovery that is needed and for which there is no room, until somebody makes some.
    async fn let_no_job_start(&mut self, slot: u32) -> Result<String, String> {
        let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata:\n  name: none\nspec:\n  hard:\n    \
                     count/jobs.batch: \"0\"\n";
        self.kubectl.apply(quota).await.map_err(words)?;
        let pod = self.cluster.pod(slot);
        make_vote_unreadable(&self.cluster.volume_path(slot).await?).map_err(words)?;
        kill_node_process(&self.kubectl, &pod).await?;
        self.cluster
            .wait_object("the Job that cannot be made", 2 * MINUTE, |object| {
                object["status"]["conditions"]
                    .to_string()
                    .contains("exceeded quota")
            })
            .await?;
        self.kubectl
            .run(&["delete", "resourcequota", "none"])
            .await
            .map_err(words)?;
        Ok(format!("the recovery of {pod}"))
    }

    /// The operator's connections stay half open for longer than it takes to notice; what was asked for
    /// meanwhile is done afterwards.
    async fn cut_off_the_operator(&mut self) -> Result<String, String> {
        let kubectl = Kubectl::new("quadraft-system");
        // It may be on its way back from what was done to it, or to the API server, before.
        let running = async || {
            let pods = kubectl
                .list("pods", "app.kubernetes.io/name=quadraft-operator")
                .await
                .ok()?;
            let pod = pods
                .iter()
                .find(|pod| pod["metadata"]["deletionTimestamp"].is_null())?;
            let pod = pod["metadata"]["name"].as_str()?.to_owned();
            let network = PodNetwork::of_operator(&kubectl, &pod).await.ok()?;
            Some((pod, network))
        };
        let (pod, network) = wait_until("an operator that runs", MINUTE, running).await?;
        network.cut_off_from_api_server().await?;
        let option = self.change_option().await?;
        let seconds = self.random.random_range(10..45);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        // It may have ended by itself meanwhile, because it could not renew its Lease, and been started
        // anew in the same network.
        wait_until("the operator's network", 2 * MINUTE, || async {
            let network = PodNetwork::of_operator(&kubectl, &pod).await.ok()?;
            network.reconnect().await.ok()
        })
        .await?;
        Ok(format!("for {seconds} s, while {option}"))
    }

    async fn change_option(&mut self) -> Result<String, String> {
        let milliseconds = self.random.random_range(10_000..30_000);
        let patch = format!("{{\"spec\":{{\"node\":{{\"queryTimeoutMs\":{milliseconds}}}}}}}");
        self.kubectl
            .run(&[
                "patch",
                "rdfcluster",
                "books",
                "--type=merge",
                "--patch",
                &patch,
            ])
            .await
            .map_err(words)?;
        Ok(format!("queries may take {milliseconds} ms"))
    }

    /// Waits until the present spec is carried out and the cluster is Ready.
    async fn heal(&self) -> Result<(), String> {
        wait_until("the cluster to be Ready", HEALING, || async {
            let object = self.cluster.object().await;
            let generation = &object["metadata"]["generation"];
            let conditions = object["status"]["conditions"].as_array()?;
            let ready = conditions.iter().any(|condition| {
                condition["type"] == "Ready"
                    && condition["status"] == "True"
                    && condition["observedGeneration"] == *generation
            });
            let serves = self.cluster.pods_that_serve().await.ok()? == MEMBERS as usize;
            (ready && serves).then_some(())
        })
        .await
    }
}

/// The process of the API server on the bed.
async fn api_server() -> Result<String, String> {
    let status = tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bed/bed"))
        .arg("status")
        .output()
        .await
        .map_err(words)?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    status
        .lines()
        .find(|line| line.starts_with("kube-apiserver"))
        .and_then(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .ok_or_else(|| format!("no API server in {status}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes: make test-kubernetes"]
async fn whatever_happens_to_a_cluster_no_acknowledged_write_is_lost() {
    in_namespace("chaos", |kubectl| async move {
        if !uses_bed().await {
            return Err("processes can be stopped on the bed only".to_owned());
        }
        let seed = number("QUADRAFT_CHAOS_SEED", rand::random());
        println!("QUADRAFT_CHAOS_SEED={seed}");
        let options = ClusterOptions::new("books", MEMBERS);
        let cluster = TestCluster::apply(&kubectl, &options)
            .await
            .map_err(words)?;
        cluster.wait_ready(3 * MINUTE).await?;
        let update = format!("http://{}/update", cluster.service_address().await?);
        let writer =
            Writer::start_at_pace(vec![update], WRITER, 5 * MINUTE, Duration::from_millis(20));
        let cluster = Arc::new(cluster);
        let watch = Watch::start(cluster.clone());
        let mut chaos = Chaos {
            kubectl,
            cluster: cluster.clone(),
            random: StdRng::seed_from_u64(seed),
            rounds: 0,
        };
        let started = Instant::now();
        let until = started + Duration::from_secs(number("QUADRAFT_CHAOS_SECONDS", 120));
        let mut counts: BTreeMap<Kind, (u32, Duration)> = BTreeMap::new();
        // Each kind comes once in each turn, in a new order.
        let mut turn: Vec<Kind> = Vec::new();
        while Instant::now() < until {
            if turn.is_empty() {
                turn = KINDS.to_vec();
            }
            let index = chaos.random.random_range(0..turn.len());
            let kind = turn.swap_remove(index);
            let begun = Instant::now();
            watch.take();
            let what = chaos
                .strike(kind)
                .await
                .map_err(|error| format!("{kind:?}: {error}"))?;
            chaos
                .heal()
                .await
                .map_err(|error| format!("after {kind:?} ({what}): {error}"))?;
            let (took, away) = (begun.elapsed(), watch.take());
            println!(
                "{:7.1} s  {kind:?} {what}: Ready after {:.1} s, {away} away at most",
                started.elapsed().as_secs_f64(),
                took.as_secs_f64()
            );
            if away == 0 && kind == Kind::ChangeOption {
                return Err(format!(
                    "Ready was said before anything was restarted ({what})"
                ));
            }
            if away > kind.may_be_away() {
                return Err(format!(
                    "{away} pods were away at once during {kind:?} ({what})"
                ));
            }
            let (times, longest) = counts.entry(kind).or_default();
            (*times, *longest) = (*times + 1, took.max(*longest));
            chaos.rounds += 1;
        }
        drop(watch);
        let written = writer.finish().await?;
        chaos.heal().await?;
        for slot in 0..MEMBERS {
            let found = cluster.numbers(Some(slot), WRITER).await?;
            let missing = written.acknowledged.difference(&found).count();
            if missing > 0 {
                return Err(format!(
                    "{missing} acknowledged writes are missing in slot {slot}"
                ));
            }
        }
        let members = cluster.agree(MEMBERS, MINUTE).await?;
        println!("\n| what happened | times | Ready again after, at most |\n|---|---:|---:|");
        for (kind, (times, longest)) in &counts {
            println!("| {kind:?} | {times} | {:.1} s |", longest.as_secs_f64());
        }
        println!(
            "{} rounds, {} writes acknowledged, 0 lost, {} members agree",
            chaos.rounds,
            written.acknowledged.len(),
            members.len()
        );
        Ok(())
    })
    .await;
}
