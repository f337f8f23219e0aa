//! Which format a result is written in.

use oxrdfio::{JsonLdProfileSet, RdfFormat};
use sparesults::QueryResultsFormat;
use spargebra::Query;

use super::QueryError;

/// What kind of thing a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// Rows, or true and false.
    Table,
    /// Triples.
    Graph,
    /// Quads.
    Dataset,
}

impl ResultKind {
    pub(super) fn of(query: &Query) -> Self {
        match query {
            Query::Select { .. } | Query::Ask { .. } => Self::Table,
            Query::Construct { .. } | Query::Describe { .. } => Self::Graph,
        }
    }

    /// The formats for this kind in the order of preference.
    fn offers(self) -> &'static [Offer] {
        match self {
            Self::Table => TABLES,
            Self::Graph => GRAPHS,
            Self::Dataset => DATASETS,
        }
    }
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFormat {
    /// Rows, or true and false.
    Table(QueryResultsFormat),
    /// Triples or quads.
    Rdf(RdfFormat),
}

impl ResultFormat {
    /// The value of the `Content-Type` header.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Table(format) => format.media_type(),
            Self::Rdf(format) => format.media_type(),
        }
    }
}

struct Offer {
    format: ResultFormat,
    /// The first is the one to advertise.
    media_types: &'static [&'static str],
}

impl Offer {
    /// How much the client likes this format under any of its names. What it is sent as is the
    /// first of them: when that is refused (quality 0), no other name makes up for it.
    fn quality(&self, ranges: &[Range<'_>]) -> u16 {
        let mut qualities = self.media_types.iter().map(|name| quality(name, ranges));
        let Some(first) = qualities.next() else {
            return 0;
        };
        if first == Some(0) {
            return 0;
        }
        qualities.chain([first]).flatten().max().unwrap_or(0)
    }
}

const JSON_LD: ResultFormat = ResultFormat::Rdf(RdfFormat::JsonLd {
    profile: JsonLdProfileSet::empty(),
});

const TABLES: &[Offer] = &[
    Offer {
        format: ResultFormat::Table(QueryResultsFormat::Json),
        media_types: &["application/sparql-results+json", "application/json"],
    },
    Offer {
        format: ResultFormat::Table(QueryResultsFormat::Xml),
        media_types: &[
            "application/sparql-results+xml",
            "application/xml",
            "text/xml",
        ],
    },
    Offer {
        format: ResultFormat::Table(QueryResultsFormat::Csv),
        media_types: &["text/csv"],
    },
    Offer {
        format: ResultFormat::Table(QueryResultsFormat::Tsv),
        media_types: &["text/tab-separated-values"],
    },
];

const GRAPHS: &[Offer] = &[
    Offer {
        format: ResultFormat::Rdf(RdfFormat::Turtle),
        media_types: &["text/turtle", "application/x-turtle"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::NTriples),
        media_types: &["application/n-triples", "text/plain"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::RdfXml),
        media_types: &["application/rdf+xml", "application/xml", "text/xml"],
    },
    Offer {
        format: JSON_LD,
        media_types: &["application/ld+json", "application/json"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::N3),
        media_types: &["text/n3"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::NQuads),
        media_types: &["application/n-quads"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::TriG),
        media_types: &["application/trig"],
    },
];

const DATASETS: &[Offer] = &[
    Offer {
        format: ResultFormat::Rdf(RdfFormat::NQuads),
        media_types: &["application/n-quads"],
    },
    Offer {
        format: ResultFormat::Rdf(RdfFormat::TriG),
        media_types: &["application/trig"],
    },
    Offer {
        format: JSON_LD,
        media_types: &["application/ld+json", "application/json"],
    },
];

/// Chooses the format that the `Accept` header likes best. No header accepts everything.
pub fn negotiate(kind: ResultKind, accept: Option<&str>) -> Result<ResultFormat, QueryError> {
    let ranges = accept.map(ranges).unwrap_or_default();
    let mut best: Option<(u16, ResultFormat)> = None;
    for offer in kind.offers() {
        let quality = if ranges.is_empty() {
            1000
        } else {
            offer.quality(&ranges)
        };
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, offer.format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let offered: Vec<_> = kind
            .offers()
            .iter()
            .map(|offer| offer.media_types[0])
            .collect();
        QueryError::NotAcceptable {
            offered: offered.join(", "),
        }
    })
}

/// One range of an `Accept` header.
struct Range<'a> {
    media_type: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

