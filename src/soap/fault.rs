//! Faults: the master table of subcodes (`ws-management.md` §13) and their envelope.

use crate::xml::Writer;

use super::ANONYMOUS;
use super::codes::code;

/// Who is to blame (SOAP 1.2 §5.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCode {
    /// The message.
    Sender,
    /// The service.
    Receiver,
    /// A header marked mustUnderstand.
    MustUnderstand,
    /// The version of SOAP.
    VersionMismatch,
}

macro_rules! subcodes {
    ($($variant:ident = $qname:literal, $code:ident, $number:ident, $reason:literal;)+) => {
        /// The subcode of a fault: a row of the master table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Subcode {
            $(#[doc = concat!("`", $qname, "`")] $variant,)+
        }

        impl Subcode {
            /// The qualified name with the prefix Windows uses.
            #[must_use]
            pub const fn qname(self) -> &'static str {
                match self { $(Self::$variant => $qname,)+ }
            }

            /// Who is to blame.
            #[must_use]
            pub const fn fault_code(self) -> FaultCode {
                match self { $(Self::$variant => FaultCode::$code,)+ }
            }

            /// The `f:WSManFault` code when the place that raises it knows no closer one.
            #[must_use]
            pub const fn default_code(self) -> u32 {
                match self { $(Self::$variant => code::$number,)+ }
            }

            /// The reason when the place that raises it has no closer one.
            #[must_use]
            pub const fn default_reason(self) -> &'static str {
                match self { $(Self::$variant => $reason,)+ }
            }
        }
    };
}

