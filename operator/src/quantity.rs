//! Quantities as Kubernetes writes them: `500m`, `1.5Gi`, `10G`, `1e3`.
//!
//! The grammar is that of <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Quantities are counted in thousand-millionths, the smallest that Kubernetes knows.
const NANO: u128 = 1_000_000_000;

/// The value of a quantity in thousand-millionths, rounded up; nothing when it is none or too large.
#[must_use]
pub fn parse_nano(text: &str) -> Option<u128> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    // As a fraction: scaled by the multiplier, divided by the divisor.
    let (multiplier, divisor): (u128, u128) = match suffix {
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1000_u128.pow(2), 1),
        "G" => (1000_u128.pow(3), 1),
        "T" => (1000_u128.pow(4), 1),
        "P" => (1000_u128.pow(5), 1),
        "E" => (1000_u128.pow(6), 1),
        "Ki" => (1024, 1),
        "Mi" => (1024_u128.pow(2), 1),
        "Gi" => (1024_u128.pow(3), 1),
        "Ti" => (1024_u128.pow(4), 1),
        "Pi" => (1024_u128.pow(5), 1),
        "Ei" => (1024_u128.pow(6), 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let read = |digits: &str| -> Option<u128> {
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse().ok()
        }
    };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = read(whole)?
        .checked_mul(scale)?
        .checked_add(read(fraction)?)?;
    let nano = value.checked_mul(multiplier)?.checked_mul(NANO)?;
    Some(nano.div_ceil(scale.checked_mul(divisor)?))
}

/// The whole number that a quantity names, rounded up: bytes of a size.
#[must_use]
pub fn parse_whole(text: &str) -> Option<u64> {
    u64::try_from(parse_nano(text)?.div_ceil(NANO)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, whole) in [
            ("1Ki", Some(1024)),
            ("1.5Ki", Some(1536)),
            ("10G", Some(10_000_000_000)),
            ("7", Some(7)),
            ("1e3", Some(1000)),
            ("12E2", Some(1200)),
            ("1500m", Some(2)),
            (".5Gi", Some(1 << 29)),
            ("16Ei", None),
            ("1Gb", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1e99", None),
            ("99999999999999999999999999999999999999", None),
        ] {
            assert_eq!(parse_whole(text), whole, "{text}");
        }
    }

    #[test]
    fn equal_quantities_are_equal_however_they_are_written() {
        for (one, other) in [
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1", "1000m"),
            ("2e3", "2k"),
        ] {
            assert_eq!(parse_nano(one).unwrap(), parse_nano(other).unwrap());
        }
        assert_ne!(parse_nano("500m"), parse_nano("501m"));
    }
}
