//! Chaos: three real nodes under writers, killed and damaged at random, one thing after another,
//! with what an operator would do. `QUADRAFT_CHAOS_SECONDS` says how long (120 unless set),
//! `QUADRAFT_CHAOS_SEED` makes the same choices again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quadraft_protocol::{AdminConnection, v1};
use quadraft_tests::damage::{SegmentPart, flip_a_bit, make_vote_unreadable, places, segments};
use quadraft_tests::local::{
    Acknowledged, LocalNode, SmallDisk, Writer, free_ports, initialise, replace_member,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

const NODES: usize = 3;
/// The member whose volume is on a disk that can be filled.
const SMALL: usize = 0;
/// The small disk: so much, and more for each second, as the data grows.
const SMALL_DISK_BYTES: u64 = 160 * 1024 * 1024;
const SMALL_DISK_BYTES_PER_SECOND: u64 = 128 * 1024;
/// Behind each statement of a writer.
const WRITER_PAUSE: Duration = Duration::from_millis(10);
const WRITERS: [&str; 2] = ["chaos-one", "chaos-two"];
/// How long the cluster may take to be whole again.
const HEALING: Duration = Duration::from_secs(120);
const ARGUMENTS: [&str; 10] = [
    "--election-timeout-ms",
    "600",
    "--heartbeat-interval-ms",
    "100",
    "--snapshot-after-entries",
    "1000",
    "--segment-bytes",
    "1048576",
    "--disk-reserve-bytes",
    "16777216",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    DamageWhileRunning,
    DamageWhileStopped,
    OneCopyOfAPromise,
    BothCopiesOfTheVote,
    Snapshot,
    Store,
    Truncation,
    SetBack,
    FullDisk,
}

const KINDS: [Kind; 10] = [
    Kind::Kill,
    Kind::DamageWhileRunning,
    Kind::DamageWhileStopped,
    Kind::OneCopyOfAPromise,
    Kind::BothCopiesOfTheVote,
    Kind::Snapshot,
    Kind::Store,
    Kind::Truncation,
    Kind::SetBack,
    Kind::FullDisk,
];

/// What may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Healed,
    Refused,
    /// A promise may be lost or not.
    Either,
}

