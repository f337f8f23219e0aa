//! One HTTP request through the Service of the clients, on a connection of its own: what a client
//! that begins now would find.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::observation::ServiceAnswer;

/// Short, as other clusters may wait meanwhile: it is asked again soon.
const DEADLINE: Duration = Duration::from_secs(1);

/// A request that came to no answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no request can be made of this address: {0}")]
    Address(#[from] hyper::http::Error),
    #[error("no answer: {0}")]
    Answer(#[from] hyper::Error),
}

/// Asks whoever the Service at `address` leads to whether it is ready.
pub(super) async fn whether_ready(address: &str) -> ServiceAnswer {
    let failure = match tokio::time::timeout(DEADLINE, get(address, "/readyz")).await {
        Ok(Ok(StatusCode::OK)) => return ServiceAnswer::Answered,
        Ok(Ok(status)) => format!("the status is {status}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
    };
    tracing::debug!(address, failure, "the Service does not answer");
    ServiceAnswer::Failed(failure)
}

async fn get(address: &str, path: &str) -> Result<StatusCode, RequestError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(RequestError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    // The rest of the answer is let go with it, which ends the connection.
    let status = async move {
        let answer = sender.send_request(request).await?;
        Ok(answer.status())
    };
    // How the connection ended says nothing that the answer does not.
    let (status, _) = futures::join!(status, connection);
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    async fn served(answer: StatusCode) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().route("/readyz", get(move || async move { (answer, "words") }));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn words(answer: ServiceAnswer) -> String {
        match answer {
            ServiceAnswer::Failed(words) => words,
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_service_that_says_200_answers() {
        let address = served(StatusCode::OK).await;
        for _ in 0..3 {
            assert_eq!(whether_ready(&address).await, ServiceAnswer::Answered);
        }
    }

    #[tokio::test]
    async fn any_other_status_is_named() {
        let address = served(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(
            words(whether_ready(&address).await),
            "the status is 503 Service Unavailable"
        );
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told_from_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // It takes connections, as listening does, and never answers.
        assert_eq!(words(whether_ready(&address).await), "no answer within 1 s");
        drop(listener);
        let refused = words(whether_ready(&address).await);
        assert!(refused.starts_with("no connection: "), "{refused}");
    }
}
