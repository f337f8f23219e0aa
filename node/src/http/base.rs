//! The URL of a request, against which relative IRIs are resolved (SPARQL 1.1 Protocol, 2.3;
//! RFC 3986, 5.1.3).

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use oxrdf::NamedNode;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The URL that a query or an update was sent to. Its parameters are the request itself and not
/// a part of it. `None` when the client did not say which host it means.
pub(super) fn of_request(parts: &Parts) -> Option<String> {
    url(parts, parts.uri.path())
}

/// The URL of what a request reads or writes, with its parameters.
pub(super) fn of_resource(parts: &Parts) -> Option<String> {
    url(parts, parts.uri.path_and_query()?.as_str())
}

/// As the client wrote it: a proxy in front that ends TLS, or has another name, says so.
fn url(parts: &Parts, path: &str) -> Option<String> {
    let scheme = first(&parts.headers, &FORWARDED_PROTO)
        .filter(|scheme| ["http", "https"].contains(scheme))
        .or(parts.uri.scheme_str())
        .unwrap_or("http");
    let host = first(&parts.headers, &FORWARDED_HOST)
        .or_else(|| first(&parts.headers, &HOST))
        .or(parts
            .uri
            .authority()
            .map(axum::http::uri::Authority::as_str))?;
    let is_authority = host.parse::<axum::http::uri::Authority>().is_ok() && !host.contains('@');
    NamedNode::new(format!("{scheme}://{host}{path}"))
        .ok()
        .filter(|_| is_authority)
        .map(NamedNode::into_string)
}

/// The first of several values: that of the proxy that is nearest to the client.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let first = value.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_base_of_a_request_is_its_url_without_parameters() {
        let parts = parts("/query?query=ASK%20%7B%7D", &[("host", "example.org:7878")]);
        assert_eq!(
            of_request(&parts).as_deref(),
            Some("http://example.org:7878/query")
        );
    }

    #[test]
    fn the_base_of_a_resource_is_its_url_with_parameters() {
        let parts = parts("/store?default", &[("host", "example.org")]);
        assert_eq!(
            of_resource(&parts).as_deref(),
            Some("http://example.org/store?default")
        );
    }

    #[test]
    fn a_proxy_says_which_url_the_client_used() {
        let parts = parts(
            "/update",
            &[
                ("host", "books:7878"),
                ("x-forwarded-proto", "https, http"),
                ("x-forwarded-host", "data.example.org, inner"),
            ],
        );
        assert_eq!(
            of_request(&parts).as_deref(),
            Some("https://data.example.org/update")
        );
    }

    #[test]
    fn a_host_that_makes_no_iri_gives_no_base() {
        for host in ["", "a b", "user@example.org", "exa<mple", "a/b"] {
            assert_eq!(
                of_request(&parts("/query", &[("host", host)])),
                None,
                "{host}"
            );
        }
        assert_eq!(of_request(&parts("/query", &[])), None);
        let absolute = parts("http://example.org/query", &[]);
        assert_eq!(
            of_request(&absolute).as_deref(),
            Some("http://example.org/query")
        );
    }
}
