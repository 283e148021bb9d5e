//! Requests in the making for tests against the whole server.

use crate::support::TestServer;
use crate::wsman::fault_of;

pub(crate) const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
pub(crate) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";

/// A request: what to do with which resource.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    action: String,
    resource: String,
    headers: String,
    body: String,
}

impl Exchange {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), headers: String::new(), body: String::new() }
    }

    pub(crate) fn get(resource: impl Into<String>) -> Self {
        Self::new(format!("{TRANSFER}/Get"), resource)
    }

    pub(crate) fn enumerate(resource: impl Into<String>, inner: &str) -> Self {
        Self::new(format!("{ENUMERATION}/Enumerate"), resource).body(&format!("<n:Enumerate>{inner}</n:Enumerate>"))
    }

    pub(crate) fn pull(resource: impl Into<String>, context: &str, inner: &str) -> Self {
        let body = format!("<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{inner}</n:Pull>");
        Self::new(format!("{ENUMERATION}/Pull"), resource).body(&body)
    }

    pub(crate) fn header(mut self, header: &str) -> Self {
        self.headers.push_str(header);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body.push_str(body);
        self
    }

    /// With a selector set.
    pub(crate) fn selectors(self, selectors: &[(&str, &str)]) -> Self {
        let all: Vec<String> =
            selectors.iter().map(|(name, value)| format!("<w:Selector Name=\"{name}\">{value}</w:Selector>")).collect();
        self.header(&format!("<w:SelectorSet>{}</w:SelectorSet>", all.concat()))
    }

    /// With an option set.
    pub(crate) fn options(self, options: &[(&str, &str)]) -> Self {
        let all: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("<w:Option Name=\"{name}\" Type=\"xs:boolean\">{value}</w:Option>"))
            .collect();
        self.header(&format!("<w:OptionSet>{}</w:OptionSet>", all.concat()))
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:n=\"{ENUMERATION}\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
             xmlns:b=\"http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd\"><s:Header>\
             <a:To>http://host:5985/wsman</a:To><w:ResourceURI s:mustUnderstand=\"true\">{}</w:ResourceURI>\
             <a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
             <a:Action>{}</a:Action><a:MessageID>uuid:1</a:MessageID>{}</s:Header><s:Body>{}</s:Body></s:Envelope>",
            self.resource, self.action, self.headers, self.body
        )
    }

    /// The answer.
    pub(crate) async fn send(&self, server: &TestServer) -> String {
        let encoding = wsnapd::wsman::Encoding::Utf8;
        let outbound = server.service.handle(&server.principal, &self.text(), encoding).await;
        assert_eq!(outbound.is_fault, outbound.body.contains("<s:Fault>"), "{}", outbound.body);
        outbound.body
    }
}

/// Sends each request and compares subcode, detail and code of its fault.
pub(crate) async fn check_faults(server: &TestServer, cases: &[(&str, Exchange, &str)]) -> Vec<String> {
    let mut bodies = Vec::new();
    for (name, request, expected) in cases {
        let body = request.send(server).await;
        assert_eq!(fault_of(&body), *expected, "{name}: {body}");
        bodies.push(body);
    }
    bodies
}