fn ranges(accept: &str) -> Vec<Range<'_>> {
    accept.split(',').filter_map(range).collect()
}

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';');
    let (media_type, subtype) = parts.next()?.trim().split_once('/')?;
    let quality = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map_or(Some(1.0), |(_, value)| value.trim().parse::<f32>().ok())?;
    Some(Range {
        media_type: media_type.trim(),
        subtype: subtype.trim(),
        // Within 0 and 1000, so that nothing is lost but the digits after the third.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        quality: (quality.clamp(0.0, 1.0) * 1000.0).round() as u16,
    })
}

/// The quality of the most specific range that covers the media type, if one does.
fn quality(media_type: &str, ranges: &[Range<'_>]) -> Option<u16> {
    let (main, sub) = media_type.split_once('/')?;
    ranges
        .iter()
        .filter_map(|range| {
            let specificity = match (range.media_type, range.subtype) {
                ("*", "*") => 0,
                (range_main, "*") if range_main.eq_ignore_ascii_case(main) => 1,
                (range_main, range_sub)
                    if range_main.eq_ignore_ascii_case(main)
                        && range_sub.eq_ignore_ascii_case(sub) =>
                {
                    2
                }
                _ => return None,
            };
            Some((specificity, range.quality))
        })
        .max()
        .map(|(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(accept: &str) -> Option<&'static str> {
        negotiate(ResultKind::Table, Some(accept))
            .ok()
            .map(ResultFormat::media_type)
    }

    fn graph(accept: &str) -> Option<&'static str> {
        negotiate(ResultKind::Graph, Some(accept))
            .ok()
            .map(ResultFormat::media_type)
    }

    const JSON: Option<&str> = Some("application/sparql-results+json");
    const XML: Option<&str> = Some("application/sparql-results+xml");
    const CSV: Option<&str> = Some("text/csv; charset=utf-8");
    const TSV: Option<&str> = Some("text/tab-separated-values; charset=utf-8");

    #[test]
    fn each_format_can_be_asked_for() {
        assert_eq!(table("application/sparql-results+json"), JSON);
        assert_eq!(table("Application/JSON"), JSON);
        assert_eq!(table("application/sparql-results+xml;charset=utf-8"), XML);
        assert_eq!(table("text/csv"), CSV);
        assert_eq!(table("text/tab-separated-values"), TSV);
        assert_eq!(graph("text/turtle"), Some("text/turtle"));
        assert_eq!(
            graph("application/n-triples"),
            Some("application/n-triples")
        );
        assert_eq!(graph("application/rdf+xml"), Some("application/rdf+xml"));
        assert_eq!(graph("application/ld+json"), Some("application/ld+json"));
        assert_eq!(graph("application/trig"), Some("application/trig"));
    }

    #[test]
    fn without_a_header_the_preferred_format_is_taken() {
        for (kind, expected) in [
            (ResultKind::Table, "application/sparql-results+json"),
            (ResultKind::Graph, "text/turtle"),
            (ResultKind::Dataset, "application/n-quads"),
        ] {
            let chosen = negotiate(kind, None).map(ResultFormat::media_type);
            assert_eq!(chosen, Ok(expected));
        }
    }

    #[test]
    fn the_highest_quality_wins_and_ties_go_to_the_preferred_format() {
        assert_eq!(
            table("text/csv;q=0.5, text/tab-separated-values;q=0.6"),
            TSV
        );
        assert_eq!(table("text/csv, application/sparql-results+xml"), XML);
        assert_eq!(table("*/*"), JSON);
        assert_eq!(table("text/*"), XML);
        assert_eq!(table("text/html, application/xml;q=0.9, */*;q=0.8"), XML);
    }

    #[test]
    fn the_most_specific_range_decides_over_a_format() {
        assert_eq!(
            table("*/*, application/sparql-results+json;q=0, application/json;q=0"),
            XML
        );
        assert_eq!(table("text/csv;q=0.1, */*;q=0.05"), CSV);
        assert_eq!(table("application/sparql-results+json;q=0, */*"), XML);
        assert_eq!(
            table("application/sparql-results+json;q=0.0, application/json;q=0.9, text/csv;q=0.1"),
            CSV
        );
    }

    #[test]
    fn what_cannot_be_offered_is_not_acceptable() {
        assert_eq!(table("image/png"), None);
        assert_eq!(table("text/csv;q=0"), None);
        assert_eq!(
            table("application/sparql-results+json;q=0, application/json"),
            None
        );
        assert_eq!(graph("text/csv"), None);
        assert!(matches!(
            negotiate(ResultKind::Dataset, Some("text/turtle")),
            Err(QueryError::NotAcceptable { offered }) if offered.contains("application/trig")
        ));
    }

    #[test]
    fn a_header_without_any_range_is_ignored() {
        assert_eq!(table(""), JSON);
        assert_eq!(table("nonsense"), JSON);
    }
}
