//! One HTTP request on a connection of its own: what a client that begins now would find.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::observation::ServiceAnswer;

/// Short, as other clusters may wait meanwhile: it is asked again soon.
const DEADLINE: Duration = Duration::from_secs(1);
/// An answer about health is a sentence.
const MAXIMUM_ANSWER_BYTES: usize = 65_536;

/// A request that came to no answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no request can be made of this address: {0}")]
    Address(#[from] hyper::http::Error),
    #[error("no answer: {0}")]
    Answer(#[from] hyper::Error),
    #[error("no whole answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a node says of its life.
#[derive(Deserialize)]
struct Life {
    status: String,
    #[serde(default)]
    reason: String,
}

/// Asks whoever the Service at `address` leads to whether it is ready.
pub(super) async fn whether_ready(address: &str) -> ServiceAnswer {
    let failure = match tokio::time::timeout(DEADLINE, get(address, "/readyz")).await {
        Ok(Ok((StatusCode::OK, _))) => return ServiceAnswer::Answered,
        Ok(Ok((status, _))) => format!("the status is {status}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
    };
    tracing::debug!(address, failure, "the Service does not answer");
    ServiceAnswer::Failed(failure)
}

/// How far the node at `address` is with its start, as it says itself. None when it does not start, does
/// not answer, or says that its start does not move on.
pub(super) async fn how_far_a_start_is(address: &str) -> Option<String> {
    let (status, body) = tokio::time::timeout(DEADLINE, get(address, "/livez"))
        .await
        .ok()?
        .ok()?;
    let life: Life = serde_json::from_slice(&body).ok()?;
    (status == StatusCode::OK && life.status == "starting").then_some(life.reason)
}

async fn get(address: &str, path: &str) -> Result<(StatusCode, Bytes), RequestError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(RequestError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAXIMUM_ANSWER_BYTES);
        let body = body.collect().await.map_err(RequestError::Body)?;
        Ok((status, body.to_bytes()))
    };
    // How the connection ended says nothing that the answer does not.
    let (answer, _) = futures::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    async fn served(answer: StatusCode) -> String {
        served_at("/readyz", answer, "words").await
    }

    async fn served_at(path: &str, answer: StatusCode, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().route(path, get(move || async move { (answer, body) }));
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

    #[tokio::test]
    async fn only_a_start_that_moves_on_is_one() {
        const STARTING: &str = r#"{"status":"starting","reason":"5 of 9 bytes are read"}"#;
        let answers = [
            (StatusCode::OK, STARTING, Some("5 of 9 bytes are read")),
            (StatusCode::OK, r#"{"status":"starting"}"#, Some("")),
            (StatusCode::OK, r#"{"status":"live"}"#, None),
            (StatusCode::OK, "", None),
            (StatusCode::SERVICE_UNAVAILABLE, STARTING, None),
        ];
        for (status, body, expected) in answers {
            let address = served_at("/livez", status, body).await;
            let found = how_far_a_start_is(&address).await;
            assert_eq!(found.as_deref(), expected, "{status} {body}");
        }
        assert_eq!(how_far_a_start_is("127.0.0.1:1").await, None);
    }
}
