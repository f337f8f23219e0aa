//! SPARQL 1.1 Graph Store HTTP Protocol.

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use oxrdf::NamedNode;

use super::base;
use super::error::ApiError;
use super::headers;
use super::parameters::Parameters;
use super::query::{barrier, response};
use super::router::{Service, SharedService, method_not_allowed};
use super::update::commit;
use crate::sparql::query::DumpTarget;
use crate::sparql::update::{Target, Write};

pub(super) async fn endpoint(
    Shared(service): SharedService,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let target = || target(Parameters::of_url(parts.uri.query())?);
    match parts.method {
        Method::GET => read(&service, &parts.headers, target()?, false).await,
        Method::HEAD => read(&service, &parts.headers, target()?, true).await,
        Method::POST | Method::PUT => load(&service, &parts, target()?, body).await,
        Method::DELETE => {
            let write = Write::Delete { target: target()? };
            commit(&service, &parts.headers, write).await
        }
        _ => Ok(method_not_allowed("GET, HEAD, POST, PUT, DELETE")),
    }
}

/// What the URL names. Anything unknown is refused: a misspelt `graph` must not become a request
/// about all data.
fn target(mut parameters: Parameters) -> Result<Target, ApiError> {
    let default = parameters.take_one("default")?;
    let graph = parameters.take_one("graph")?;
    parameters.finish()?;
    match (default, graph) {
        (None, None) => Ok(Target::Dataset),
        (Some(value), None) if value.is_empty() => Ok(Target::DefaultGraph),
        (Some(_), None) => Err(ApiError::bad_request("the parameter default has no value")),
        (None, Some(iri)) => match NamedNode::new(iri.as_str()) {
            Ok(_) => Ok(Target::NamedGraph(iri)),
            Err(error) => Err(ApiError::bad_request(format!(
                "the graph {iri:?} has no absolute IRI: {error}"
            ))),
        },
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "default and graph name different things: give one of them",
        )),
    }
}

async fn read(
    service: &Service,
    headers: &HeaderMap,
    target: Target,
    head_only: bool,
) -> Result<Response, ApiError> {
    let target = match target {
        Target::Dataset => DumpTarget::Dataset,
        Target::DefaultGraph => DumpTarget::DefaultGraph,
        Target::NamedGraph(iri) => DumpTarget::NamedGraph(iri),
    };
    let point = barrier(service, headers).await?;
    let accept = headers::accept(headers);
    let state = service.database.state();
    let answer = service
        .engine
        .dump(state, target, accept, head_only)
        .await?;
    Ok(response(service, answer, point))
}

async fn load(
    service: &Service,
    parts: &Parts,
    target: Target,
    body: Body,
) -> Result<Response, ApiError> {
    let media_type = headers::media_type(&parts.headers)?.ok_or_else(|| {
        ApiError::unsupported_media_type(
            "the Content-Type is missing: it names the RDF format of the body",
        )
    })?;
    // A graph that the URL names is the base of what is in it (Graph Store HTTP Protocol, 4.2);
    // elsewhere it is the URL itself.
    let base_iri = match &target {
        Target::NamedGraph(iri) => Some(iri.clone()),
        Target::Dataset | Target::DefaultGraph => base::of_resource(parts),
    };
    let body = service.bodies.read(&parts.headers, body).await?;
    let (body, _memory) = body.into_bytes();
    let write = if parts.method == Method::PUT {
        Write::Replace {
            target,
            media_type,
            base_iri,
            body,
        }
    } else {
        Write::Add {
            target,
            media_type,
            base_iri,
            body,
        }
    };
    commit(service, &parts.headers, write).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(query: &str) -> Option<Target> {
        target(Parameters::of_url(Some(query)).ok()?).ok()
    }

    #[test]
    fn the_url_names_the_target() {
        assert_eq!(target_of(""), Some(Target::Dataset));
        assert_eq!(target_of("default"), Some(Target::DefaultGraph));
        assert_eq!(target_of("default="), Some(Target::DefaultGraph));
        assert_eq!(
            target_of("graph=http%3A%2F%2Fexample.com%2Fg"),
            Some(Target::NamedGraph("http://example.com/g".into()))
        );
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for query in [
            "default=yes",
            "graph=relative",
            "graph=",
            "default&graph=http://example.com/",
            "graph=http://example.com/a&graph=http://example.com/b",
            "grpah=http://example.com/",
        ] {
            assert_eq!(target_of(query), None, "{query}");
        }
    }
}
