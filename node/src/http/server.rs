//! Runs the service on a socket.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves until `shutdown` is ready, and then until all requests are answered, but no longer than
/// `drain`: streams that still go on after it are cut.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    // A small answer is sent at once: otherwise its end waits for the client to acknowledge its
    // beginning, which clients delay by 40 ms.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection may delay small answers");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        stopping.send_replace(true);
    });
    tokio::select! {
        result = async { server.await } => result,
        () = async {
            // An error would mean that the server has ended, which the other branch tells.
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(drain).await;
        } => {
            tracing::warn!("requests were cut because the node is stopping");
            Ok(())
        }
    }
}
