//! The parameters of the protocols, from the URL or from a form.

use super::error::ApiError;

/// Parameters in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of a URL's query or of a form. What is not UTF-8 is replaced.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    pub(super) fn of_url(query: Option<&str>) -> Self {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_are_decoded() {
        let mut parameters = Parameters::parse(b"query=ASK+%7B%7D&a=%C3%A9&a=2");
        assert_eq!(
            parameters.take_one("query").unwrap(),
            Some("ASK {}".to_owned())
        );
        assert_eq!(parameters.take_all("a"), ["é", "2"]);
        assert!(parameters.finish().is_ok());
    }

    #[test]
    fn what_is_given_twice_or_unknown_is_refused() {
        let mut parameters = Parameters::parse(b"query=1&query=2");
        assert!(parameters.take_one("query").is_err());
        assert!(Parameters::parse(b"defualt-graph-uri=x").finish().is_err());
    }
}
