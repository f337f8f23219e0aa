//! `serve`: opens the volume, joins or forms its cluster, and serves until it is told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quadraft_protocol::{ExitCode, RecoveryReport, RefusalReason, v1};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Output;
use super::arguments::ServeArguments;
use super::bootstrap::{claim_for_new_cluster, initialise, peer_address, unshare};
use super::database::NodeDatabase;
use super::gauges;
use super::starting::{Phase, Start};
use crate::disk::{FileSystem as _, RealFileSystem, SharedFileSystem};
use crate::grpc::{self, UnclaimedService};
use crate::http::{self, HttpOptions};
use crate::log::LogOptions;
use crate::metrics::Metrics;
use crate::raft::{
    Node, NodeError, NodeOptions, PreparedNode, Retired, Retirement, SpaceLimits, StopReason,
};
use crate::recovery::{OpenOptions, Refusal, StorePlace, Volume, open_volume};
use crate::scrub::{ScrubOptions, start_scrubbing};
use crate::sparql::evaluation::on_runaway;
use crate::sparql::update::EvaluationLimits;

/// Kubernetes waits 30 seconds before it kills; leadership is handed on within this.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at a disk that is too full to start on.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("--members must contain the address of --listen, {0}")]
    NotAMember(SocketAddr),
    #[error("failed to watch for signals")]
    Signal(#[source] std::io::Error),
    #[error("the volume cannot be claimed")]
    Claim(#[source] crate::identity::IdentityError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the peer port failed")]
    Peer(#[source] tonic::transport::Error),
    #[error("the HTTP port failed")]
    Http(#[source] std::io::Error),
    #[error("the disk failed: {0}")]
    DiskFailed(String),
    #[error("the store is damaged, and is rebuilt at the next start: {0}")]
    StoreDamaged(String),
    #[error(
        "the store is damaged, and is not rebuilt because nobody else has its data: {0}; \
         `quadraft-node export` writes what can be read of it"
    )]
    OnlyCopyDamaged(String),
    #[error("failed to start a thread")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Retired(Retired),
    #[error("the Raft core stopped: {0}")]
    CoreStopped(String),
    #[error("a part of the node ended unexpectedly: {0}")]
    Task(String),
}

impl ServeError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotAMember(_) | Self::Node(NodeError::Options(_)) => ExitCode::Usage,
            Self::DiskFailed(_) | Self::Claim(_) => ExitCode::DiskFailed,
            Self::Retired(_) => ExitCode::VolumeRefused,
            Self::StoreDamaged(_) => ExitCode::StoreDamaged,
            _ => ExitCode::Failure,
        }
    }
}