subcodes! {
    ActionNotSupported = "a:ActionNotSupported", Sender, ACTION_NOT_SUPPORTED,
        "The action is not supported by the service.";
    DestinationUnreachable = "a:DestinationUnreachable", Sender, RESOURCE_NOT_FOUND,
        "No resource was found for the given resource URI and selectors.";
    EndpointUnavailable = "a:EndpointUnavailable", Receiver, ENDPOINT_UNAVAILABLE,
        "The endpoint is currently unavailable.";
    InvalidMessageInformationHeader = "a:InvalidMessageInformationHeader", Sender, INVALID_MESSAGE_INFORMATION_HEADER,
        "A message information header is not valid.";
    MessageInformationHeaderRequired = "a:MessageInformationHeaderRequired", Sender,
        MESSAGE_INFORMATION_HEADER_REQUIRED, "A required header is missing.";
    InvalidRepresentation = "x:InvalidRepresentation", Sender, INVALID_REPRESENTATION,
        "The XML content is not valid for the resource.";
    CannotProcessFilter = "n:CannotProcessFilter", Sender, ENUMERATE_CANNOT_PROCESS_FILTER,
        "The filter could not be processed.";
    FilterDialectRequestedUnavailable = "n:FilterDialectRequestedUnavailable", Sender,
        ENUMERATE_FILTER_DIALECT_REQUESTED_UNAVAILABLE, "The filter dialect is not supported.";
    FilteringNotSupported = "n:FilteringNotSupported", Sender, ENUMERATE_FILTERING_NOT_SUPPORTED,
        "Filtered enumeration is not supported.";
    InvalidEnumerationContext = "n:InvalidEnumerationContext", Receiver, ENUMERATE_INVALID_ENUMERATION_CONTEXT,
        "The enumeration context is not valid.";
    InvalidExpirationTime = "n:InvalidExpirationTime", Sender, ENUMERATE_INVALID_EXPIRATION_TIME,
        "The expiration time is not valid.";
    UnsupportedExpirationType = "n:UnsupportedExpirationType", Sender, ENUMERATE_UNSUPPORTED_EXPIRATION_TYPE,
        "The expiration type is not supported.";
    DeliveryModeRequestedUnavailable = "e:DeliveryModeRequestedUnavailable", Sender,
        EVENTING_DELIVERY_MODE_REQUESTED_UNAVAILABLE, "The delivery mode is not supported.";
    EventSourceUnableToProcess = "e:EventSourceUnableToProcess", Receiver, EVENTING_SOURCE_UNABLE_TO_PROCESS,
        "The event source cannot process the subscription.";
    FilteringRequestedUnavailable = "e:FilteringRequestedUnavailable", Sender,
        EVENTING_FILTERING_REQUESTED_UNAVAILABLE, "The requested filtering is not available.";
    EventingInvalidExpirationTime = "e:InvalidExpirationTime", Sender, EVENTING_INVALID_EXPIRATION_TIME,
        "The expiration time is not valid.";
    EventingUnsupportedExpirationType = "e:UnsupportedExpirationType", Sender, EVENTING_UNSUPPORTED_EXPIRATION_TYPE,
        "The expiration type is not supported.";
    EventingInvalidMessage = "e:InvalidMessage", Sender, EVENTING_INVALID_MESSAGE,
        "The request has unknown or invalid content.";
    UnableToRenew = "e:UnableToRenew", Receiver, EVENTING_UNABLE_TO_RENEW,
        "The subscription could not be renewed.";
    AccessDenied = "w:AccessDenied", Sender, ACCESS_DENIED,
        "The sender is not authorized to access the resource.";
    AlreadyExists = "w:AlreadyExists", Sender, ALREADY_EXISTS,
        "The resource already exists.";
    FragmentCannotProcessFilter = "w:CannotProcessFilter", Sender, CANNOT_PROCESS_FILTER,
        "The fragment expression could not be processed.";
    Concurrency = "w:Concurrency", Sender, CONCURRENCY,
        "The operation conflicts with another one.";
    EncodingLimit = "w:EncodingLimit", Sender, ENCODING_LIMIT,
        "An internal encoding limit was exceeded.";
    FragmentDialectNotSupported = "w:FragmentDialectNotSupported", Receiver, FRAGMENT_DIALECT_REQUESTED_UNAVAILABLE,
        "The fragment dialect is not supported.";
    InternalError = "w:InternalError", Receiver, INTERNAL_ERROR,
        "The service cannot comply with the request due to an internal error.";
    EventDeliverToUnusable = "w:EventDeliverToUnusable", Sender, EVENTING_DELIVER_TO_UNUSABLE,
        "Events cannot be delivered to the address.";
    InvalidBookmark = "w:InvalidBookmark", Sender, INVALID_BOOKMARK,
        "The bookmark is not valid.";
    InvalidOptions = "w:InvalidOptions", Sender, INVALID_OPTIONS,
        "An option is not valid.";
    InvalidParameter = "w:InvalidParameter", Sender, INVALID_PARAMETER,
        "An operation parameter is not valid.";
    InvalidSelectors = "w:InvalidSelectors", Sender, INVALID_SELECTORS,
        "The selectors are not valid.";
    QuotaLimit = "w:QuotaLimit", Sender, QUOTA_LIMIT,
        "The service is busy or a quota is exceeded.";
    SchemaValidationError = "w:SchemaValidationError", Sender, SCHEMA_VALIDATION_ERROR,
        "The SOAP message violates its XML schema.";
    TimedOut = "w:TimedOut", Receiver, OPERATION_TIMEDOUT,
        "The operation timed out.";
    UnsupportedFeature = "w:UnsupportedFeature", Sender, UNSUPPORTED_FEATURE,
        "The feature is not supported.";
    PolymorphismModeNotSupported = "b:PolymorphismModeNotSupported", Receiver, POLYMORPHISM_MODE_UNSUPPORTED,
        "The polymorphism mode is not supported.";
}

impl Subcode {
    /// The `a:Action` of the fault message (`ws-management.md` §1.2).
    #[must_use]
    pub fn action(self) -> &'static str {
        match self.qname().split(':').next() {
            Some("a") => ADDRESSING_FAULT,
            Some("x") => "http://schemas.xmlsoap.org/ws/2004/09/transfer/fault",
            Some("n") => "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
            Some("e") => "http://schemas.xmlsoap.org/ws/2004/08/eventing/fault",
            Some("b") => "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/fault",
            _ => "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
        }
    }
}

const ADDRESSING_FAULT: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault";

