//! SPARQL 1.1 Protocol: updates.

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::base;
use super::error::ApiError;
use super::headers;
use super::parameters::Parameters;
use super::query::{FORM, unsupported};
use super::router::{Service, SharedService, method_not_allowed};
use crate::sparql::update::{UsingGraphs, Write};

pub(super) const UPDATE: &str = "application/sparql-update";

pub(super) async fn endpoint(
    Shared(service): SharedService,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let parameters = Parameters::of_url(parts.uri.query())?;
    match headers::media_type(&parts.headers)?.as_deref() {
        Some(FORM) => {
            let form = service.bodies.read(&parts.headers, body).await?;
            let parameters = parameters.and(Parameters::parse(&form.bytes)?);
            by_parameters(&service, &parts, parameters).await
        }
        Some(UPDATE) => by_body(&service, &parts, parameters, body).await,
        other => Err(unsupported(other, &[FORM, UPDATE])),
    }
}

/// An update in a form.
pub(super) async fn by_parameters(
    service: &Service,
    parts: &Parts,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let text = parameters
        .take_one("update")?
        .ok_or_else(|| ApiError::bad_request("the parameter update is missing"))?;
    run(service, parts, parameters, text).await
}

/// An update that is the body.
pub(super) async fn by_body(
    service: &Service,
    parts: &Parts,
    parameters: Parameters,
    body: Body,
) -> Result<Response, ApiError> {
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
    let default = parameters.take_all("using-graph-uri");
    let named = parameters.take_all("using-named-graph-uri");
    // A misspelt using-graph-uri must not silently change other data.
    parameters.finish()?;
    let using_graphs =
        (!default.is_empty() || !named.is_empty()).then_some(UsingGraphs { default, named });
    let write = Write::Update {
        text,
        base_iri: base::of_request(parts),
        using_graphs,
    };
    commit(service, &parts.headers, write).await
}

/// Commits a write and answers for it.
pub(super) async fn commit(
    service: &Service,
    headers: &HeaderMap,
    write: Write,
) -> Result<Response, ApiError> {
    service.cross_origin.refuse_other_sites(headers)?;
    let id = headers::request_id(headers, &write)?;
    let committed = service
        .database
        .write(id, write, service.options.write_timeout)
        .await?;
    let status = if committed.created {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    };
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(headers::LOG_INDEX, headers::number(committed.log_index));
    if committed.duplicate {
        headers.insert(headers::DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(response)
}