pub(super) async fn serve(arguments: ServeArguments) -> ExitCode {
    let output = Output::new(arguments.termination_message.clone());
    let options = OpenOptions {
        data: arguments.volume.data.clone(),
        cluster_uuid: arguments.cluster_uuid,
        log: LogOptions {
            segment_bytes: arguments.segment_bytes,
        },
        store: StorePlace::Volume,
        lets_go_of_applied: false,
    };
    let stop = match stop_signal() {
        Ok(stop) => stop,
        Err(error) => {
            output.error(&error);
            return error.exit_code();
        }
    };
    // The ports are there from the beginning, so that whoever looks is told how far the start is. That
    // they are taken is told when it is known whose the volume is: a second process on it has both.
    let ports = Ports::listen(&arguments).await;
    let (start, metrics) = (Start::new(), Metrics::default());
    let answering = match &ports {
        Ok(ports) => ports.answer_meanwhile(&start, &metrics),
        Err(_) => Ok(Answering::default()),
    };
    let answering = match answering {
        Ok(answering) => answering,
        Err(error) => {
            output.error(&error);
            return error.exit_code();
        }
    };
    let opened = tokio::select! {
        opened = open(&options, space_limits(&arguments), &start) => opened,
        () = until_true(stop.clone()) => return ExitCode::Success,
    };
    let (volume, report) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(Refusal { report, exit_code })) => {
            tracing::error!(reason = ?report.reason, "the volume is refused: {}", report.message);
            output.report(&report);
            return exit_code;
        }
        Err(error) => {
            output.error(&error);
            return error.exit_code();
        }
    };
    tracing::info!(
        node_id = ?report.node_id,
        boot_count = report.boot_count,
        outcome = ?report.outcome,
        duration_ms = report.duration_ms,
        "{}",
        report.message
    );
    let found = report.clone();
    let front = Front {
        ports,
        answering,
        start,
        metrics,
    };
    match run(arguments, volume, report, front, stop, &output).await {
        Ok(()) => ExitCode::Success,
        Err(ServeError::Retired(retired)) => {
            let refusal = Refusal::new(found, retired.reason(), &retired);
            tracing::error!("the volume is refused: {}", refusal.report.message);
            output.report(&refusal.report);
            refusal.exit_code
        }
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

/// Opens the volume. A full disk is waited for: to end would only be to be started again.
async fn open(
    options: &OpenOptions,
    limits: SpaceLimits,
    start: &Arc<Start>,
) -> Result<Result<(Volume, RecoveryReport), Refusal>, ServeError> {
    loop {
        let options = options.clone();
        let data = options.data.clone();
        let watched = start.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let file_system: SharedFileSystem = Arc::new(RealFileSystem);
            let watched = watched.watched(&file_system, &options.data);
            open_volume(&watched, &options)
        })
        .await
        .map_err(|error| ServeError::Task(error.to_string()))?;
        match opened {
            Err(Refusal { report, .. }) if report.reason == Some(RefusalReason::DiskFull) => {
                tracing::error!(
                    "the volume cannot be opened on a full disk: {}",
                    report.message
                );
                start.enter(Phase::WaitingForSpace);
                wait_for_space(&data, limits).await;
                start.enter(Phase::OpeningVolume);
            }
            opened => return Ok(opened),
        }
    }
}

/// Waits until more is left than what only the log may use, and says so now and then.
async fn wait_for_space(data: &Path, limits: SpaceLimits) {
    let mut looks = 0_u64;
    loop {
        tokio::time::sleep(SPACE_PAUSE).await;
        match RealFileSystem.available_bytes(data) {
            Ok(bytes) if bytes >= limits.start_bytes() => return,
            Ok(bytes) if looks.is_multiple_of(30) => tracing::warn!(
                available_bytes = bytes,
                needed_bytes = limits.start_bytes(),
                "waiting for space on the disk"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the space on the disk cannot be told"),
        }
        looks += 1;
    }
}

fn space_limits(arguments: &ServeArguments) -> SpaceLimits {
    arguments.disk_reserve_bytes.map_or_else(
        || SpaceLimits::for_segments(arguments.segment_bytes),
        |reserve_bytes| SpaceLimits { reserve_bytes },
    )
}

/// The ports of clients and of metrics.
struct Ports {
    http: TcpListener,
    metrics: Option<TcpListener>,
}

impl Ports {
    async fn listen(arguments: &ServeArguments) -> Result<Self, ServeError> {
        Ok(Self {
            http: listen(arguments.listen).await?,
            metrics: match arguments.metrics_listen {
                Some(address) => Some(listen(address).await?),
                None => None,
            },
        })
    }

    /// Has somebody answer on the ports until the node itself does.
    fn answer_meanwhile(
        &self,
        start: &Arc<Start>,
        metrics: &Metrics,
    ) -> Result<Answering, ServeError> {
        let (finish, finished) = watch::channel(false);
        let mut tasks = Vec::new();
        for listener in std::iter::once(&self.http).chain(&self.metrics) {
            let listener = also(listener).map_err(ServeError::Http)?;
            tasks.push(start.serve(listener, metrics.clone(), finished.clone()));
        }
        Ok(Answering {
            finish: Some(finish),
            tasks,
        })
    }
}

/// A second listener on the same socket.
fn also(listener: &TcpListener) -> std::io::Result<TcpListener> {
    use std::os::fd::AsFd as _;
    let copy = listener.as_fd().try_clone_to_owned()?;
    TcpListener::from_std(copy.into())
}

/// Whoever answers while the node starts.
#[derive(Default)]
struct Answering {
    finish: Option<watch::Sender<bool>>,
    tasks: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Answering {
    /// Leaves the ports to the node.
    async fn finish(self) -> Result<(), ServeError> {
        if let Some(finish) = &self.finish {
            finish.send_replace(true);
        }
        for task in self.tasks {
            task.await
                .map_err(|error| ServeError::Task(error.to_string()))?
                .map_err(ServeError::Http)?;
        }
        Ok(())
    }
}

/// What clients see of the node from its beginning on.
struct Front {
    ports: Result<Ports, ServeError>,
    answering: Answering,
    start: Arc<Start>,
    metrics: Metrics,
}

/// Listens on an address. All addresses of a machine without IPv6 are those of IPv4.
async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|source| ServeError::Listen { address, source })
}