/// Names of `w:FaultDetail` URIs; the part after `…/wsman/1/wsman/faultDetail/`.
#[expect(missing_docs, reason = "each name is the whole meaning: it is the last part of the URI")]
pub mod detail {
    pub const ACTION_MISMATCH: &str = "ActionMismatch";
    pub const ADDRESSING_MODE: &str = "AddressingMode";
    pub const AMBIGUOUS_SELECTORS: &str = "AmbiguousSelectors";
    pub const AUTHORIZATION_MODE: &str = "AuthorizationMode";
    pub const CHARACTER_SET: &str = "CharacterSet";
    pub const DATA_LOCALE: &str = "DataLocale";
    pub const DUPLICATE_SELECTORS: &str = "DuplicateSelectors";
    pub const ENCODING_TYPE: &str = "EncodingType";
    pub const ENUMERATION_MODE: &str = "EnumerationMode";
    pub const EXPIRED: &str = "Expired";
    pub const FRAGMENT_LEVEL_ACCESS: &str = "FragmentLevelAccess";
    pub const INSUFFICIENT_SELECTORS: &str = "InsufficientSelectors";
    pub const INVALID: &str = "Invalid";
    pub const INVALID_FORMAT: &str = "InvalidFormat";
    pub const INVALID_FRAGMENT: &str = "InvalidFragment";
    pub const INVALID_NAME: &str = "InvalidName";
    pub const INVALID_NAMESPACE: &str = "InvalidNamespace";
    pub const INVALID_RESOURCE_URI: &str = "InvalidResourceURI";
    pub const INVALID_TIMEOUT: &str = "InvalidTimeout";
    pub const INVALID_VALUE: &str = "InvalidValue";
    pub const INVALID_VALUES: &str = "InvalidValues";
    pub const LOCALE: &str = "Locale";
    pub const MAX_ENVELOPE_SIZE_EXCEEDED: &str = "MaxEnvelopeSizeExceeded";
    pub const MINIMUM_ENVELOPE_LIMIT: &str = "MinimumEnvelopeLimit";
    pub const MISSING_VALUES: &str = "MissingValues";
    pub const NOT_SUPPORTED: &str = "NotSupported";
    pub const OPTION_LIMIT: &str = "OptionLimit";
    pub const SELECTOR_LIMIT: &str = "SelectorLimit";
    pub const SERVICE_ENVELOPE_LIMIT: &str = "ServiceEnvelopeLimit";
    pub const TYPE_MISMATCH: &str = "TypeMismatch";
    pub const UNEXPECTED_SELECTORS: &str = "UnexpectedSelectors";
    pub const UNREPORTABLE_SUCCESS: &str = "UnreportableSuccess";
    pub const URI_LIMIT_EXCEEDED: &str = "URILimitExceeded";
}

/// The CIM error that a fault about a CIM resource carries beside its own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CimErrorDetail {
    /// The number of the CIM status (DSP0200).
    pub status: u32,
    /// `error_Code` of `MSFT_WmiError`.
    pub error_code: u32,
}

/// A SOAP fault with the details Windows clients read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// Who is to blame.
    pub code: FaultCode,
    /// The row of the master table; none for `s:MustUnderstand` and `s:VersionMismatch`.
    pub subcode: Option<Subcode>,
    /// A sentence for the user.
    pub reason: String,
    /// The last part of the `w:FaultDetail` URI.
    pub fault_detail: Option<&'static str>,
    /// `f:WSManFault/@Code`.
    pub wsman_code: u32,
    /// Headers that were not understood: namespace and local name.
    pub not_understood: Vec<(String, String)>,
    /// Dialects or delivery modes offered instead of the one that was asked for.
    pub supported_dialects: &'static [&'static str],
    /// The CIM error, when the fault is about a CIM resource.
    pub cim_error: Option<CimErrorDetail>,
}

impl Fault {
    /// A fault with the defaults of its row.
    #[must_use]
    pub fn new(subcode: Subcode) -> Self {
        Self {
            code: subcode.fault_code(),
            subcode: Some(subcode),
            reason: subcode.default_reason().to_owned(),
            fault_detail: None,
            wsman_code: subcode.default_code(),
            not_understood: Vec::new(),
            supported_dialects: &[],
            cim_error: None,
        }
    }

