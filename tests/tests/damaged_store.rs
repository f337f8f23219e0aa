//! Damage to every file of the store, in every way, at rest and under load, in a cluster of one and
//! of three: real nodes, started again when they end, as a kubelet does it.
//!
//! `QUADRAFT_STORE_DAMAGE_CASES` says how many cases (200 unless set), `QUADRAFT_STORE_DAMAGE_SEED`
//! makes the same choices again. Each case: damage one file of one member; ask it queries that read
//! all indexes until all are answered; have all of it scrubbed. An answer that is not right, memory
//! beyond the bound, an end by a signal or more ends than one for a damage, and damage that nobody
//! finds or that does not heal are unsafe, of which there must be none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quadraft_tests::local::{LocalNode, Writer, free_ports};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

/// The things that queries ask for.
const THINGS: usize = 200;
const EVALUATION_MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// A node of this size takes so much; an evaluation may take the above, as much again before it is
/// known to run away, and what comes between two looks.
const MAXIMUM_RESIDENT_BYTES: u64 = 300 * 1024 * 1024 + 2 * EVALUATION_MEMORY_BYTES;
/// How long a case may take until everything is whole again.
const HEALING: Duration = Duration::from_secs(90);
/// The exit code of a node that has its next start rebuild the store.
const STORE_DAMAGED: i32 = 27;
const ARGUMENTS: [&str; 16] = [
    "--election-timeout-ms",
    "600",
    "--heartbeat-interval-ms",
    "100",
    "--snapshot-after-entries",
    "60",
    "--segment-bytes",
    "1048576",
    "--disk-reserve-bytes",
    "16777216",
    "--scrub-interval-seconds",
    "1",
    "--scrub-bytes-per-second",
    "1000000000",
    "--evaluation-memory-bytes",
    "134217728",
];

/// What they ask for is never changed.
const QUERIES: &[&str] = &[
    "SELECT (COUNT(*) AS ?n) { ?s ?p ?o . ?s <u:label> ?l }",
    "SELECT ?g (COUNT(*) AS ?n) { GRAPH ?g { ?s <u:number> ?o } } GROUP BY ?g",
    "SELECT ?p ?o { <u:7> ?p ?o }",
    "SELECT ?s { ?s <u:next> <u:7> }",
    "SELECT ?s { GRAPH <u:g> { ?s <u:number> ?n FILTER(?n > 100) } }",
    "SELECT ?s { GRAPH ?g { ?s ?p 77 } }",
    "SELECT ?s { ?s <u:label> ?l FILTER(CONTAINS(?l, \"number 7\")) }",
    "SELECT ?l { ?s <u:label> ?l } ORDER BY DESC(?l) LIMIT 5",
    "SELECT (MAX(?l) AS ?m) (SUM(?n) AS ?t) { ?s <u:label> ?l ; <u:number> ?n }",
    "SELECT ?s { ?s <u:number> ?n MINUS { ?s <u:next> ?t . ?t <u:number> ?m FILTER(?m > 50) } }",
    "SELECT DISTINCT ?p { ?s ?p ?o . ?s <u:label> ?l }",
    "SELECT ?s { ?s <u:next>/<u:next> ?t . ?t <u:number> 9 }",
    "SELECT (COUNT(*) AS ?n) { <u:1> <u:next>+ ?t }",
    "SELECT ?s { ?s <u:number> ?n FILTER NOT EXISTS { ?s <u:next> ?t . ?t <u:number> ?m FILTER(?m > 5) } }",
    "SELECT ?s ?l { ?s <u:number> ?n FILTER(?n < 20) OPTIONAL { GRAPH <u:g> { ?s <u:label> ?l } } }",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Table,
    WriteAheadLog,
    Manifest,
    Current,
    /// What RocksDB writes and never reads: its options, its identity, its own log.
    Unread,
    /// What scrubbing knows of the tables.
    DigestsOfTables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Bit,
    Byte,
    Sector,
    Block,
    Truncated,
    Removed,
}

const DAMAGES: [Damage; 6] = [
    Damage::Bit,
    Damage::Byte,
    Damage::Sector,
    Damage::Block,
    Damage::Truncated,
    Damage::Removed,
];