fn lacks_ipv6(error: &std::io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.raw_os_error() == Some(unsupported)
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

/// Becomes true when the process is told to stop.
fn stop_signal() -> Result<watch::Receiver<bool>, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}

async fn until_true(mut receiver: watch::Receiver<bool>) {
    // A sender that is gone can never say so any more: then there is nothing to wait for either.
    let _ = receiver.wait_for(|value| *value).await;
}

async fn run(
    arguments: ServeArguments,
    volume: Volume,
    report: RecoveryReport,
    front: Front,
    stop: watch::Receiver<bool>,
    output: &Output,
) -> Result<(), ServeError> {
    let Front {
        ports,
        answering,
        start,
        metrics,
    } = front;
    let Ports {
        http: http_listener,
        metrics: metrics_listener,
    } = ports?;
    if !arguments.members.is_empty() && !arguments.members.contains(&arguments.listen) {
        return Err(ServeError::NotAMember(arguments.listen));
    }
    let peer_listen = arguments
        .peer_listen
        .unwrap_or_else(|| peer_address(arguments.listen));
    start.enter(Phase::WaitingForCluster);
    let Some(volume) = claim(&arguments, volume, peer_listen, &stop).await? else {
        return Ok(());
    };
    start.enter(Phase::JoiningCluster);
    let options = NodeOptions {
        election_timeout_ms: arguments.election_timeout_ms,
        heartbeat_interval_ms: arguments.heartbeat_interval_ms,
        snapshot_after_entries: arguments.snapshot_after_entries,
        evaluation_limits: evaluation_limits(&arguments),
    };
    // The ports come before the core: a peer that asks too early waits instead of failing.
    let peer_listener = listen(peer_listen).await?;
    let limits = space_limits(&arguments);
    let (node, peer_listener, retirement) =
        start_node(volume, report, limits, options, peer_listener).await?;
    end_when_an_evaluation_runs_away(&node, output);
    node.run();
    tracing::info!(
        node_id = %node.node_id(),
        cluster_uuid = %node.cluster_uuid(),
        http = %arguments.listen,
        peers = %peer_listen,
        "serving"
    );
    start_bootstrap(&arguments, &node, peer_listen);
    crate::raft::start_comparing(node.clone());
    let scrubbing =
        start_scrubbing(&node, scrub_options(&arguments)).map_err(ServeError::Thread)?;

    answering.finish().await?;
    metrics.register(|registry| gauges::register(registry, node.clone()));
    let (finish, finished) = watch::channel(false);
    let peers = tokio::spawn(grpc::serve(
        node.clone(),
        peer_listener,
        until_true(finished.clone()),
    ));
    let http = serve_http(
        &arguments,
        &node,
        metrics,
        (http_listener, metrics_listener),
        &finished,
    );

    let ended = tokio::select! {
        () = drained(&arguments, &node, stop) => {
            tracing::info!("stopping");
            node.stop(TRANSFER_DEADLINE).await;
            Ok(())
        }
        reason = node.stopped() => Err(match reason {
            StopReason::DiskFailed(error) => ServeError::DiskFailed(error),
            StopReason::StoreDamaged(what) => {
                // The others must not evaluate writes against what this one has.
                node.stop(TRANSFER_DEADLINE).await;
                ServeError::StoreDamaged(what)
            }
            StopReason::OnlyCopyDamaged(what) => ServeError::OnlyCopyDamaged(what),
            StopReason::Retired(retired) => retire(&retirement, retired),
            StopReason::CoreStopped(error) => ServeError::CoreStopped(error),
        }),
    };
    drop(scrubbing);
    finish.send_replace(true);
    if ended.is_ok() {
        // Answers under way are given; connections that only idle are not waited for.
        let closing = async {
            let http = http
                .await
                .map_err(|error| ServeError::Task(error.to_string()))?;
            http.map_err(ServeError::Http)?;
            let peers = peers
                .await
                .map_err(|error| ServeError::Task(error.to_string()))?;
            peers.map_err(ServeError::Peer)
        };
        match tokio::time::timeout(TRANSFER_DEADLINE, closing).await {
            Ok(closed) => closed?,
            Err(_) => tracing::info!("open connections are cut"),
        }
    }
    ended
}

