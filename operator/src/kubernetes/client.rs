//! The connection to the API server. Each request is one that [`super::rights`] lists, is counted, and
//! has a deadline; a connection whose other end is gone is noticed by the kernel.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request as HttpRequest, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tower::{BoxError, Service, ServiceBuilder};

use super::rights::Request;

/// How long a connection may take to come up.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long the API server may take for a whole answer. A watch has no end: for it this is the time to
/// its beginning.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// A connection on which nothing was heard for so long is asked for a sign of life, and given up after
/// as many intervals without one: 10 s + 3 × 5 s.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Bytes that were sent are acknowledged in this time, or the connection is given up.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(20);

/// What is told of one kind of request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    verb: &'static str,
    group: String,
    resource: String,
    /// The status of the answer, or why there was none.
    outcome: String,
}

/// The requests by what they ask for and what came of them.
pub type Requests = Family<RequestLabels, Counter>;

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{0} is not among the operator's rights: this is an error in the operator")]
    NotListed(Request),
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
}

/// Connects as the configuration says: that of a pod, of `KUBECONFIG`, or of the user's home.
///
/// # Errors
/// When the configuration cannot be used. Nothing is sent yet.
pub fn connect(config: Config, requests: Requests) -> Result<Client, kube::Error> {
    connect_within(config, requests, ANSWER_DEADLINE)
}

fn connect_within(
    config: Config,
    requests: Requests,
    deadline: Duration,
) -> Result<Client, kube::Error> {
    // Two libraries of the process may bring one each; the first to come stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(ACKNOWLEDGEMENT));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer_fn(|inner| Limited {
            inner,
            requests: requests.clone(),
            deadline,
        })
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// The body of an answer.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// Sends what is listed, in time, and counts it.
#[derive(Clone, Debug)]
struct Limited<S> {
    inner: S,
    requests: Requests,
    deadline: Duration,
}

impl<S, B> Service<HttpRequest<Body>> for Limited<S>
where
    S: Service<HttpRequest<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let uri = request.uri();
        let asked = Request::of(request.method(), uri.path(), uri.query());
        let Some(asked) = asked else {
            return Box::pin(answer(self.inner.call(request), false, self.deadline));
        };
        if !asked.is_listed() {
            tracing::error!(request = %asked, "a request is not among the operator's rights");
            return Box::pin(async { Err(RequestError::NotListed(asked).into()) });
        }
        let answered = answer(
            self.inner.call(request),
            asked.verb == "watch",
            self.deadline,
        );
        let requests = self.requests.clone();
        Box::pin(async move {
            let answered = answered.await;
            let outcome = match &answered {
                Ok(response) => response.status().as_str().to_owned(),
                Err(error) if error.is::<RequestError>() => "deadline".to_owned(),
                Err(_) => "connection".to_owned(),
            };
            let labels = RequestLabels {
                verb: asked.verb,
                group: asked.group,
                resource: asked.resource,
                outcome,
            };
            requests.get_or_create(&labels).inc();
            answered
        })
    }
}

/// The whole answer in time; of a stream its beginning.
async fn answer<B>(
    sent: impl Future<Output = Result<Response<B>, BoxError>>,
    is_stream: bool,
    deadline: Duration,
) -> Result<Response<Answer>, BoxError>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let whole = async {
        let (head, body) = sent.await?.into_parts();
        let body = if is_stream {
            body.map_err(Into::into).boxed_unsync()
        } else {
            let whole = body.collect().await.map_err(Into::into)?.to_bytes();
            Full::new(whole)
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        Ok(Response::from_parts(head, body))
    };
    tokio::time::timeout(deadline, whole)
        .await
        .map_err(|_| RequestError::Deadline(deadline))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::{Pod, Secret};
    use kube::api::{Api, ListParams};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A client of a server that takes connections and writes `answer` to each request.
    async fn client_of(answer: &'static str, requests: Requests) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    // Neither more nor an end.
                    std::future::pending::<()>().await;
                });
            }
        });
        let config = Config::new(url.parse().unwrap());
        let deadline = Duration::from_millis(300);
        (connect_within(config, requests, deadline).unwrap(), asked)
    }

    #[tokio::test]
    async fn what_is_not_listed_is_never_sent() {
        let (client, asked) = client_of("", Requests::default()).await;
        let secrets: Api<Secret> = Api::namespaced(client, "prod");
        let error = secrets.get("password").await.unwrap_err();
        assert!(format!("{error:?}").contains("NotListed"), "{error:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_and_one_that_does_not_end_have_a_deadline() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
            let requests = Requests::default();
            let (client, _) = client_of(answer, requests.clone()).await;
            let pods: Api<Pod> = Api::namespaced(client, "prod");
            let error = pods.list(&ListParams::default()).await.unwrap_err();
            assert!(format!("{error:?}").contains("Deadline"), "{error:?}");
            let labels = RequestLabels {
                verb: "list",
                group: String::new(),
                resource: "pods".to_owned(),
                outcome: "deadline".to_owned(),
            };
            assert_eq!(requests.get_or_create(&labels).get(), 1);
        }
    }
}