/// Tables are most of a store.
const KINDS: [Kind; 10] = [
    Kind::Table,
    Kind::Table,
    Kind::Table,
    Kind::Table,
    Kind::Table,
    Kind::WriteAheadLog,
    Kind::Manifest,
    Kind::Current,
    Kind::Unread,
    Kind::DigestsOfTables,
];

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cases: usize,
    at_start: usize,
    by_reading: usize,
    by_watchdog: usize,
    by_scrubbing: usize,
    /// Nothing reads what was damaged, or it was replaced before anybody did.
    nothing_lost: usize,
    healed: usize,
    unsafe_: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.at_start += other.at_start;
        self.by_reading += other.by_reading;
        self.by_watchdog += other.by_watchdog;
        self.by_scrubbing += other.by_scrubbing;
        self.nothing_lost += other.nothing_lost;
        self.healed += other.healed;
        self.unsafe_ += other.unsafe_;
    }
}

type Table = BTreeMap<(Kind, Damage, bool), Counts>;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// One cluster, damaged again and again.
struct Bed {
    nodes: Vec<LocalNode>,
    client: reqwest::Client,
    expected: Vec<Vec<String>>,
    random: StdRng,
    table: Table,
    failures: Vec<String>,
    most_resident_bytes: u64,
    _folder: tempfile::TempDir,
}

impl Bed {
    async fn start(size: usize, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(size);
        let members = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect::<Vec<_>>()
            .join(",");
        let mut nodes = Vec::new();
        for port in ports {
            let mut arguments = vec!["--members", &members];
            arguments.extend(ARGUMENTS);
            let data = folder.path().join(format!("node-{port}"));
            let mut node = LocalNode::new(data, port, &arguments);
            node.start().unwrap();
            nodes.push(node);
        }
        for node in &nodes {
            node.wait_ready().await.unwrap();
        }
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let mut bed = Self {
            nodes,
            client,
            expected: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            table: Table::new(),
            failures: Vec::new(),
            most_resident_bytes: 0,
            _folder: folder,
        };
        bed.fill().await;
        bed
    }

    async fn update(&self, text: String) {
        let answer = self
            .client
            .post(self.nodes[0].url("/update"))
            .header("content-type", "application/sparql-update")
            .body(text)
            .send()
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
    }

    /// Data with several blocks in the tables of each index, in a few layers of tables.
    async fn fill(&mut self) {
        let filling = "x".repeat(150);
        for part in 0..4 {
            let things: String = (0..THINGS)
                .filter(|number| number % 4 == part)
                .map(|number| {
                    let next = (number + 1) % THINGS;
                    format!(
                        "<u:{number}> <u:label> \"number {number} {filling}\" ; <u:number> {number} ; \
                         <u:next> <u:{next}> . "
                    )
                })
                .collect();
            self.update(format!(
                "INSERT DATA {{ {things} GRAPH <u:g> {{ {things} }} }}"
            ))
            .await;
            for number in 0..70 {
                self.update(format!(
                    "INSERT DATA {{ <u:filler> <u:of> {number}{part} }}"
                ))
                .await;
            }
        }
        for query in QUERIES {
            let rows = self.ask(0, query).await.unwrap();
            assert!(!rows.is_empty(), "{query}");
            self.expected.push(rows);
        }
        // What can be told without asking.
        assert_eq!(self.expected[0], [format!("{}", THINGS * 3)]);
        assert_eq!(self.expected[12], [format!("{THINGS}")]);
        let total = THINGS * (THINGS - 1) / 2;
        assert!(self.expected[8][0].ends_with(&format!(",{total}")));
        for victim in 0..self.nodes.len() {
            let since = now_ms();
            let node = &self.nodes[victim];
            node.wait_for("caught up", Duration::from_secs(30), |status| {
                status.applied.is_some_and(|applied| applied.index > 280)
            })
            .await
            .unwrap();
            let until = Instant::now() + HEALING;
            if let Err(error) = self.scrubbed(victim, since, until).await {
                panic!("{error}:\n{}", tail(&self.nodes[victim].logged(), 40));
            }
        }
    }

    /// The rows of an answer, in order.
    async fn ask(&self, node: usize, query: &str) -> Result<Vec<String>, String> {
        let answer = self
            .client
            .post(self.nodes[node].url("/query"))
            .header("content-type", "application/sparql-query")
            .header("accept", "text/csv")
            .body(query.to_owned())
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        let mut rows: Vec<_> = text.lines().skip(1).map(ToOwned::to_owned).collect();
        rows.sort();
        Ok(rows)
    }

    /// What the node says of its scrubbing: when the last round began, and what it could not repair.
    async fn last_scrub(&self, node: usize) -> Option<(u64, u64)> {
        let answer = self.client.get(self.nodes[node].url("/status"));
        let status: Value =
            serde_json::from_str(&answer.send().await.ok()?.text().await.ok()?).ok()?;
        let last = &status["scrub"]["last"];
        Some((last["started_ms"].as_u64()?, last["unrepairable"].as_u64()?))
    }