    /// `s:MustUnderstand` for headers that were not understood.
    #[must_use]
    pub fn must_understand(headers: Vec<(String, String)>) -> Self {
        let names: Vec<&str> = headers.iter().map(|(_, local)| local.as_str()).collect();
        Self {
            code: FaultCode::MustUnderstand,
            subcode: None,
            reason: format!("A header marked mustUnderstand was not understood: {}.", names.join(", ")),
            wsman_code: code::SOAP_FAULT_MUST_UNDERSTAND,
            not_understood: headers,
            ..Self::new(Subcode::InternalError)
        }
    }

    /// `s:VersionMismatch`.
    #[must_use]
    pub fn version_mismatch() -> Self {
        Self {
            code: FaultCode::VersionMismatch,
            subcode: None,
            reason: "The SOAP version is not supported; send SOAP 1.2.".to_owned(),
            wsman_code: code::SOAP_VERSION_MISMATCH,
            ..Self::new(Subcode::InternalError)
        }
    }

    /// With a closer reason.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// With a fault detail and the code that goes with it.
    #[must_use]
    pub const fn detail(mut self, fault_detail: &'static str, wsman_code: u32) -> Self {
        self.fault_detail = Some(fault_detail);
        self.wsman_code = wsman_code;
        self
    }

    /// With a closer `f:WSManFault` code.
    #[must_use]
    pub const fn code(mut self, wsman_code: u32) -> Self {
        self.wsman_code = wsman_code;
        self
    }

    /// The `a:Action` of the fault message.
    #[must_use]
    pub fn action(&self) -> &'static str {
        self.subcode.map_or(ADDRESSING_FAULT, Subcode::action)
    }

    /// Writes the whole envelope.
    ///
    /// A fault never exceeds 8192 octets (C131): reason and message are cut, members of the CIM error
    /// that are nil are left out.
    #[must_use]
    pub fn write(&self, message_id: &str, relates_to: Option<&str>, machine: &str, extra_headers: &str) -> String {
        let mut w = Writer::with_capacity(4096);
        w.start_with(
            "s:Envelope",
            &[
                ("xml:lang", "en-US"),
                ("xmlns:s", "http://www.w3.org/2003/05/soap-envelope"),
                ("xmlns:a", "http://schemas.xmlsoap.org/ws/2004/08/addressing"),
                ("xmlns:x", "http://schemas.xmlsoap.org/ws/2004/09/transfer"),
                ("xmlns:e", "http://schemas.xmlsoap.org/ws/2004/08/eventing"),
                ("xmlns:n", "http://schemas.xmlsoap.org/ws/2004/09/enumeration"),
                ("xmlns:w", "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"),
                ("xmlns:p", "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"),
                ("xmlns:b", "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"),
            ],
        );
        w.element("s:Header", |w| {
            w.text_element("a:Action", self.action());
            w.text_element("a:MessageID", message_id);
            w.text_element("a:To", ANONYMOUS);
            if let Some(relates_to) = relates_to {
                w.text_element("a:RelatesTo", cut(relates_to, 2048));
            }
            self.write_soap_headers(w);
            if extra_headers.len() <= 400 {
                w.raw(extra_headers);
            }
        });
        w.element("s:Body", |w| w.element("s:Fault", |w| self.write_fault(w, machine)));
        w.end("s:Envelope");
        w.finish()
    }

    fn write_soap_headers(&self, w: &mut Writer) {
        if self.code == FaultCode::VersionMismatch {
            w.element("s:Upgrade", |w| w.empty_with("s:SupportedEnvelope", &[("qname", "s:Envelope")]));
        }
        for (namespace, local) in self.not_understood.iter().take(8) {
            let qname = format!("q:{}", cut(local, 128));
            w.empty_with("s:NotUnderstood", &[("qname", &qname), ("xmlns:q", cut(namespace, 128))]);
        }
    }

    /// The element that names what is offered instead.
    fn supported_tag(&self) -> &'static str {
        match self.subcode {
            Some(Subcode::DeliveryModeRequestedUnavailable) => "e:SupportedDeliveryMode",
            Some(Subcode::FilteringRequestedUnavailable) => "e:SupportedDialect",
            _ => "n:SupportedDialect",
        }
    }

    fn write_fault(&self, w: &mut Writer, machine: &str) {
        let value = match self.code {
            FaultCode::Sender => "s:Sender",
            FaultCode::Receiver => "s:Receiver",
            FaultCode::MustUnderstand => "s:MustUnderstand",
            FaultCode::VersionMismatch => "s:VersionMismatch",
        };
        let reason = cut_escaped(&self.reason, 512);
        w.element("s:Code", |w| {
            w.text_element("s:Value", value);
            if let Some(subcode) = self.subcode {
                w.element("s:Subcode", |w| w.text_element("s:Value", subcode.qname()));
            }
        });
        w.element("s:Reason", |w| {
            w.element_with("s:Text", &[("xml:lang", "en-US")], |w| w.text(reason));
        });
        w.element("s:Detail", |w| {
            if let Some(name) = self.fault_detail {
                w.element("w:FaultDetail", |w| {
                    w.text("http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/");
                    w.text(name);
                });
            }
            for supported in self.supported_dialects {
                w.text_element(self.supported_tag(), supported);
            }
            let attributes = [
                ("xmlns:f", "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"),
                ("Code", &self.wsman_code.to_string()),
                ("Machine", machine),
            ];
            w.element_with("f:WSManFault", &attributes, |w| w.text_element("f:Message", reason));
            if let Some(error) = self.cim_error {
                write_wmi_error(w, error, reason);
                write_omi_error(w, error, reason);
            }
        });
    }
}

