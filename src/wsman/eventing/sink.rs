//! How messages get to sinks.

use std::time::Duration;

use crate::cimom::BoxFuture;

use super::super::service::Encoding;

/// A message for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it goes, a URL of HTTP or HTTPS.
    pub url: String,
    /// The envelope.
    pub envelope: String,
    /// How it is transmitted.
    pub encoding: Encoding,
    /// How long everything may take, from the connection to the last octet of the answer.
    pub timeout: Duration,
}

/// What a sink answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkReply {
    /// The HTTP status.
    pub status: u16,
    /// The text; empty when there is none or it is no text.
    pub body: String,
}

/// Why a message did not get to its sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeliveryError(pub String);

/// Sends messages. Implemented above this layer, because there is the network.
pub trait EventSink: Send + Sync {
    /// Sends one message and gives the answer, whatever its status is.
    ///
    /// # Errors
    /// A [`DeliveryError`] when there is no answer in time.
    fn post(&self, delivery: Delivery) -> BoxFuture<'_, Result<SinkReply, DeliveryError>>;
}

/// What the address of a sink says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkUrl<'a> {
    /// It is `https`.
    pub secure: bool,
    /// The host, without brackets.
    pub host: &'a str,
}

impl Delivery {
    /// Takes the address of a sink apart. Only what every reader reads in the same way is an address: a scheme of
    /// HTTP, a host of letters, digits, `.`, `-` and `_` or an IPv6 address in brackets, maybe a port, and a path.
    #[must_use]
    pub fn parse_url(url: &str) -> Option<SinkUrl<'_>> {
        if url.len() > 2048 || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['\\', '#']) {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let secure = match scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            _ => return None,
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some(""))?)
        } else {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if host.is_empty() || !host.bytes().all(is_name) {
                return None;
            }
            (host, port)
        };
        let port_fits = port.is_empty()
            || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0));
        port_fits.then_some(SinkUrl { secure, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_doubtful_ones_are_none() {
        for (url, secure, host) in [
            ("http://127.0.0.1:1/notify", false, "127.0.0.1"),
            ("HTTPS://Collector_1.example.com/wsman?a=b", true, "Collector_1.example.com"),
            ("http://[::1]:5985/x", false, "::1"),
            ("http://[::1]", false, "::1"),
            ("http://host", false, "host"),
        ] {
            assert_eq!(Delivery::parse_url(url), Some(SinkUrl { secure, host }), "{url}");
        }
        for url in [
            "",
            "host",
            "ftp://host/",
            "http:///x",
            "http://user@host/",
            "http://good\\@evil/",
            "http://host:0/",
            "http://host:70000/",
            "http://host:x/",
            "http://host:+1/",
            "http://[::1/",
            "http://[x]/",
            "http://[::1]x/",
            "http://ho st/",
            "http://h\u{f6}st/",
            "http://host/#x",
            "http://evil%2f@host/",
        ] {
            assert_eq!(Delivery::parse_url(url), None, "{url}");
        }
    }
}
