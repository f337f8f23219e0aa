//! Tables as Markdown has them.

use std::fmt::Write as _;

/// A table with a heading and rows of as many cells; all columns but the first align right.
#[must_use]
pub fn markdown_table(heading: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(heading);
    let rule: Vec<String> = (0..heading.len())
        .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    line(&rule);
    for row in rows {
        line(row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_rule_below_its_heading() {
        let cells = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        assert_eq!(
            markdown_table(&cells(["what", "figure"]), &[cells(["a", "1"])]),
            "| what | figure |\n| --- | ---: |\n| a | 1 |\n"
        );
    }
}
