//! The protocol (rank 5).

use crate::cimom::Principal;

/// An answer.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// A SOAP fault: HTTP 500.
    pub is_fault: bool,
    /// The envelope.
    pub body: String,
}

/// How an envelope was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16.
    Utf16,
}

/// The protocol layer.
#[derive(Debug)]
pub struct Service;

impl Service {
    /// Identify.
    #[must_use]
    pub fn identify_anonymous(&self, _body: &str) -> Option<Outbound> {
        None
    }

    /// One exchange.
    pub async fn handle(&self, _principal: &Principal, _body: &str, _encoding: Encoding) -> Outbound {
        std::future::ready(self.charset_fault()).await
    }

    /// Charset.
    #[must_use]
    pub fn charset_fault(&self) -> Outbound {
        Outbound { is_fault: true, body: String::new() }
    }

    /// Text.
    #[must_use]
    pub fn malformed_text_fault(&self, _detail: &str) -> Outbound {
        self.charset_fault()
    }
}
