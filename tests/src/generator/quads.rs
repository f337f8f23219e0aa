//! N-Quads text, one entity at a time.

use std::fmt::Write as _;

use jiff::civil::Date;

use super::vocabulary::{US_DOLLAR, XSD_DATE, XSD_DATE_TIME, XSD_INTEGER};

/// Lines of N-Quads. Reused from entity to entity, so that memory does not grow with the data.
#[derive(Debug, Default)]
pub(crate) struct QuadLines {
    text: String,
    count: u64,
    named_graphs: bool,
}

impl QuadLines {
    pub(crate) fn new(named_graphs: bool) -> Self {
        Self {
            named_graphs,
            ..Self::default()
        }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.count = 0;
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Keeps the first `count` lines.
    pub(crate) fn truncate(&mut self, count: u64) {
        if count >= self.count {
            return;
        }
        let end = self
            .text
            .match_indices('\n')
            .nth((count as usize).wrapping_sub(1))
            .map_or(0, |(position, _)| position + 1);
        self.text.truncate(if count == 0 { 0 } else { end });
        self.count = count;
    }

    /// Starts the description of one subject. `graph` counts only where named graphs were asked
    /// for.
    pub(crate) fn about(&mut self, subject: String, graph: String) -> Description<'_> {
        let graph = self.named_graphs.then_some(graph);
        Description {
            lines: self,
            subject,
            graph,
        }
    }
}

/// Statements about one subject in one graph.
#[derive(Debug)]
pub(crate) struct Description<'a> {
    lines: &'a mut QuadLines,
    subject: String,
    graph: Option<String>,
}

impl Description<'_> {
    pub(crate) fn link(&mut self, predicate: &str, object: &str) -> &mut Self {
        self.start(predicate);
        self.push_iri(object);
        self.end()
    }

    pub(crate) fn text(&mut self, predicate: &str, value: &str) -> &mut Self {
        self.start(predicate);
        self.push_quoted(value);
        self.end()
    }

    pub(crate) fn text_in(&mut self, predicate: &str, value: &str, language: &str) -> &mut Self {
        self.start(predicate);
        self.push_quoted(value);
        self.lines.text.push('@');
        self.lines.text.push_str(language);
        self.end()
    }

    pub(crate) fn integer(&mut self, predicate: &str, value: u64) -> &mut Self {
        self.typed(predicate, format_args!("{value}"), XSD_INTEGER)
    }

    pub(crate) fn date(&mut self, predicate: &str, value: Date) -> &mut Self {
        self.typed(predicate, format_args!("{value}"), XSD_DATE)
    }

    pub(crate) fn midnight(&mut self, predicate: &str, value: Date) -> &mut Self {
        self.typed(predicate, format_args!("{value}T00:00:00"), XSD_DATE_TIME)
    }

    pub(crate) fn price(&mut self, predicate: &str, cents: u64) -> &mut Self {
        let (whole, rest) = (cents / 100, cents % 100);
        self.typed(predicate, format_args!("{whole}.{rest:02}"), US_DOLLAR)
    }

    fn typed(
        &mut self,
        predicate: &str,
        value: std::fmt::Arguments<'_>,
        datatype: &str,
    ) -> &mut Self {
        self.start(predicate);
        // Writing to a string cannot fail.
        let _ = write!(self.lines.text, "\"{value}\"^^<{datatype}>");
        self.end()
    }

    fn start(&mut self, predicate: &str) {
        let text = &mut self.lines.text;
        text.push('<');
        text.push_str(&self.subject);
        text.push_str("> <");
        text.push_str(predicate);
        text.push_str("> ");
    }

    fn push_iri(&mut self, iri: &str) {
        let text = &mut self.lines.text;
        text.push('<');
        text.push_str(iri);
        text.push('>');
    }

    fn push_quoted(&mut self, value: &str) {
        let text = &mut self.lines.text;
        text.push('"');
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other => text.push(other),
            }
        }
        text.push('"');
    }

    fn end(&mut self) -> &mut Self {
        let text = &mut self.lines.text;
        if let Some(graph) = &self.graph {
            text.push_str(" <");
            text.push_str(graph);
            text.push('>');
        }
        text.push_str(" .\n");
        self.lines.count += 1;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_statements(named_graphs: bool) -> QuadLines {
        let mut lines = QuadLines::new(named_graphs);
        lines
            .about("urn:s".to_owned(), "urn:g".to_owned())
            .text("urn:p", "a \"b\"\\\n\tc")
            .price("urn:p", 1205);
        lines
    }

    #[test]
    fn marks_in_literals_are_escaped() {
        let expected = "<urn:s> <urn:p> \"a \\\"b\\\"\\\\\\n\\tc\" .\n\
             <urn:s> <urn:p> \"12.05\"^^\
             <http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/USD> .\n";
        assert_eq!(two_statements(false).text(), expected);
    }

    #[test]
    fn graphs_are_named_only_when_asked_for() {
        assert_eq!(
            two_statements(true).text().matches(" <urn:g> .\n").count(),
            2
        );
        assert!(!two_statements(false).text().contains("urn:g"));
    }

    #[test]
    fn lines_are_cut_at_whole_statements() {
        let mut lines = two_statements(false);
        let whole = lines.text().to_owned();
        lines.truncate(5);
        assert_eq!((lines.text(), lines.count()), (whole.as_str(), 2));
        lines.truncate(1);
        assert_eq!(lines.count(), 1);
        assert_eq!(lines.text().matches('\n').count(), 1);
        lines.truncate(0);
        assert_eq!((lines.text(), lines.count()), ("", 0));
    }
}