/// Is ready when the node was told to stop and has served on for as long as it is to.
async fn drained(arguments: &ServeArguments, node: &Node, stop: watch::Receiver<bool>) {
    until_true(stop).await;
    let drain = Duration::from_secs(arguments.drain_seconds);
    if drain.is_zero() {
        return;
    }
    let told = tokio::time::Instant::now();
    tracing::info!(drain_seconds = arguments.drain_seconds, "leaving");
    node.leave(TRANSFER_DEADLINE.min(drain)).await;
    tokio::time::sleep_until(told + drain).await;
}

/// An evaluation that cannot be stopped and takes all memory ends the process before the kernel does.
fn end_when_an_evaluation_runs_away(node: &Arc<Node>, output: &Output) {
    let (node, output) = (Arc::downgrade(node), output.clone());
    on_runaway(move |reason| {
        let reason = format!("{reason}: its store cannot be read");
        let error = match node.upgrade().map(|node| node.order_rebuild_now(&reason)) {
            Some(Ok(true)) => ServeError::StoreDamaged(reason),
            Some(Ok(false)) => ServeError::OnlyCopyDamaged(reason),
            Some(Err(error)) => {
                ServeError::CoreStopped(format!("{reason}; its rebuild cannot be ordered: {error}"))
            }
            // It is stopping anyhow.
            None => ServeError::CoreStopped(reason),
        };
        output.error(&error);
        super::end(error.exit_code());
    });
}

/// Starts the Raft core, which may have to read entries that only a peer has. Until it stands, the
/// peer port gives peers the entries that they miss: members that are all damaged repair each other.
async fn start_node(
    volume: Volume,
    report: RecoveryReport,
    limits: SpaceLimits,
    options: NodeOptions,
    listener: TcpListener,
) -> Result<(Arc<Node>, TcpListener, Retirement), ServeError> {
    let prepared = PreparedNode::new(volume, report, limits)?;
    let copy = also(&listener).map_err(ServeError::Http)?;
    let (finish, finished) = watch::channel(false);
    let serving = tokio::spawn(grpc::serve_repair(
        prepared.repair_source(),
        copy,
        until_true(finished),
    ));
    let retirement = prepared.retirement();
    let starting = async {
        prepared.ask_members().await?;
        prepared.start(options).await
    };
    let node = starting.await.map_err(|error| match error {
        NodeError::Retired(retired) => retire(&retirement, retired),
        NodeError::StoreDamaged(what) => ServeError::StoreDamaged(what),
        NodeError::OnlyCopyDamaged(what) => ServeError::OnlyCopyDamaged(what),
        error => ServeError::Node(error),
    });
    finish.send_replace(true);
    serving
        .await
        .map_err(|error| ServeError::Task(error.to_string()))?
        .map_err(ServeError::Peer)?;
    Ok((node?, listener, retirement))
}

/// The end of a volume that only the other members could tell: the volume itself says so from now on.
fn retire(retirement: &Retirement, retired: Retired) -> ServeError {
    match retirement.mark(&retired) {
        Ok(()) => ServeError::Retired(retired),
        Err(error) => ServeError::DiskFailed(error.to_string()),
    }
}

fn evaluation_limits(arguments: &ServeArguments) -> EvaluationLimits {
    EvaluationLimits {
        timeout: Duration::from_millis(arguments.write_timeout_ms),
        maximum_growth_bytes: arguments.evaluation_memory_bytes,
        ..EvaluationLimits::default()
    }
}

fn scrub_options(arguments: &ServeArguments) -> ScrubOptions {
    ScrubOptions {
        interval: Duration::from_secs(arguments.scrub_interval_seconds),
        bytes_per_second: arguments.scrub_bytes_per_second,
    }
}

