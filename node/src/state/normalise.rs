//! The one form in which the store keeps a term.
//!
//! Oxigraph keeps literals of the XML Schema data types by value: `"01"^^xsd:integer` and
//! `"1"^^xsd:int` both come back as `1`. The digest is a sum over what the store holds, so the
//! same form must be known before a quad is stored.

use std::fmt;
use std::str::FromStr;

use oxrdf::{Literal, Quad, Term};
use oxsdatatypes::{
    Boolean, Date, DateTime, DayTimeDuration, Decimal, Double, Duration, Float, GDay, GMonth,
    GMonthDay, GYear, GYearMonth, Integer, Time, YearMonthDuration,
};

const XML_SCHEMA: &str = "http://www.w3.org/2001/XMLSchema#";

/// The quad as the store will give it back.
pub fn normalise_quad(mut quad: Quad) -> Quad {
    if let Term::Literal(literal) = &quad.object
        && let Some(literal) = stored_form(literal)
    {
        quad.object = literal.into();
    }
    quad
}

/// The form that the store gives back, if it is another one.
fn stored_form(literal: &Literal) -> Option<Literal> {
    let value = literal.value();
    let form = match literal.datatype().as_str().strip_prefix(XML_SCHEMA)? {
        "boolean" => by_value::<Boolean>(value),
        "float" => by_value::<Float>(value),
        "double" => by_value::<Double>(value),
        "integer" | "byte" | "short" | "int" | "long" | "unsignedByte" | "unsignedShort"
        | "unsignedInt" | "unsignedLong" | "positiveInteger" | "negativeInteger"
        | "nonPositiveInteger" | "nonNegativeInteger" => by_value::<Integer>(value),
        "decimal" => by_value::<Decimal>(value),
        "dateTime" | "dateTimeStamp" => by_value::<DateTime>(value),
        "time" => by_value::<Time>(value),
        "date" => by_value::<Date>(value),
        "gYearMonth" => by_value::<GYearMonth>(value),
        "gYear" => by_value::<GYear>(value),
        "gMonthDay" => by_value::<GMonthDay>(value),
        "gDay" => by_value::<GDay>(value),
        "gMonth" => by_value::<GMonth>(value),
        "duration" => by_value::<Duration>(value),
        "yearMonthDuration" => by_value::<YearMonthDuration>(value),
        "dayTimeDuration" => by_value::<DayTimeDuration>(value),
        _ => None,
    }?;
    (form != *literal).then_some(form)
}

fn by_value<T: FromStr + fmt::Display + Into<Literal>>(value: &str) -> Option<Literal> {
    value.parse::<T>().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oxigraph::store::Store;
    use oxrdf::{GraphName, NamedNode};
    use proptest::prelude::*;

    use super::*;

    fn quad(value: &str, datatype: &str) -> Quad {
        let node = NamedNode::new_unchecked("http://example.com/a");
        Quad::new(
            node.clone(),
            node,
            Literal::new_typed_literal(
                value,
                NamedNode::new_unchecked(format!("{XML_SCHEMA}{datatype}")),
            ),
            GraphName::DefaultGraph,
        )
    }

    fn as_stored(quad: &Quad) -> Quad {
        let store = Store::new().unwrap();
        store.insert(quad).unwrap();
        store.iter().next().unwrap().unwrap()
    }

    #[test]
    fn numbers_take_the_form_of_their_value() {
        assert_eq!(normalise_quad(quad("01", "integer")), quad("1", "integer"));
        assert_eq!(normalise_quad(quad("1", "int")), quad("1", "integer"));
        assert_eq!(
            normalise_quad(quad("one", "integer")),
            quad("one", "integer")
        );
        assert_eq!(
            normalise_quad(quad("1", "boolean")),
            quad("true", "boolean")
        );
    }

    const DATA_TYPES: [&str; 31] = [
        "string",
        "boolean",
        "float",
        "double",
        "integer",
        "byte",
        "short",
        "int",
        "long",
        "unsignedByte",
        "unsignedShort",
        "unsignedInt",
        "unsignedLong",
        "positiveInteger",
        "negativeInteger",
        "nonPositiveInteger",
        "nonNegativeInteger",
        "decimal",
        "dateTime",
        "dateTimeStamp",
        "time",
        "date",
        "gYearMonth",
        "gYear",
        "gMonthDay",
        "gDay",
        "gMonth",
        "duration",
        "yearMonthDuration",
        "dayTimeDuration",
        "hexBinary",
    ];

    const SHAPES: &str = "[+-]?[0-9]{1,20}(\\.[0-9]{0,4})?([eE][+-]?[0-9]{1,2})?\
        |true|false|INF|-INF|NaN|[01]\
        |-?P([0-9]{1,2}Y)?([0-9]{1,2}M)?([0-9]{1,2}D)?(T[0-9]{1,2}H[0-9]{1,2}M[0-9]{1,2}(\\.[0-9]{1,3})?S)?\
        |-?[0-9]{4}(-[01][0-9](-[0-3][0-9])?)?(Z|[+-][01][0-9]:[0-5][0-9])?\
        |--[01][0-9](-[0-3][0-9])?(Z|[+-][01][0-9]:[0-5][0-9])?\
        |---[0-3][0-9](Z|[+-][01][0-9]:[0-5][0-9])?\
        |-?[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,4})?(Z|[+-][01][0-9]:[0-5][0-9])?\
        |[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,4})?(Z|[+-][01][0-9]:[0-5][0-9])?\
        |[a-z ]{0,24}";

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn the_store_gives_back_the_normalised_quad(
            value in SHAPES,
            datatype in proptest::sample::select(&DATA_TYPES[..]),
        ) {
            let quad = quad(&value, datatype);
            let normalised = normalise_quad(quad.clone());
            prop_assert_eq!(&as_stored(&quad), &normalised);
            prop_assert_eq!(&normalise_quad(normalised.clone()), &normalised);
        }
    }
}
