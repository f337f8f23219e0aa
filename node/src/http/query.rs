//! SPARQL 1.1 Protocol: queries.

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;

use super::ReadPoint;
use super::base;
use super::error::ApiError;
use super::headers;
use super::parameters::Parameters;
use super::router::{Service, SharedService, method_not_allowed};
use crate::sparql::query::{Answer, QueryText};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const QUERY: &str = "application/sparql-query";

pub(super) async fn endpoint(
    Shared(service): SharedService,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let parameters = Parameters::of_url(parts.uri.query())?;
    match parts.method {
        Method::GET | Method::HEAD => by_parameters(&service, &parts, parameters).await,
        Method::POST => by_post(&service, &parts, parameters, body).await,
        _ => Ok(method_not_allowed("GET, HEAD, POST")),
    }
}

async fn by_post(
    service: &Service,
    parts: &Parts,
    parameters: Parameters,
    body: Body,
) -> Result<Response, ApiError> {
    match headers::media_type(&parts.headers)?.as_deref() {
        Some(FORM) => {
            let form = service.bodies.read(&parts.headers, body).await?;
            let parameters = parameters.and(Parameters::parse(&form.bytes)?);
            by_parameters(service, parts, parameters).await
        }
        Some(QUERY) => by_body(service, parts, parameters, body).await,
        other => Err(unsupported(other, &[FORM, QUERY])),
    }
}

/// A query in the parameters of the URL or of a form.
pub(super) async fn by_parameters(
    service: &Service,
    parts: &Parts,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let text = parameters
        .take_one("query")?
        .ok_or_else(|| ApiError::bad_request("the parameter query is missing"))?;
    run(service, parts, parameters, text).await
}

/// A query that is the body.
pub(super) async fn by_body(
    service: &Service,
    parts: &Parts,
    parameters: Parameters,
    body: Body,
) -> Result<Response, ApiError> {
    if parameters.has("query") {
        return Err(ApiError::bad_request(
            "there is a query in the body and one in the URL",
        ));
    }
    let body = service.bodies.read(&parts.headers, body).await?;
    let (text, _memory) = body.into_text()?;
    run(service, parts, parameters, text).await
}

async fn run(
    service: &Service,
    parts: &Parts,
    mut parameters: Parameters,
    text: String,
) -> Result<Response, ApiError> {
    // Other parameters are ignored: clients of other databases send some.
    let query = QueryText {
        text,
        base_iri: base::of_request(parts),
        default_graphs: parameters.take_all("default-graph-uri"),
        named_graphs: parameters.take_all("named-graph-uri"),
    };
    let point = barrier(service, &parts.headers).await?;
    let accept = headers::accept(&parts.headers);
    let state = service.database.state();
    let answer = service.engine.query(state, query, accept).await?;
    Ok(response(service, answer, point))
}

/// Waits until the state is as fresh as the request asks.
pub(super) async fn barrier(service: &Service, headers: &HeaderMap) -> Result<ReadPoint, ApiError> {
    let consistency = headers::consistency(headers)?;
    let timeout = service.options.read_barrier_timeout;
    Ok(service.database.read_barrier(consistency, timeout).await?)
}

/// A streaming response.
pub(super) fn response(service: &Service, answer: Answer, point: ReadPoint) -> Response {
    let metrics = service.metrics.http.clone();
    let body = answer
        .body
        .inspect_ok(move |bytes| metrics.count_response_bytes(bytes.len() as u64));
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(answer.media_type),
    );
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(headers::LOG_INDEX, headers::number(answer.log_index));
    if let Some(age_ms) = point.age_ms {
        headers.insert(headers::AGE, headers::number(age_ms));
    }
    response
}

/// The answer to a body of a type that the endpoint does not read.
pub(super) fn unsupported(given: Option<&str>, known: &[&str]) -> ApiError {
    let known = known.join(" or ");
    ApiError::unsupported_media_type(match given {
        None => format!("the Content-Type is missing: it can be {known}"),
        Some(given) => format!("the Content-Type is {given:?}: it can be {known}"),
    })
}