/// `MSFT_WmiError` (`ws-management.md` §14.3), which Windows' CIM clients turn into their error.
fn write_wmi_error(w: &mut Writer, error: CimErrorDetail, message: &str) {
    let status = error.status.to_string();
    let members = [
        ("p:CIMStatusCode", "cim:cimUnsignedInt", status.as_str()),
        ("p:ErrorSourceFormat", "cim:cimUnsignedShort", "0"),
        ("p:ErrorType", "cim:cimUnsignedShort", "0"),
        ("p:Message", "cim:cimString", message),
        ("p:MessageID", "cim:cimString", &format!("HRESULT 0x{:08x}", error.error_code)),
        ("p:PerceivedSeverity", "cim:cimUnsignedShort", "0"),
        ("p:ProbableCause", "cim:cimUnsignedShort", "0"),
        ("p:error_Category", "cim:cimUnsignedInt", &status),
        ("p:error_Code", "cim:cimUnsignedInt", &error.error_code.to_string()),
        ("p:error_Type", "cim:cimString", if error.error_code > 0xffff { "HRESULT" } else { "Win32" }),
        ("p:error_WindowsErrorMessage", "cim:cimString", message),
    ];
    write_error_instance(w, "MSFT_WmiError", &members);
}

/// `OMI_Error`, the only part of a fault omicli and libmi read; it must come last (`clients.md` part 2).
fn write_omi_error(w: &mut Writer, error: CimErrorDetail, message: &str) {
    let status = error.status.to_string();
    let members = [
        ("p:CIMStatusCode", "cim:cimUnsignedInt", status.as_str()),
        ("p:Message", "cim:cimString", message),
        ("p:MessageID", "cim:cimString", &format!("OMI:MI_Result:{status}")),
        ("p:OMI_Code", "cim:cimUnsignedInt", &status),
        ("p:OMI_Type", "cim:cimString", "MI"),
    ];
    write_error_instance(w, "OMI_Error", &members);
}

fn write_error_instance(w: &mut Writer, class: &str, members: &[(&str, &str, &str)]) {
    let attributes = [
        ("b:IsCIM_Error", "true"),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ("xmlns:p", &format!("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/{class}")),
        ("xmlns:cim", "http://schemas.dmtf.org/wbem/wscim/1/common"),
        ("xsi:type", &format!("p:{class}_Type")),
    ];
    w.element_with(&format!("p:{class}"), &attributes, |w| {
        for (tag, ty, text) in members {
            w.element_with(tag, &[("xsi:type", ty)], |w| w.text(text));
        }
    });
}

/// The start of a text that takes at most `limit` bytes once it is escaped.
fn cut_escaped(text: &str, limit: usize) -> &str {
    let mut escaped = 0;
    let end = text.char_indices().find(|&(_, c)| {
        escaped += if matches!(c, '<' | '>' | '&' | '\r') { 5 } else { c.len_utf8() };
        escaped > limit
    });
    cut(text, end.map_or(text.len(), |(index, _)| index))
}

/// The first `limit` bytes of a text, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}