fn serve_http(
    arguments: &ServeArguments,
    node: &Arc<Node>,
    metrics: Metrics,
    (listener, metrics_listener): (TcpListener, Option<TcpListener>),
    finished: &watch::Receiver<bool>,
) -> tokio::task::JoinHandle<std::io::Result<()>> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let defaults = HttpOptions::default();
    let mut options = HttpOptions {
        maximum_request_bytes: size(arguments.maximum_request_bytes),
        write_timeout: Duration::from_millis(arguments.write_timeout_ms),
        cors_origins: arguments.cors_origins.clone(),
        ..defaults
    };
    options.queries.maximum_growth_bytes = arguments.evaluation_memory_bytes;
    options.queries.timeout = Duration::from_millis(arguments.query_timeout_ms);
    options.queries.maximum_concurrent = size(arguments.maximum_concurrent_queries);
    if let Some(listener) = metrics_listener {
        let router = http::metrics_router(metrics.clone());
        tokio::spawn(http::serve(
            listener,
            router,
            until_true(finished.clone()),
            TRANSFER_DEADLINE,
        ));
    }
    let router = http::router(Arc::new(NodeDatabase(node.clone())), options, metrics);
    tokio::spawn(http::serve(
        listener,
        router,
        until_true(finished.clone()),
        TRANSFER_DEADLINE,
    ))
}

/// Sees to it that the volume belongs to a cluster. `None`: told to stop before it did.
async fn claim(
    arguments: &ServeArguments,
    mut volume: Volume,
    peer_listen: SocketAddr,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Volume>, ServeError> {
    if !volume.superblock.current().cluster_uuid.is_nil() {
        return Ok(Some(volume));
    }
    if arguments
        .members
        .first()
        .is_none_or(|first| *first == arguments.listen)
    {
        claim_for_new_cluster(&mut volume.superblock).map_err(ServeError::Claim)?;
        return Ok(Some(volume));
    }
    tracing::info!(peers = %peer_listen, "waiting for the first member to claim this volume");
    let Volume {
        data,
        superblock,
        vote,
        log,
        state,
        snapshots,
        snapshot,
        membership,
        lock,
    } = volume;
    let shared = Arc::new(Mutex::new(superblock));
    let (service, mut claimed) = UnclaimedService::new(shared.clone());
    let listener = listen(peer_listen).await?;
    let (finish, finished) = watch::channel(false);
    let serving = tokio::spawn(grpc::serve_unclaimed(
        service,
        listener,
        until_true(finished),
    ));
    let is_claimed = tokio::select! {
        _ = claimed.wait_for(Option::is_some) => true,
        () = until_true(stop.clone()) => false,
    };
    finish.send_replace(true);
    drop(claimed);
    serving
        .await
        .map_err(|error| ServeError::Task(error.to_string()))?
        .map_err(ServeError::Peer)?;
    if !is_claimed {
        return Ok(None);
    }
    let superblock = unshare(shared)
        .ok_or_else(|| ServeError::Task("the claim is still being served".to_owned()))?;
    Ok(Some(Volume {
        data,
        superblock,
        vote,
        log,
        state,
        snapshots,
        snapshot,
        membership,
        lock,
    }))
}

fn start_bootstrap(arguments: &ServeArguments, node: &Arc<Node>, peer_listen: SocketAddr) {
    if arguments.cluster_uuid.is_some() {
        return;
    }
    if arguments
        .members
        .first()
        .is_some_and(|first| *first != arguments.listen)
    {
        return;
    }
    let host = arguments
        .advertise
        .clone()
        .unwrap_or_else(|| host_of(arguments.listen));
    let own = v1::Member {
        node_id: node.node_id().0,
        peer_address: format!("{host}:{}", peer_listen.port()),
        http_address: format!("{host}:{}", arguments.listen.port()),
    };
    let others = arguments
        .members
        .iter()
        .copied()
        .filter(|member| *member != arguments.listen)
        .collect();
    tokio::spawn(initialise(node.clone(), own, others));
}

/// The host that peers on this machine reach: an unspecified address is served on loopback too.
fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
