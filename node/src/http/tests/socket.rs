//! Over real connections: streams, disconnects, shutdown.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start(bench: &Bench, drain: Duration) -> Server {
    start_router(bench.router.clone(), drain).await
}

async fn start_router(router: axum::Router, drain: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        stopped.await.unwrap();
    };
    let task = tokio::spawn(serve(listener, router, shutdown, drain));
    Server {
        address,
        stop,
        task,
    }
}

/// Sends a query over a connection that is closed by the server when it has answered.
async fn ask(server: &Server, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: text/csv\r\n\
         Content-Type: application/sparql-query\r\nContent-Length: {}\r\n\r\n{query}",
        query.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the connection ends, however it ends.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        bytes.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The chunk that says that a body is whole.
const END: &str = "\r\n0\r\n\r\n";
const SILENT: &str = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l }";
const ENDLESS: &str = "SELECT * { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }";

#[tokio::test(flavor = "multi_thread")]
async fn a_long_result_arrives_whole() {
    let bench = Bench::with_ring(20_000, options());
    let server = start(&bench, Duration::ZERO).await;
    let text = rest(ask(&server, "SELECT * { ?s ?p ?o }").await).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(text.ends_with(END));
    assert!(text.matches("a:p").count() >= 19_900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_does_not_look_whole() {
    let mut options = options();
    options.queries.timeout = Duration::from_secs(2);
    let bench = Bench::with_ring(2000, options);
    let server = start(&bench, Duration::ZERO).await;
    let text = rest(ask(&server, ENDLESS).await).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(!text.ends_with(END), "the body looks whole");
    eventually(|| bench.metrics.queries.currently_running() == 0).await;
    assert_eq!(bench.metrics.queries.cancelled("timeout"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_stops_its_query() {
    let bench = Bench::with_ring(2000, options());
    let server = start(&bench, Duration::ZERO).await;
    for (number, query) in [SILENT, ENDLESS].into_iter().enumerate() {
        let stream = ask(&server, query).await;
        eventually(|| bench.metrics.queries.currently_running() == 1).await;
        drop(stream);
        eventually(|| bench.metrics.queries.currently_running() == 0).await;
        assert_eq!(
            bench.metrics.queries.cancelled("disconnect"),
            number as u64 + 1
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_what_it_has_begun() {
    let bench = Bench::with_ring(2000, options());
    let server = start(&bench, Duration::from_secs(60)).await;
    let query = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f FILTER(?a != ?d) }";
    let stream = ask(&server, query).await;
    eventually(|| bench.metrics.queries.currently_running() == 1).await;
    server.stop.send(()).unwrap();
    let text = rest(stream).await;
    assert!(text.contains("3998000"), "{text}");
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_wait_for_ever() {
    let bench = Bench::with_ring(2000, options());
    let server = start(&bench, Duration::from_millis(100)).await;
    let _stream = ask(&server, SILENT).await;
    eventually(|| bench.metrics.queries.currently_running() == 1).await;
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_answer_is_sent_at_once() {
    // The end of an answer that is found a little later than its beginning, as that of a query is.
    let answer = || async {
        let (parts, body) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for part in ["beginning", "end"] {
                parts.send(part).await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
        let body = futures::stream::unfold(body, |mut body| async {
            let part = body.recv().await?;
            Some((Ok::<_, std::io::Error>(part), body))
        });
        Body::from_stream(body)
    };
    let router = axum::Router::new().route("/", axum::routing::get(answer));
    let server = start_router(router, Duration::from_secs(5)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // One connection, as a client keeps it: after some requests, the second part would wait for the
    // acknowledgement of the first, which is delayed by 40 ms.
    let mut times = Vec::new();
    for _ in 0..41 {
        let started = std::time::Instant::now();
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(END.as_bytes()) {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..length]);
        }
        times.push(started.elapsed());
    }
    times.sort();
    assert!(
        times[times.len() / 2] < Duration::from_millis(30),
        "{times:?}"
    );
}
