//! The parameters of the protocols, from the URL or from a form.

use percent_encoding::percent_decode;

use super::error::ApiError;

/// Parameters in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of a URL's query or of a form (URL Standard, `application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// When a name or a value is not UTF-8: replacing what cannot be read would store other data
    /// than was sent.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ApiError> {
        text.split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let mut parts = pair.splitn(2, |byte| *byte == b'=');
                let mut part = || decode(parts.next().unwrap_or_default());
                Ok((part()?, part()?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn of_url(query: Option<&str>) -> Result<Self, ApiError> {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    pub(super) fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// The value of a parameter that may be given once.
    pub(super) fn take_one(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values = self.take_all(name);
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop()),
            _ => Err(ApiError::bad_request(format!(
                "the parameter {name} is given more than once"
            ))),
        }
    }

    /// All values of a parameter.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(given, _)| given == name);
        self.0 = left;
        taken
            .into_iter()
            .map(|(_, value): (String, String)| value)
            .collect()
    }

    /// Refuses what is left. A misspelt `default-graph-uri` must not silently change the answer.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::bad_request(format!(
                "the parameter {name:?} is not known here"
            ))),
        }
    }
}

fn decode(text: &[u8]) -> Result<String, ApiError> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map_err(|error| {
        ApiError::bad_request(format!("a parameter is not UTF-8: {}", error.utf8_error()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_are_decoded() {
        let mut parameters = Parameters::parse(b"query=ASK+%7B%7D&a=%C3%A9&&a=2&b").unwrap();
        assert_eq!(
            parameters.take_one("query").unwrap(),
            Some("ASK {}".to_owned())
        );
        assert_eq!(parameters.take_all("a"), ["é", "2"]);
        assert_eq!(parameters.take_one("b").unwrap(), Some(String::new()));
        assert!(parameters.finish().is_ok());
    }

    #[test]
    fn what_is_given_twice_or_unknown_is_refused() {
        let mut parameters = Parameters::parse(b"query=1&query=2").unwrap();
        assert!(parameters.take_one("query").is_err());
        let misspelt = Parameters::parse(b"defualt-graph-uri=x").unwrap();
        assert!(misspelt.finish().is_err());
    }

    #[test]
    fn what_is_not_utf_8_is_refused_in_names_and_in_values() {
        for text in [&b"query=%FF"[..], b"%C3=1", b"a=\xff", b"a=%ED%A0%80"] {
            assert!(Parameters::parse(text).is_err(), "{text:?}");
        }
    }
}
