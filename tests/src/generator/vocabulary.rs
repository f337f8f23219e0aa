//! IRIs of the Berlin SPARQL Benchmark's schema, version 0.1 of its vocabulary.

macro_rules! vocabulary {
    ($namespace:literal: $($name:ident = $local:literal;)*) => {
        $(pub(crate) const $name: &str = concat!($namespace, $local);)*
    };
}

vocabulary! { "http://www.w3.org/1999/02/22-rdf-syntax-ns#":
    RDF_TYPE = "type";
}

vocabulary! { "http://www.w3.org/2000/01/rdf-schema#":
    LABEL = "label";
    COMMENT = "comment";
    SUBCLASS_OF = "subClassOf";
}

vocabulary! { "http://purl.org/dc/elements/1.1/":
    DC_PUBLISHER = "publisher";
    DC_DATE = "date";
    DC_TITLE = "title";
}

vocabulary! { "http://xmlns.com/foaf/0.1/":
    FOAF_PERSON = "Person";
    FOAF_NAME = "name";
    FOAF_MAILBOX_SHA1 = "mbox_sha1sum";
    FOAF_HOMEPAGE = "homepage";
}

vocabulary! { "http://purl.org/stuff/rev#":
    REV_REVIEW = "Review";
    REV_REVIEWER = "reviewer";
    REV_TEXT = "text";
}

vocabulary! { "http://www.w3.org/2001/XMLSchema#":
    XSD_INTEGER = "integer";
    XSD_DATE = "date";
    XSD_DATE_TIME = "dateTime";
}

vocabulary! { "http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/":
    PRODUCT = "Product";
    PRODUCT_TYPE = "ProductType";
    PRODUCT_FEATURE_CLASS = "ProductFeature";
    PRODUCER_CLASS = "Producer";
    VENDOR_CLASS = "Vendor";
    OFFER_CLASS = "Offer";
    PRODUCER = "producer";
    PRODUCT_FEATURE = "productFeature";
    PROPERTY_TEXTUAL = "productPropertyTextual";
    PROPERTY_NUMERIC = "productPropertyNumeric";
    COUNTRY = "country";
    OFFERED_PRODUCT = "product";
    VENDOR = "vendor";
    PRICE = "price";
    VALID_FROM = "validFrom";
    VALID_TO = "validTo";
    DELIVERY_DAYS = "deliveryDays";
    OFFER_WEBPAGE = "offerWebpage";
    REVIEW_FOR = "reviewFor";
    REVIEW_DATE = "reviewDate";
    RATING = "rating";
    US_DOLLAR = "USD";
}

/// The prefixes that the queries use.
pub(crate) const PREFIXES: &str = "\
PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>
PREFIX xsd: <http://www.w3.org/2001/XMLSchema#>
PREFIX dc: <http://purl.org/dc/elements/1.1/>
PREFIX foaf: <http://xmlns.com/foaf/0.1/>
PREFIX rev: <http://purl.org/stuff/rev#>
PREFIX bsbm: <http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/>
";

const INSTANCES: &str = "http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/instances/";
const COUNTRIES: &str = "http://downlode.org/rdf/iso-3166/countries#";

/// Countries with how often they occur, of a hundred.
const COUNTRY_SHARES: [(&str, u64); 10] = [
    ("US", 40),
    ("GB", 10),
    ("JP", 10),
    ("CN", 10),
    ("DE", 5),
    ("FR", 5),
    ("ES", 5),
    ("RU", 5),
    ("KR", 5),
    ("AT", 5),
];

/// The country at a number below 100.
pub(crate) fn country(hundredth: u64) -> String {
    let mut reached = 0;
    let name = COUNTRY_SHARES
        .iter()
        .find(|(_, share)| {
            reached += share;
            hundredth < reached
        })
        .map_or("US", |(name, _)| name);
    format!("{COUNTRIES}{name}")
}

/// Who publishes product types and features.
pub(crate) fn institution() -> String {
    format!("{INSTANCES}StandardizationInstitution1")
}

pub(crate) fn institution_graph() -> String {
    format!("{INSTANCES}dataFromStandardizationInstitution1/Graph")
}

// Numbers count from 0 in the code and from 1 in the IRIs, as the benchmark has them.

pub(crate) fn product_type(number: u64) -> String {
    format!("{INSTANCES}ProductType{}", number + 1)
}

pub(crate) fn feature(number: u64) -> String {
    format!("{INSTANCES}ProductFeature{}", number + 1)
}

macro_rules! sourced {
    ($source:literal: $graph:ident, $($name:ident = $local:literal),*) => {
        pub(crate) fn $graph(source: u64) -> String {
            format!("{INSTANCES}dataFrom{}{}/Graph", $source, source + 1)
        }

        $(pub(crate) fn $name(source: u64, number: u64) -> String {
            format!("{INSTANCES}dataFrom{}{}/{}{}", $source, source + 1, $local, number + 1)
        })*
    };
}

sourced!("Producer": producer_graph, producer = "Producer", product = "Product");
sourced!("Vendor": vendor_graph, vendor = "Vendor", offer = "Offer");
sourced!("RatingSite": site_graph, site = "RatingSite", person = "Reviewer", review = "Review");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_countries_make_a_hundred() {
        assert_eq!(
            COUNTRY_SHARES.iter().map(|(_, share)| share).sum::<u64>(),
            100
        );
        assert!(country(0).ends_with("#US"));
        assert!(country(39).ends_with("#US"));
        assert!(country(40).ends_with("#GB"));
        assert!(country(99).ends_with("#AT"));
    }

    #[test]
    fn instances_are_named_after_where_they_come_from() {
        assert!(product(4, 11).ends_with("/instances/dataFromProducer5/Product12"));
        assert!(site_graph(0).ends_with("/instances/dataFromRatingSite1/Graph"));
    }
}
