//! The origin of a web page, as a browser writes it: scheme, host, and the port unless it is the
//! scheme's own.

use std::fmt;
use std::net::Ipv6Addr;

/// An origin, or `*` for every origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Whether this is `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// Reads an origin. Capital letters are refused, because no browser sends them and the origin
    /// would never be met.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_origin = text == "*" || {
            let (scheme, rest) = text.split_once("://")?;
            is_scheme(scheme) && is_authority(rest)
        };
        is_origin.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'.' | b'-'))
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside of brackets is the address's own.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_one = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    port_is_one && is_host(host)
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| {
            address.parse::<Ipv6Addr>().is_ok()
                && !address.contains(|character: char| character.is_ascii_uppercase())
        });
    }
    let ends = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let inside = |byte: u8| ends(byte) || matches!(byte, b'.' | b'-' | b'_');
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            ends(*first) && ends(*last) && bytes.iter().all(|byte| inside(*byte))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for right in [
            "*",
            "https://example.org",
            "http://localhost:8080",
            "https://my_host.example.org:65535",
            "http://[::1]:3000",
            "http://[2001:db8::7]",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(Origin::parse(right).is_some(), "{right}");
        }
    }

    #[test]
    fn whatever_no_browser_sends_as_an_origin_is_refused() {
        for wrong in [
            "",
            "null",
            "example.org",
            "https://",
            "https://example.org/",
            "https://example.org/page",
            "https://example.org?x",
            "https://Example.org",
            "HTTPS://example.org",
            "https://*.example.org",
            "https://user@example.org",
            "https://example.org:",
            "https://example.org:0",
            "https://example.org:65536",
            "https://example.org:+80",
            "https://example.org:80:80",
            "https://-example.org",
            "https://example.org,https://example.net",
            "https://[::1",
            "https://[::g]",
            "https://a b",
            "* ",
            "://example.org",
        ] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }
}
