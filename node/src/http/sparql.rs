//! One address for queries and updates.

use axum::extract::{Request, State as Shared};
use axum::http::Method;
use axum::response::Response;

use super::error::ApiError;
use super::parameters::Parameters;
use super::query::{FORM, QUERY, unsupported};
use super::router::{SharedService, method_not_allowed};
use super::update::UPDATE;
use super::{headers, query, update};

pub(super) async fn endpoint(
    Shared(service): SharedService,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let parameters = Parameters::of_url(parts.uri.query())?;
    match parts.method {
        Method::GET | Method::HEAD => {
            // An update in a URL is never carried out: links must be safe to follow.
            query::by_parameters(&service, &parts, parameters).await
        }
        Method::POST => match headers::media_type(&parts.headers)?.as_deref() {
            Some(QUERY) => query::by_body(&service, &parts, parameters, body).await,
            Some(UPDATE) => update::by_body(&service, &parts, parameters, body).await,
            Some(FORM) => {
                let form = service.bodies.read(&parts.headers, body).await?;
                let parameters = parameters.and(Parameters::parse(&form.bytes)?);
                match (parameters.has("query"), parameters.has("update")) {
                    (true, false) => query::by_parameters(&service, &parts, parameters).await,
                    (false, true) => update::by_parameters(&service, &parts, parameters).await,
                    (true, true) => Err(ApiError::bad_request(
                        "there is a query and an update: send them one by one",
                    )),
                    (false, false) => Err(ApiError::bad_request(
                        "the parameter query or the parameter update is missing",
                    )),
                }
            }
            other => Err(unsupported(other, &[FORM, QUERY, UPDATE])),
        },
        _ => Ok(method_not_allowed("GET, HEAD, POST")),
    }
}