impl Kind {
    fn expected(self) -> Expected {
        match self {
            Self::Kill
            | Self::OneCopyOfAPromise
            | Self::Snapshot
            | Self::Store
            | Self::FullDisk => Expected::Healed,
            Self::BothCopiesOfTheVote | Self::SetBack => Expected::Refused,
            Self::DamageWhileRunning | Self::DamageWhileStopped | Self::Truncation => {
                Expected::Either
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cases: usize,
    healed: usize,
    refused_rightly: usize,
}

struct Chaos {
    nodes: Vec<LocalNode>,
    small_disk: Option<SmallDisk>,
    folder: Option<tempfile::TempDir>,
    random: StdRng,
    started: Instant,
    until: Instant,
    counts: BTreeMap<Kind, Counts>,
    digests_compared: usize,
    copied_while_running: bool,
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            println!("what is left is in {}", folder.keep().display());
        }
    }
}

fn seconds() -> u64 {
    std::env::var("QUADRAFT_CHAOS_SECONDS")
        .map_or(120, |text| text.parse().expect("QUADRAFT_CHAOS_SECONDS"))
}

fn seed() -> u64 {
    std::env::var("QUADRAFT_CHAOS_SEED").map_or_else(
        |_| rand::random(),
        |text| text.parse().expect("QUADRAFT_CHAOS_SEED"),
    )
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let copied = if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())
        };
        match copied {
            // A running node removes files as it goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

/// Files under a folder for which this holds, sorted.
fn files(folder: &Path, holds: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, holds));
        } else if holds(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

impl Chaos {
    async fn start(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let small_disk = SmallDisk::mount(
            &folder.path().join("small"),
            SMALL_DISK_BYTES + seconds() * SMALL_DISK_BYTES_PER_SECOND,
        )
        .unwrap();
        if small_disk.is_none() {
            println!("NOT TRIED: full disks, because nothing can be mounted here");
        }
        let cluster_uuid = "6e5c2f0a-93a1-4f52-8c0e-3f6a1f6b7d10";
        let mut nodes = Vec::new();
        for (number, port) in free_ports(NODES).into_iter().enumerate() {
            let data = match &small_disk {
                Some(disk) if number == SMALL => disk.path().join("volume"),
                _ => folder.path().join(format!("volume-{number}")),
            };
            let message = folder.path().join(format!("message-{number}"));
            let mut arguments = vec![
                "--cluster-uuid",
                cluster_uuid,
                "--termination-message",
                message.to_str().unwrap(),
            ];
            arguments.extend(ARGUMENTS);
            let mut node = LocalNode::new(data, port, &arguments);
            node.log_to(folder.path().join(format!("node-{number}.log")));
            node.start().unwrap();
            nodes.push(node);
        }
        initialise(&nodes, cluster_uuid).await.unwrap();
        for node in &nodes {
            node.wait_ready().await.unwrap();
        }
        let started = Instant::now();
        Self {
            nodes,
            small_disk,
            folder: Some(folder),
            random: StdRng::seed_from_u64(seed),
            started,
            until: started + Duration::from_secs(seconds()),
            counts: BTreeMap::new(),
            digests_compared: 0,
            copied_while_running: false,
        }
    }

    fn say(&self, text: &str) {
        let left = self.until.saturating_duration_since(Instant::now());
        println!(
            "{:7.1} s, {:4} s left  {text}",
            self.started.elapsed().as_secs_f64(),
            left.as_secs()
        );
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.random.random_range(0..items.len())].clone()
    }

    fn message(&self, number: usize) -> Value {
        let path = self.folder.as_ref().unwrap().path();
        let text = std::fs::read_to_string(path.join(format!("message-{number}")));
        serde_json::from_str(&text.unwrap_or_default()).unwrap_or(Value::Null)
    }

    async fn restart(&mut self, number: usize) {
        self.nodes[number].kill().await.unwrap();
        self.nodes[number].start().unwrap();
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = Duration::from_millis(self.random.random_range(milliseconds));
        tokio::time::sleep(pause).await;
    }

    /// Flips bits of a segment in use.
    fn damage_the_log(&mut self, victim: usize) -> String {
        const PARTS: [SegmentPart; 6] = [
            SegmentPart::Payload,
            SegmentPart::Payload,
            SegmentPart::RecordHeader,
            SegmentPart::BatchHeader,
            SegmentPart::Identifiers,
            SegmentPart::Header,
        ];
        let mut done = Vec::new();
        while done.is_empty() {
            for _ in 0..self.random.random_range(1..=3) {
                let segments = segments(&self.nodes[victim].data).unwrap();
                let segment = self.pick(&segments);
                let part = self.pick(&PARTS);
                let Some(places) = places(&segment, part)
                    .ok()
                    .filter(|found| !found.is_empty())
                else {
                    continue;
                };
                let (offset, length) = self.pick(&places);
                let at = offset + self.random.random_range(0..length);
                // It may just have been let go by the running node.
                if flip_a_bit(&segment, at).is_ok() {
                    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
                    done.push(format!("{part:?} at byte {at} of {name}"));
                }
            }
        }
        done.join(", ")
    }

    /// Waits for a file that a running node makes sooner or later.
    async fn wait_for_file(&self, folder: PathBuf, ends_with: &str) -> PathBuf {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let found = files(&folder, |path| {
                path.extension()
                    .is_some_and(|extension| extension == ends_with)
            });
            if let Some(path) = found.last() {
                return path.clone();
            }
            assert!(
                Instant::now() < until,
                "no .{ends_with} in {}",
                folder.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lets one thing go wrong, and says what it was.
    async fn strike(&mut self, kind: Kind, victim: usize) -> String {
        let data = self.nodes[victim].data.clone();
        match kind {
            Kind::Kill => {
                let mut victims: Vec<usize> = (0..NODES).collect();
                let spared = self.random.random_range(0..NODES);
                for _ in 0..spared {
                    let index = self.random.random_range(0..victims.len());
                    victims.remove(index);
                }
                for number in &victims {
                    self.nodes[*number].kill().await.unwrap();
                }
                self.pause(0..2000).await;
                for number in &victims {
                    self.nodes[*number].start().unwrap();
                }
                format!("members {victims:?} killed")
            }
            Kind::DamageWhileRunning => {
                let what = self.damage_the_log(victim);
                self.pause(0..1500).await;
                self.restart(victim).await;
                format!("{what}, while it ran; then killed")
            }
            Kind::DamageWhileStopped => {
                self.nodes[victim].kill().await.unwrap();
                let what = self.damage_the_log(victim);
                self.nodes[victim].start().unwrap();
                what
            }
            Kind::OneCopyOfAPromise => {
                self.nodes[victim].kill().await.unwrap();
                let mut names = vec!["vote", "superblock", "peers"];
                // What is remembered of the others is not written down at once.
                names.retain(|name| data.join(name).exists());
                let name = self.pick(&names);
                let copy = self.pick(&[0, 1024 * 1024]);
                let at = copy + self.random.random_range(24..40);
                flip_a_bit(&data.join(name), at).unwrap();
                self.nodes[victim].start().unwrap();
                format!("byte {at} of {name}")
            }
            Kind::BothCopiesOfTheVote => {
                self.nodes[victim].kill().await.unwrap();
                make_vote_unreadable(&data).unwrap();
                self.nodes[victim].start().unwrap();
                "both copies of the vote".to_owned()
            }
            Kind::Snapshot => {
                self.wait_for_file(data.join("snapshots"), "snapshot").await;
                self.nodes[victim].kill().await.unwrap();
                let path = self.wait_for_file(data.join("snapshots"), "snapshot").await;
                let length = std::fs::metadata(&path).unwrap().len();
                let at = self.random.random_range(0..length);
                flip_a_bit(&path, at).unwrap();
                self.nodes[victim].start().unwrap();
                format!("byte {at} of the snapshot")
            }
            Kind::Store => {
                self.nodes[victim].kill().await.unwrap();
                let manifests = files(&data.join("store"), |path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with("MANIFEST") || name == "CURRENT"
                });
                let path = self.pick(&manifests);
                std::fs::write(&path, b"damaged").unwrap();
                self.nodes[victim].start().unwrap();
                format!("{} of the store", path.file_name().unwrap().display())
            }
            Kind::Truncation => {
                self.nodes[victim].kill().await.unwrap();
                let mut candidates = segments(&data).unwrap();
                candidates.push(data.join("vote"));
                candidates.extend(files(&data.join("snapshots"), |path| {
                    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
                }));
                let path = self.pick(&candidates);
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                let length = self.random.random_range(0..file.metadata().unwrap().len());
                file.set_len(length).unwrap();
                self.nodes[victim].start().unwrap();
                format!(
                    "{} cut to {length} bytes",
                    path.file_name().unwrap().display()
                )
            }
            Kind::SetBack => self.set_back(victim).await,
            Kind::FullDisk => self.fill_the_disk().await,
        }
    }

    /// Replaces a volume by an older copy of itself.
    async fn set_back(&mut self, victim: usize) -> String {
        let data = self.nodes[victim].data.clone();
        let folder = self.folder.as_ref().unwrap().path().to_owned();
        let copy = folder.join("copy");
        let while_running = self.random.random_bool(0.5);
        self.copied_while_running = while_running;
        if !while_running {
            self.nodes[victim].kill().await.unwrap();
        }
        copy_folder(&data, &copy).unwrap();
        let before = self.nodes[victim].status().await;
        if !while_running {
            self.nodes[victim].start().unwrap();
            self.nodes[victim].wait_ready().await.unwrap();
        }
        // What was seen of it has to be written down by the others, in case they are killed too.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let after = self.nodes[victim].status().await.unwrap();
        if let Some(before) = before {
            let index = |status: &v1::StatusResponse| status.applied.map(|id| id.index);
            assert!(
                index(&after) > index(&before),
                "nothing was written meanwhile"
            );
        }
        let everybody = self.random.random_bool(0.5);
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if everybody || number == victim {
                node.kill().await.unwrap();
            }
        }
        std::fs::remove_dir_all(&data).unwrap();
        copy_folder(&copy, &data).unwrap();
        std::fs::remove_dir_all(&copy).unwrap();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if everybody || number == victim {
                node.start().unwrap();
            }
        }
        format!(
            "replaced by a copy made 8 s ago while it {}{}",
            if while_running { "ran" } else { "was stopped" },
            if everybody { ", and all killed" } else { "" }
        )
    }

    async fn fill_the_disk(&mut self) -> String {
        let disk = self.small_disk.as_ref().unwrap();
        let filled = disk.fill().unwrap();
        let node = &self.nodes[SMALL];
        let half_minute = Duration::from_secs(30);
        node.wait_for("short of space", half_minute, |status| status.disk_is_short)
            .await
            .unwrap();
        // The others have space: one of them leads, and writes go on.
        let until = Instant::now() + half_minute;
        loop {
            let mut leads_elsewhere = false;
            for (number, node) in self.nodes.iter().enumerate() {
                let status = node.status().await;
                leads_elsewhere |= number != SMALL
                    && status.is_some_and(|status| status.role() == v1::Role::Leader);
            }
            if leads_elsewhere {
                break;
            }
            assert!(Instant::now() < until, "leadership was never handed on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let index = |status: &v1::StatusResponse| status.applied.map(|id| id.index);
        let before = index(&self.nodes[1].status().await.unwrap());
        let other = &self.nodes[1];
        other
            .wait_for("written to", half_minute, |status| index(status) > before)
            .await
            .unwrap();
        self.pause(1000..4000).await;
        let killed = self.random.random_bool(0.5);
        let mut how = "";
        if killed {
            self.restart(SMALL).await;
            // What the cluster goes on writing may have used up what was kept for a start: then it
            // waits for space, and does not end.
            let serves = self.nodes[SMALL]
                .wait_for("serving", Duration::from_secs(10), |status| {
                    status.disk_is_short
                })
                .await
                .is_ok();
            how = if serves {
                ", and killed meanwhile: it serves again"
            } else {
                ", and killed meanwhile: it waits for space"
            };
            self.pause(500..3000).await;
        }
        let ended = self.nodes[SMALL].has_ended().unwrap();
        assert_eq!(ended, None, "a full disk ended the node");
        self.small_disk.as_ref().unwrap().free().unwrap();
        format!("filled with {filled} bytes{how}")
    }

    /// Waits until all members are whole, caught up and equal; restarts those that ended. True when
    /// the victim refused its volume.
    async fn heal(&mut self, kind: Kind, victim: usize) -> bool {
        let until = Instant::now() + HEALING;
        let mut restarts = 0;
        loop {
            for number in 0..NODES {
                let Some(code) = self.nodes[number].has_ended().unwrap() else {
                    continue;
                };
                let message = self.message(number);
                match code {
                    Some(20) if number == victim && kind.expected() != Expected::Healed => {
                        self.say(&format!(
                            "member {number} refuses: {} ({})",
                            message["reason"], message["message"]
                        ));
                        // A copy of a volume in use may contradict itself too.
                        if kind == Kind::SetBack && !self.copied_while_running {
                            assert_eq!(message["reason"], "set_back", "{message}");
                        }
                        return true;
                    }
                    Some(1 | 23) if restarts < 3 => {
                        self.say(&format!("member {number} ended with {code:?}: {message}"));
                        restarts += 1;
                        self.nodes[number].start().unwrap();
                    }
                    code => panic!("{kind:?}: member {number} ended with {code:?}: {message}"),
                }
            }
            match self.look().await {
                Ok(()) => return false,
                Err(what) => assert!(Instant::now() < until, "{kind:?}: {what}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether all members are whole, caught up, and equal.
    async fn look(&mut self) -> Result<(), String> {
        let mut statuses = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let status = node
                .status()
                .await
                .ok_or(format!("member {number} does not answer"))?;
            if !status.ready || !status.unreadable.is_empty() || status.disk_is_short {
                return Err(format!(
                    "member {number}: {:?}, cannot read {:?}, short of space: {}",
                    status.not_ready_reason, status.unreadable, status.disk_is_short
                ));
            }
            statuses.push(status);
        }
        let leader = statuses
            .iter()
            .find(|status| status.role() == v1::Role::Leader)
            .ok_or("nobody leads")?;
        let index = leader.applied.ok_or("nothing is applied")?.index;
        let mut digests = BTreeSet::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let deadline = Duration::from_secs(20);
            node.wait_for("caught up", deadline, |status| {
                status.applied.is_some_and(|id| id.index >= index)
            })
            .await?;
            let mut admin = AdminConnection::connect(&node.peer_address(), deadline)
                .await
                .map_err(|error| error.to_string())?;
            let answer = admin
                .digest_at(v1::DigestAtRequest { log_index: index })
                .await
                .map_err(|error| error.to_string())?;
            if !answer.known {
                return Err(format!("member {number} has forgotten index {index}"));
            }
            digests.insert(answer.digest);
        }
        assert_eq!(digests.len(), 1, "UNSAFE: members differ at index {index}");
        self.digests_compared += 1;
        Ok(())
    }

    /// One thing that goes wrong, from the beginning to the end of its consequences.
    async fn case(&mut self, kind: Kind) {
        let victim = if kind == Kind::FullDisk {
            SMALL
        } else {
            self.random.random_range(0..NODES)
        };
        let what = self.strike(kind, victim).await;
        self.say(&format!("{kind:?} on member {victim}: {what}"));
        // A crash of another member on top loses nothing.
        if !matches!(kind, Kind::Kill | Kind::FullDisk) && self.random.random_bool(0.3) {
            let other = (victim + self.random.random_range(1..NODES)) % NODES;
            self.pause(0..1000).await;
            self.restart(other).await;
            self.say(&format!("member {other} killed too"));
        }
        let refused = self.heal(kind, victim).await;
        if refused {
            self.give_a_new_identity(victim).await;
            let refused_again = self.heal(kind, victim).await;
            assert!(!refused_again, "an empty volume is refused");
        }
        assert!(
            refused || kind.expected() != Expected::Refused,
            "UNSAFE: {kind:?} was not refused"
        );
        self.empty_quarantine();
        let counts = self.counts.entry(kind).or_default();
        counts.cases += 1;
        if refused {
            counts.refused_rightly += 1;
        } else {
            counts.healed += 1;
        }
    }

    /// What a person does who has looked at what was set aside.
    fn empty_quarantine(&self) {
        for node in &self.nodes {
            match std::fs::remove_dir_all(node.data.join("quarantine")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }

    /// What the operator does: the volume aside, an empty one in its place, the old identity out, the
    /// new one in.
    async fn give_a_new_identity(&mut self, victim: usize) {
        let data = self.nodes[victim].data.clone();
        std::fs::remove_dir_all(&data).unwrap();
        self.nodes[victim].start().unwrap();
        let until = Instant::now() + HEALING;
        replace_member(&self.nodes, victim, until).await.unwrap();
        self.say(&format!("member {victim} is back under a new identity"));
    }
}

/// Nothing acknowledged is missing, nothing that was never sent appears.
fn assert_kept(written: &Acknowledged, found: &BTreeSet<u64>, where_: &str) {
    let missing: Vec<_> = written.acknowledged.difference(found).collect();
    assert!(
        missing.is_empty(),
        "UNSAFE: acknowledged but missing on {where_}: {missing:?}"
    );
    let strange: Vec<_> = found
        .iter()
        .filter(|number| {
            !written.acknowledged.contains(number) && !written.uncertain.contains(number)
        })
        .collect();
    assert!(
        strange.is_empty(),
        "UNSAFE: never sent but on {where_}: {strange:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_whatever_happens_to_one_member_at_a_time() {
    let seed = seed();
    println!(
        "QUADRAFT_CHAOS_SEED={seed} QUADRAFT_CHAOS_SECONDS={}",
        seconds()
    );
    let mut chaos = Chaos::start(seed).await;
    let endpoints: Vec<String> = chaos.nodes.iter().map(|node| node.url("/update")).collect();
    let writers: Vec<Writer> = WRITERS
        .iter()
        .map(|name| {
            let patience = Duration::from_secs(180);
            Writer::start_at_pace(endpoints.clone(), name, patience, WRITER_PAUSE)
        })
        .collect();

    let mut kinds: Vec<Kind> = KINDS.to_vec();
    if chaos.small_disk.is_none() {
        kinds.retain(|kind| *kind != Kind::FullDisk);
    }
    // Every kind once, in any order; then whatever comes.
    let mut first = kinds.clone();
    while !first.is_empty() || Instant::now() < chaos.until {
        let kind = if first.is_empty() {
            chaos.pick(&kinds)
        } else {
            let index = chaos.random.random_range(0..first.len());
            first.remove(index)
        };
        chaos.case(kind).await;
        chaos.pause(0..1000).await;
    }

    let mut written = BTreeMap::new();
    for (name, writer) in WRITERS.iter().zip(writers) {
        written.insert(*name, writer.finish().await.unwrap());
    }
    chaos.heal(Kind::Kill, NODES).await;
    for (name, written) in &written {
        for (number, node) in chaos.nodes.iter().enumerate() {
            let found = node.numbers(name).await.unwrap();
            assert_kept(written, &found, &format!("member {number}"));
        }
    }
    println!(
        "{:22} {:>6} {:>7} {:>16} {:>7}",
        "", "cases", "healed", "refused rightly", "unsafe"
    );
    for (kind, counts) in &chaos.counts {
        println!(
            "{:22} {:6} {:7} {:16} {:7}",
            format!("{kind:?}"),
            counts.cases,
            counts.healed,
            counts.refused_rightly,
            0
        );
    }
    let acknowledged: usize = written.values().map(|w| w.acknowledged.len()).sum();
    let uncertain: usize = written.values().map(|w| w.uncertain.len()).sum();
    println!(
        "{acknowledged} acknowledged, {uncertain} uncertain, {} comparisons of digests",
        chaos.digests_compared
    );
    assert!(acknowledged > 100, "{acknowledged}");
    let tried: Vec<Kind> = chaos.counts.keys().copied().collect();
    assert_eq!(tried, kinds, "a kind was not tried");
}