    /// Waits until everything was scrubbed and found whole by a round that began after `since_ms`.
    async fn scrubbed(&mut self, node: usize, since_ms: u64, until: Instant) -> Result<(), String> {
        loop {
            self.start_again(node)?;
            if let Some((started_ms, 0)) = self.last_scrub(node).await
                && started_ms > since_ms
            {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("it was not scrubbed and found whole in time".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts a node again that has ended, as a kubelet does. Any other end than for a damaged store
    /// is a failure.
    fn start_again(&mut self, node: usize) -> Result<bool, String> {
        match self.nodes[node].has_ended().unwrap() {
            None => Ok(false),
            Some(Some(STORE_DAMAGED)) => {
                self.nodes[node].start().unwrap();
                Ok(true)
            }
            Some(code) => Err(format!("the node ended with {code:?}")),
        }
    }

    /// What was written, as this node has it. Damage may come out late: RocksDB writes over a log that
    /// it needs no more, and notices then that it is gone.
    async fn written(&mut self, node: usize) -> Result<BTreeSet<u64>, String> {
        let until = Instant::now() + HEALING;
        loop {
            self.start_again(node)?;
            let told = self.nodes[node].numbers("writer").await;
            if told.is_ok() || Instant::now() > until {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pick(&mut self, victim: usize, kind: Kind) -> Option<PathBuf> {
        let store = self.nodes[victim].data.join("store");
        let mut generations: Vec<_> = entries(&store)
            .into_iter()
            .filter(|path| path.is_dir() && name(path).starts_with("generation-"))
            .collect();
        generations.sort();
        let mut files = entries(generations.last()?);
        files.extend(entries(&store).into_iter().filter(|path| path.is_file()));
        files.retain(|path| {
            let name = name(path);
            let is_empty = fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
            kind == Kind::of(&name) && !is_empty
        });
        files.sort();
        if files.is_empty() {
            return None;
        }
        let place = self.random.random_range(0..files.len());
        Some(files.swap_remove(place))
    }

    fn damage(&mut self, path: &Path, damage: Damage) -> std::io::Result<()> {
        let length = fs::metadata(path)?.len();
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let at = self.random.random_range(0..length);
        let overwrite = |size: u64| {
            let start = at / size * size;
            let bytes = usize::try_from(size.min(length - start)).unwrap();
            file.write_all_at(&vec![0; bytes], start)
        };
        match damage {
            Damage::Bit => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                let bit = self.random.random_range(0..8);
                file.write_all_at(&[byte[0] ^ (1 << bit)], at)
            }
            Damage::Byte => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                let other = byte[0].wrapping_add(self.random.random_range(1..=255));
                file.write_all_at(&[other], at)
            }
            Damage::Sector => overwrite(512),
            Damage::Block => overwrite(4096),
            Damage::Truncated => file.set_len(at),
            Damage::Removed => fs::remove_file(path),
        }
    }

    /// Whether scrubbing has to notice each byte of a file: of a table it knows all since the last
    /// round that found it whole, and before that what is read of it.
    fn is_known(&self, victim: usize, path: &Path) -> bool {
        let digests = entries(&self.nodes[victim].data.join("store"))
            .into_iter()
            .filter(|path| Kind::of(&name(path)) == Kind::DigestsOfTables)
            .filter_map(|path| fs::read_to_string(path).ok());
        Kind::of(&name(path)) != Kind::Table
            || digests.into_iter().any(|text| text.contains(&name(path)))
    }

    /// One case. What is wrong is told in words.
    async fn case(&mut self) {
        let victim = self.random.random_range(0..self.nodes.len());
        let kind = KINDS[self.random.random_range(0..KINDS.len())];
        let damage = DAMAGES[self.random.random_range(0..DAMAGES.len())];
        let at_rest = self.random.random_bool(0.5);
        if at_rest {
            self.nodes[victim].kill().await.unwrap();
        }
        let Some(path) = self.pick(victim, kind) else {
            if at_rest {
                self.nodes[victim].start().unwrap();
            }
            return;
        };
        let logged = self.nodes[victim].logged().len();
        let is_known = self.is_known(victim, &path);
        let inode = fs::metadata(&path).map(|metadata| metadata.ino()).ok();
        // The kernel writes what a running node has just written over it.
        let damaged = self.damage(&path, damage);
        let since_ms = now_ms();
        if at_rest {
            self.nodes[victim].start().unwrap();
        }
        if damaged.is_err() {
            // It was replaced in between.
            return;
        }
        let until = Instant::now() + HEALING;
        let resident = Resident::watch(&self.nodes[victim]);
        let came = self.heal(victim, since_ms, until, &resident).await;
        let resident_bytes = resident.most_bytes.load(Ordering::Relaxed);
        self.most_resident_bytes = self.most_resident_bytes.max(resident_bytes);
        let log = self.nodes[victim].logged();
        let log = log.get(logged..).unwrap_or_default();
        let mut counts = Counts {
            cases: 1,
            ..Counts::default()
        };
        let found = Found::of(log);
        match found {
            Found::AtStart => counts.at_start = 1,
            Found::ByReading => counts.by_reading = 1,
            Found::ByWatchdog => counts.by_watchdog = 1,
            Found::ByScrubbing => counts.by_scrubbing = 1,
            Found::Nothing => counts.nothing_lost = 1,
        }
        let is_gone = fs::metadata(&path).map(|metadata| metadata.ino()).ok() != inode;
        let wrong = match came {
            Err(wrong) => Some(wrong),
            Ok(ends) if ends > 1 => Some(format!("the node ended {ends} times")),
            Ok(_) if resident_bytes > MAXIMUM_RESIDENT_BYTES => {
                Some(format!("the node had {} MiB", resident_bytes >> 20))
            }
            Ok(_) if found == Found::Nothing && kind.is_read() && is_known && !is_gone => {
                Some("nobody found it".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            counts.unsafe_ = 1;
            self.failures.push(format!(
                "{kind:?}, {damage:?}, at rest: {at_rest}, {}: {wrong}\n{}",
                path.display(),
                tail(log, 12)
            ));
        } else {
            counts.healed = 1;
        }
        self.table
            .entry((kind, damage, at_rest))
            .or_default()
            .add(counts);
    }

    /// Asks until all is answered and scrubbed; gives how often the node ended.
    async fn heal(
        &mut self,
        victim: usize,
        since_ms: u64,
        until: Instant,
        resident: &Resident,
    ) -> Result<usize, String> {
        let mut ends = 0;
        let mut answered = 0;
        while answered < QUERIES.len() {
            if self.start_again(victim)? {
                ends += 1;
                // Who asks the rebuilt store gets answers from the rebuilt store.
                answered = 0;
            }
            resident.follow(&self.nodes[victim]);
            if Instant::now() > until {
                return Err(format!("{:?} is not answered", QUERIES[answered]));
            }
            match self.ask(victim, QUERIES[answered]).await {
                Ok(rows) if rows == self.expected[answered] => answered += 1,
                Ok(rows) => {
                    return Err(format!(
                        "{:?} is answered wrongly: {} rows instead of {}",
                        QUERIES[answered],
                        rows.len(),
                        self.expected[answered].len()
                    ));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        loop {
            if self.start_again(victim)? {
                ends += 1;
            }
            if let Some((started_ms, 0)) = self.last_scrub(victim).await
                && started_ms > since_ms
            {
                return Ok(ends);
            }
            resident.follow(&self.nodes[victim]);
            if Instant::now() > until {
                return Err("it was not scrubbed and found whole in time".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    AtStart,
    ByReading,
    ByWatchdog,
    ByScrubbing,
    Nothing,
}

impl Found {
    /// Who found it first, as the log tells.
    fn of(log: &str) -> Self {
        log.lines()
            .find_map(|line| {
                if line.contains("the store cannot be opened and is rebuilt") {
                    Some(Self::AtStart)
                } else if line.contains("the store seems to be damaged") {
                    Some(Self::ByScrubbing)
                } else if line.contains("an evaluation that was stopped goes on") {
                    Some(Self::ByWatchdog)
                } else if line.contains("the store is damaged") {
                    Some(Self::ByReading)
                } else {
                    None
                }
            })
            .unwrap_or(Self::Nothing)
    }
}

impl Kind {
    fn of(name: &str) -> Self {
        if name.ends_with(".sst") {
            Self::Table
        } else if name.ends_with(".log") {
            Self::WriteAheadLog
        } else if name.starts_with("MANIFEST-") {
            Self::Manifest
        } else if name == "CURRENT" {
            Self::Current
        } else if name.starts_with("tables-of-") {
            Self::DigestsOfTables
        } else {
            Self::Unread
        }
    }

    /// Whether the store needs what is in such a file. A write-ahead log gives back what is whole of
    /// it, and the Raft log the rest.
    fn is_read(self) -> bool {
        matches!(self, Self::Table | Self::Manifest | Self::Current)
    }
}

/// The last lines.
fn tail(log: &str, lines: usize) -> String {
    let count = log.lines().count();
    let last: Vec<_> = log.lines().skip(count.saturating_sub(lines)).collect();
    last.join("\n")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The most memory that a process has, looked at all the time.
struct Resident {
    process: Arc<AtomicU64>,
    most_bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Resident {
    fn watch(node: &LocalNode) -> Self {
        let process = Arc::new(AtomicU64::new(0));
        let most_bytes = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let (process, most_bytes) = (process.clone(), most_bytes.clone());
            async move {
                loop {
                    let id = process.load(Ordering::Relaxed);
                    if let Some(bytes) = resident_bytes(id) {
                        most_bytes.fetch_max(bytes, Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        let resident = Self {
            process,
            most_bytes,
            task,
        };
        resident.follow(node);
        resident
    }

    fn follow(&self, node: &LocalNode) {
        let id = node.process_id().map_or(0, u64::from);
        self.process.store(id, Ordering::Relaxed);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn resident_bytes(process: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Damages one cluster until its share of the cases is done, under a writer.
async fn work(size: usize, cases: usize, seed: u64) -> (Table, Vec<String>, u64) {
    let mut bed = Bed::start(size, seed).await;
    let endpoints = bed.nodes.iter().map(|node| node.url("/update")).collect();
    let writer = Writer::start_at_pace(
        endpoints,
        "writer",
        Duration::from_secs(60),
        // What it writes is scrubbed with the rest in each case.
        Duration::from_millis(150),
    );
    let done = |bed: &Bed| bed.table.values().map(|counts| counts.cases).sum::<usize>();
    let mut told = Instant::now();
    while done(&bed) < cases && bed.failures.is_empty() {
        bed.case().await;
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("a cluster of {size}: {} of {cases} cases", done(&bed));
        }
    }
    let acknowledged = writer.finish().await.unwrap();
    if bed.failures.is_empty() {
        for node in 0..bed.nodes.len() {
            match bed.written(node).await {
                Err(wrong) => bed.failures.push(wrong),
                Ok(there) => {
                    let lost = acknowledged.acknowledged.difference(&there).count();
                    if lost > 0 {
                        bed.failures
                            .push(format!("{lost} acknowledged writes are lost"));
                    }
                }
            }
        }
    }
    println!(
        "a cluster of {size}: {} writes acknowledged, none lost; {} MiB at most",
        acknowledged.acknowledged.len(),
        bed.most_resident_bytes >> 20
    );
    (bed.table, bed.failures, bed.most_resident_bytes)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_store_is_found_and_healed_and_never_answers_wrongly() {
    let cases = usize::try_from(number("QUADRAFT_STORE_DAMAGE_CASES").unwrap_or(200)).unwrap();
    let seed = number("QUADRAFT_STORE_DAMAGE_SEED").unwrap_or_else(rand::random);
    println!("QUADRAFT_STORE_DAMAGE_SEED={seed}");
    let single = tokio::spawn(work(1, cases / 2, seed));
    let three = tokio::spawn(work(3, cases - cases / 2, seed.wrapping_add(1)));
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for (size, came) in [(1, single.await.unwrap()), (3, three.await.unwrap())] {
        let (table, wrong, _) = came;
        failures.extend(wrong);
        println!("\na cluster of {size}");
        println!(
            "{:<16} {:<10} {:<8} {:>6} {:>9} {:>11} {:>12} {:>13} {:>13} {:>7} {:>7}",
            "file",
            "damage",
            "when",
            "cases",
            "at start",
            "by reading",
            "by watchdog",
            "by scrubbing",
            "nothing lost",
            "healed",
            "unsafe"
        );
        for ((kind, damage, at_rest), counts) in table {
            println!(
                "{:<16} {:<10} {:<8} {:>6} {:>9} {:>11} {:>12} {:>13} {:>13} {:>7} {:>7}",
                format!("{kind:?}"),
                format!("{damage:?}"),
                if at_rest { "at rest" } else { "running" },
                counts.cases,
                counts.at_start,
                counts.by_reading,
                counts.by_watchdog,
                counts.by_scrubbing,
                counts.nothing_lost,
                counts.healed,
                counts.unsafe_
            );
            total.add(counts);
        }
    }
    println!("\n{total:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(total.cases >= cases && total.unsafe_ == 0, "{total:?}");
    assert!(total.by_reading > 0 && total.by_scrubbing > 0, "{total:?}");
}
