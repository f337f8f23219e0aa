//! Pages of other sites: which may read answers and write (CORS), and which may not.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use super::error::ApiError;
use super::headers::{self, one};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How long a browser remembers what a preflight was answered: the longest that Firefox takes.
const PREFLIGHT_MAXIMUM_AGE: Duration = Duration::from_secs(24 * 3600);

/// An origin whose pages may use this database: `scheme://host[:port]`, or `*` for every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Any,
    One(HeaderValue),
}

/// What is written is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: it is scheme://host or scheme://host:port, or * for every one")]
pub struct ParseOriginError(String);

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let refused = || ParseOriginError(text.to_owned());
        // Browsers send the origin in its canonical form, which is what is compared.
        let origin = Url::parse(text).map_err(|_| refused())?.origin();
        let canonical = origin.ascii_serialization();
        let is_origin = origin.is_tuple() && canonical.eq_ignore_ascii_case(text);
        HeaderValue::from_str(&canonical)
            .ok()
            .filter(|_| is_origin)
            .map(Self::One)
            .ok_or_else(refused)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::One(origin) => formatter.write_str(&String::from_utf8_lossy(origin.as_bytes())),
        }
    }
}

/// Decides about requests that browsers send for pages.
#[derive(Clone, Debug, Default)]
pub(super) struct CrossOrigin {
    allowed: Vec<Origin>,
}

impl CrossOrigin {
    pub(super) fn new(allowed: Vec<Origin>) -> Self {
        Self { allowed }
    }

    /// Answers preflights and lets pages of the allowed origins read answers (Fetch Standard, CORS
    /// protocol). `None` when there are no such origins.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        if self.allowed.is_empty() {
            return None;
        }
        let allowed = if self.allowed.contains(&Origin::Any) {
            AllowOrigin::any()
        } else {
            AllowOrigin::list(self.allowed.iter().filter_map(|origin| match origin {
                Origin::Any => None,
                Origin::One(origin) => Some(origin.clone()),
            }))
        };
        Some(
            CorsLayer::new()
                .allow_origin(allowed)
                .allow_methods([
                    Method::GET,
                    Method::HEAD,
                    Method::POST,
                    Method::PUT,
                    Method::DELETE,
                ])
                .allow_headers([
                    header::ACCEPT,
                    header::CONTENT_TYPE,
                    headers::CONSISTENCY,
                    headers::MINIMUM_INDEX,
                    headers::IDEMPOTENCY_KEY,
                ])
                .expose_headers([
                    headers::LOG_INDEX,
                    headers::AGE,
                    headers::DUPLICATE,
                    header::RETRY_AFTER,
                ])
                .max_age(PREFLIGHT_MAXIMUM_AGE),
        )
    }

    fn allows(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| match allowed {
            Origin::Any => true,
            Origin::One(allowed) => allowed.as_bytes() == origin.as_bytes(),
        })
    }

    /// Refuses writes that a page of another site made a browser send: a plain form needs no CORS.
    pub(super) fn refuse_other_sites(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let origin = one(headers, &header::ORIGIN)?;
        if origin.is_some_and(|origin| self.allows(origin)) {
            return Ok(());
        }
        let refused = || {
            Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "other_site",
                "writes from pages of other sites are refused, but for those of --cors-origin",
            ))
        };
        if let Some(site) = one(headers, &SEC_FETCH_SITE)? {
            return match site {
                "same-origin" | "none" => Ok(()),
                _ => refused(),
            };
        }
        let Some(origin) = origin else {
            return Ok(());
        };
        let host = one(headers, &header::HOST)?;
        let origin_host = origin.split_once("://").map(|(_, host)| host);
        if origin_host.is_some() && origin_host == host {
            return Ok(());
        }
        refused()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn an_origin_has_a_scheme_a_host_and_nothing_behind_it() {
        for (text, expected) in [
            ("*", Some("*")),
            ("https://example.org", Some("https://example.org")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("HTTPS://Example.org", Some("https://example.org")),
            ("https://example.org/", None),
            ("https://example.org/page", None),
            // A browser leaves the default port out, so that it would never be equal.
            ("https://example.org:443", None),
            ("example.org", None),
            ("null", None),
            ("file:///tmp", None),
            ("", None),
        ] {
            let parsed = text.parse::<Origin>().ok().map(|origin| origin.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn writes_from_other_sites_are_refused() {
        let allowed = |pairs| {
            CrossOrigin::default()
                .refuse_other_sites(&headers(pairs))
                .is_ok()
        };
        assert!(allowed(&[]));
        assert!(allowed(&[("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[("sec-fetch-site", "none")]));
        assert!(!allowed(&[("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("sec-fetch-site", "same-site")]));
        assert!(allowed(&[
            ("origin", "http://localhost:7878"),
            ("host", "localhost:7878")
        ]));
        assert!(!allowed(&[
            ("origin", "http://evil.example"),
            ("host", "localhost:7878")
        ]));
        assert!(!allowed(&[("origin", "null"), ("host", "localhost:7878")]));
    }

    #[test]
    fn writes_from_allowed_sites_are_taken() {
        let allows = |origin: &str, pairs| {
            CrossOrigin::new(vec![origin.parse().unwrap()])
                .refuse_other_sites(&headers(pairs))
                .is_ok()
        };
        let page = [
            ("origin", "https://example.org"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert!(allows("https://example.org", &page));
        assert!(allows("*", &page));
        assert!(!allows("https://example.com", &page));
        assert!(!allows("http://example.org", &page));
    }
}
