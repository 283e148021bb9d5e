//! From errors of the layers below to faults, in one place (`ws-management.md` §13.3, §14).

use crate::binding::ArgumentError;
use crate::cim::{CimError, CimStatus};
use crate::cimom::LookupError;
use crate::soap::{CimErrorDetail, Fault, ReferenceError, Subcode, code, detail};

/// The fault for a CIM error.
pub(super) fn from_cim(error: &CimError) -> Fault {
    let fault = match error.status() {
        CimStatus::Failed => Fault::new(Subcode::InternalError),
        CimStatus::AccessDenied => Fault::new(Subcode::AccessDenied),
        CimStatus::InvalidNamespace | CimStatus::InvalidClass => {
            Fault::new(Subcode::DestinationUnreachable).detail(detail::INVALID_RESOURCE_URI, code::INVALID_RESOURCE_URI)
        }
        CimStatus::InvalidParameter => {
            Fault::new(Subcode::InvalidParameter).detail(detail::INVALID_VALUE, code::INVALID_PARAMETER)
        }
        CimStatus::NotFound => Fault::new(Subcode::DestinationUnreachable),
        CimStatus::NotSupported => {
            Fault::new(Subcode::ActionNotSupported).detail(detail::ACTION_MISMATCH, code::ACTION_MISMATCH)
        }
        CimStatus::AlreadyExists => Fault::new(Subcode::AlreadyExists),
        CimStatus::NoSuchProperty => {
            Fault::new(Subcode::InvalidRepresentation).detail(detail::INVALID_FRAGMENT, code::INVALID_XML_FRAGMENT)
        }
        CimStatus::TypeMismatch => {
            Fault::new(Subcode::InvalidParameter).detail(detail::TYPE_MISMATCH, code::PARAMETER_TYPE_MISMATCH)
        }
        CimStatus::QueryLanguageNotSupported => Fault::new(Subcode::FilterDialectRequestedUnavailable),
        CimStatus::InvalidQuery => Fault::new(Subcode::CannotProcessFilter),
        CimStatus::MethodNotAvailable | CimStatus::MethodNotFound => Fault::new(Subcode::ActionNotSupported),
        CimStatus::InvalidEnumerationContext => Fault::new(Subcode::InvalidEnumerationContext),
        CimStatus::InvalidOperationTimeout => Fault::new(Subcode::InvalidMessageInformationHeader)
            .detail(detail::INVALID_TIMEOUT, code::INVALID_TIMEOUT_HEADER),
        CimStatus::ServerLimitsExceeded => Fault::new(Subcode::QuotaLimit),
        CimStatus::ServerIsShuttingDown => Fault::new(Subcode::EndpointUnavailable),
    };
    let mut fault = fault.reason(sentence(error.message()));
    let error_code = hresult(error.status()).unwrap_or(fault.wsman_code);
    fault.cim_error = Some(CimErrorDetail { status: error.status().code(), error_code });
    fault
}

/// The fault for keys that do not lead to one instance (`ws-management.md` §3.3).
pub(super) fn from_lookup(error: &LookupError) -> Fault {
    let selectors = |name, number| Fault::new(Subcode::InvalidSelectors).detail(name, number);
    let fault = match error {
        LookupError::UnexpectedKey { .. } => selectors(detail::UNEXPECTED_SELECTORS, code::UNEXPECTED_SELECTORS),
        LookupError::NoKeys(..) => selectors(detail::INSUFFICIENT_SELECTORS, code::INSUFFICIENT_SELECTORS),
        LookupError::TypeMismatch { .. } => selectors(detail::TYPE_MISMATCH, code::SELECTOR_TYPEMISMATCH),
        LookupError::Ambiguous(_) => selectors(detail::AMBIGUOUS_SELECTORS, code::AMBIGUOUS_SELECTORS),
        LookupError::NotFound(_) => {
            return from_cim(&CimError::new(CimStatus::NotFound, error.to_string()));
        }
        LookupError::Provider(error) => return from_cim(error),
    };
    fault.reason(sentence(&error.to_string()))
}

/// The fault for a selector set that cannot be read.
pub(super) fn from_selectors(error: &ReferenceError) -> Fault {
    let fault = match error {
        ReferenceError::TooManySelectors => {
            Fault::new(Subcode::EncodingLimit).detail(detail::SELECTOR_LIMIT, code::SELECTOR_LIMIT)
        }
        ReferenceError::NestedTooDeep => Fault::new(Subcode::EncodingLimit).code(code::EPR_NESTING_EXCEEDED),
        ReferenceError::SelectorWithoutName | ReferenceError::MixedSelector(_) | ReferenceError::Xml(_) => {
            Fault::new(Subcode::InvalidSelectors)
        }
    };
    fault.reason(sentence(&error.to_string()))
}

