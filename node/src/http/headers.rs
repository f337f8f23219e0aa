//! The headers of requests and responses that mean something here.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Consistency;
use super::error::ApiError;
use crate::sparql::update::Write;
use crate::state::RequestId;

pub(super) const LOG_INDEX: HeaderName = HeaderName::from_static("quadraft-log-index");
pub(super) const AGE: HeaderName = HeaderName::from_static("quadraft-age-milliseconds");
pub(super) const DUPLICATE: HeaderName = HeaderName::from_static("quadraft-duplicate");
pub(super) const CONSISTENCY: HeaderName = HeaderName::from_static("quadraft-consistency");
pub(super) const MINIMUM_INDEX: HeaderName = HeaderName::from_static("quadraft-minimum-index");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const MAXIMUM_KEY_BYTES: usize = 256;

/// The value of a header that may be there once.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!(
            "the header {name} is given twice"
        )));
    }
    value
        .to_str()
        .map(|value| Some(value.trim()))
        .map_err(|_| ApiError::bad_request(format!("the header {name} is not readable")))
}

/// How fresh a read must be.
pub(super) fn consistency(headers: &HeaderMap) -> Result<Consistency, ApiError> {
    let minimum_index = one(headers, &MINIMUM_INDEX)?
        .map(|value| {
            value.parse::<u64>().map_err(|_| {
                ApiError::bad_request(format!("the header {MINIMUM_INDEX} is not a number"))
            })
        })
        .transpose()?;
    match (one(headers, &CONSISTENCY)?, minimum_index) {
        (None | Some("linearizable"), _) => Ok(Consistency::Linearizable),
        (Some("stale"), _) => Ok(Consistency::Stale),
        (Some("session"), Some(minimum_index)) => Ok(Consistency::Session { minimum_index }),
        (Some("session"), None) => Err(ApiError::bad_request(format!(
            "session consistency needs the header {MINIMUM_INDEX}"
        ))),
        (Some(other), _) => Err(ApiError::bad_request(format!(
            "the header {CONSISTENCY} is {other:?}: it can be linearizable, session or stale"
        ))),
    }
}

/// The name of a write: the client's own, so that it can be repeated, or a new one.
pub(super) fn request_id(headers: &HeaderMap, write: &Write) -> Result<RequestId, ApiError> {
    match one(headers, &IDEMPOTENCY_KEY)? {
        None => Ok(RequestId::unique()),
        Some(key) if (1..=MAXIMUM_KEY_BYTES).contains(&key.len()) => {
            Ok(RequestId::of_key(key, &write.content_digest()))
        }
        Some(_) => Err(ApiError::bad_request(format!(
            "the header {IDEMPOTENCY_KEY} has 1 to {MAXIMUM_KEY_BYTES} characters"
        ))),
    }
}

/// What the client accepts; several headers are one list.
pub(super) fn accept(headers: &HeaderMap) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The media type of the body, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = one(headers, &header::CONTENT_TYPE)? else {
        return Ok(None);
    };
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|known| charset.eq_ignore_ascii_case(known))
        {
            return Err(ApiError::unsupported_media_type(format!(
                "the body has the charset {charset:?}: only UTF-8 can be read"
            )));
        }
    }
    Ok(Some(media_type.trim().to_ascii_lowercase()))
}

/// Bodies come as they are.
pub(super) fn refuse_encoded_body(headers: &HeaderMap) -> Result<(), ApiError> {
    match one(headers, &header::CONTENT_ENCODING)? {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(encoding) => Err(ApiError::unsupported_media_type(format!(
            "the body has the encoding {encoding:?}: send it uncompressed"
        ))),
    }
}

/// A header value for a number.
pub(super) fn number(value: u64) -> HeaderValue {
    HeaderValue::from(value)
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
    fn the_consistency_is_linearizable_unless_another_is_asked_for() {
        let of = |pairs| consistency(&headers(pairs)).ok();
        assert_eq!(of(&[]), Some(Consistency::Linearizable));
        assert_eq!(
            of(&[("quadraft-consistency", "linearizable")]),
            Some(Consistency::Linearizable)
        );
        assert_eq!(
            of(&[("quadraft-consistency", "stale")]),
            Some(Consistency::Stale)
        );
        assert_eq!(
            of(&[
                ("quadraft-consistency", "session"),
                ("quadraft-minimum-index", "7")
            ]),
            Some(Consistency::Session { minimum_index: 7 })
        );
        assert_eq!(of(&[("quadraft-consistency", "session")]), None);
        assert_eq!(of(&[("quadraft-consistency", "eventual")]), None);
        assert_eq!(
            of(&[
                ("quadraft-consistency", "session"),
                ("quadraft-minimum-index", "-1")
            ]),
            None
        );
    }

    #[test]
    fn a_key_names_a_request_and_what_it_asks_for() {
        let write = |text: &str| Write::Update {
            text: text.into(),
            base_iri: None,
            using_graphs: None,
        };
        let id = |pairs, text| request_id(&headers(pairs), &write(text)).ok();
        let keyed = [("idempotency-key", "order-1")];
        let one = id(&keyed, "CLEAR ALL").unwrap();
        assert_eq!(id(&keyed, "CLEAR ALL"), Some(one));
        let other = id(&keyed, "CLEAR DEFAULT").unwrap();
        assert_eq!((one.key() == other.key(), one == other), (true, false));
        assert_ne!(id(&[], "CLEAR ALL"), id(&[], "CLEAR ALL"));
        assert_eq!(id(&[("idempotency-key", "")], "CLEAR ALL"), None);
    }

    #[test]
    fn only_utf_8_can_be_read() {
        let of = |value| {
            media_type(&headers(&[("content-type", value)]))
                .ok()
                .flatten()
        };
        assert_eq!(of("Text/Turtle; charset=UTF-8"), Some("text/turtle".into()));
        assert_eq!(
            of("text/turtle;charset=\"utf-8\""),
            Some("text/turtle".into())
        );
        assert_eq!(of("text/turtle; charset=latin1"), None);
    }
}
