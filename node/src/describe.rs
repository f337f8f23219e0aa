//! Errors in words.

/// An error with its causes, in one sentence.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Transparent errors repeat what they wrap.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Example {
        #[error(transparent)]
        Transparent(#[from] std::fmt::Error),
        #[error("the log cannot be read")]
        Caused(#[source] Box<Example>),
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_none_of_them_twice() {
        let cause = std::fmt::Error.to_string();
        let transparent = Example::from(std::fmt::Error);
        assert_eq!(describe(&transparent), cause);
        let caused = Example::Caused(Box::new(transparent));
        assert_eq!(
            describe(&caused),
            format!("the log cannot be read: {cause}")
        );
    }
}