/// The fault for a method argument that is not of its type.
pub(super) fn from_argument(name: &str, error: &ArgumentError) -> Fault {
    Fault::new(Subcode::InvalidParameter)
        .detail(detail::TYPE_MISMATCH, code::PARAMETER_TYPE_MISMATCH)
        .reason(sentence(&format!("parameter {name}: {error}")))
}

/// Adds the CIM error that belongs to a fault about a CIM resource, unless it has one: the table of
/// §13.3 read backwards, what has no row there is `CIM_ERR_FAILED`.
pub(super) fn add_cim_error(mut fault: Fault) -> Fault {
    if fault.cim_error.is_none() {
        let status = status_of(&fault);
        fault.cim_error = Some(CimErrorDetail { status: status.code(), error_code: fault.wsman_code });
    }
    fault
}

fn status_of(fault: &Fault) -> CimStatus {
    match (fault.subcode, fault.fault_detail) {
        (Some(Subcode::AccessDenied), _) => CimStatus::AccessDenied,
        (Some(Subcode::DestinationUnreachable), Some(detail::INVALID_RESOURCE_URI)) => CimStatus::InvalidClass,
        (Some(Subcode::DestinationUnreachable), _) => CimStatus::NotFound,
        (Some(Subcode::InvalidParameter), Some(detail::TYPE_MISMATCH)) => CimStatus::TypeMismatch,
        (Some(Subcode::InvalidRepresentation), Some(detail::INVALID_FRAGMENT)) => CimStatus::NoSuchProperty,
        (Some(Subcode::InvalidParameter | Subcode::InvalidSelectors | Subcode::InvalidRepresentation), _) => {
            CimStatus::InvalidParameter
        }
        (Some(Subcode::ActionNotSupported), Some(detail::ACTION_MISMATCH)) => CimStatus::NotSupported,
        (Some(Subcode::ActionNotSupported), _) => CimStatus::MethodNotFound,
        (Some(Subcode::AlreadyExists), _) => CimStatus::AlreadyExists,
        (Some(Subcode::FilterDialectRequestedUnavailable), _) => CimStatus::QueryLanguageNotSupported,
        (Some(Subcode::CannotProcessFilter), _) => CimStatus::InvalidQuery,
        (Some(Subcode::InvalidEnumerationContext), _) => CimStatus::InvalidEnumerationContext,
        (Some(Subcode::InvalidMessageInformationHeader), Some(detail::INVALID_TIMEOUT)) => {
            CimStatus::InvalidOperationTimeout
        }
        (Some(Subcode::QuotaLimit), _) => CimStatus::ServerLimitsExceeded,
        (Some(Subcode::EndpointUnavailable), _) => CimStatus::ServerIsShuttingDown,
        _ => CimStatus::Failed,
    }
}

/// The WBEM result code Windows pairs with a CIM status.
const fn hresult(status: CimStatus) -> Option<u32> {
    Some(match status {
        CimStatus::Failed => 0x8004_1001,
        CimStatus::AccessDenied => 0x8004_1003,
        CimStatus::InvalidNamespace => 0x8004_100E,
        CimStatus::InvalidParameter => 0x8004_1008,
        CimStatus::InvalidClass => 0x8004_1010,
        CimStatus::NotFound => 0x8004_1002,
        CimStatus::NotSupported => 0x8004_100C,
        CimStatus::AlreadyExists => 0x8004_1019,
        CimStatus::NoSuchProperty => 0x8004_1031,
        CimStatus::TypeMismatch => 0x8004_1005,
        CimStatus::QueryLanguageNotSupported => 0x8004_1018,
        CimStatus::InvalidQuery => 0x8004_1017,
        CimStatus::MethodNotAvailable => 0x8004_1055,
        CimStatus::MethodNotFound => 0x8004_102E,
        CimStatus::ServerLimitsExceeded => 0x8004_106C,
        CimStatus::ServerIsShuttingDown => 0x8004_1033,
        CimStatus::InvalidEnumerationContext | CimStatus::InvalidOperationTimeout => return None,
    })
}

/// Makes a sentence of a message: first letter in upper case, full stop.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let mut sentence: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}
