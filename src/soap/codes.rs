//! Numbers of `f:WSManFault/@Code` (`ws-management.md` §14.4), named as Windows names them.

/// `ERROR_WSMAN_…` and the few plain Win32 codes that occur.
pub mod code {
    /// Win32 `ERROR_ACCESS_DENIED`
    pub const ACCESS_DENIED: u32 = 5;
    /// Win32 `ERROR_INTERNAL_ERROR`
    pub const INTERNAL_ERROR: u32 = 1359;
    /// Instance or resource not found.
    pub const RESOURCE_NOT_FOUND: u32 = 0x8033_8000;
    /// A second Pull on one context.
    pub const PULL_IN_PROGRESS: u32 = 0x8033_8006;
    /// Not SOAP 1.2.
    pub const SOAP_VERSION_MISMATCH: u32 = 0x8033_800D;
    /// A header is malformed or there twice.
    pub const INVALID_MESSAGE_INFORMATION_HEADER: u32 = 0x8033_800F;
    /// An unknown header is marked mustUnderstand.
    pub const SOAP_FAULT_MUST_UNDERSTAND: u32 = 0x8033_8010;
    /// A required header is missing.
    pub const MESSAGE_INFORMATION_HEADER_REQUIRED: u32 = 0x8033_8011;
    /// The action is not offered.
    pub const ACTION_NOT_SUPPORTED: u32 = 0x8033_8013;
    /// The service is going down or its back end is away.
    pub const ENDPOINT_UNAVAILABLE: u32 = 0x8033_8014;
    /// The body of Put or Create is not acceptable.
    pub const INVALID_REPRESENTATION: u32 = 0x8033_8015;
    /// `n:Expires` is zero or in the past.
    pub const ENUMERATE_INVALID_EXPIRATION_TIME: u32 = 0x8033_8016;
    /// The resource cannot be filtered.
    pub const ENUMERATE_FILTERING_NOT_SUPPORTED: u32 = 0x8033_8018;
    /// The filter dialect is unknown.
    pub const ENUMERATE_FILTER_DIALECT_REQUESTED_UNAVAILABLE: u32 = 0x8033_8019;
    /// The filter text is wrong or names an unknown class.
    pub const ENUMERATE_CANNOT_PROCESS_FILTER: u32 = 0x8033_801A;
    /// The enumeration context is unknown.
    pub const ENUMERATE_INVALID_ENUMERATION_CONTEXT: u32 = 0x8033_801B;
    /// The delivery mode is not offered.
    pub const EVENTING_DELIVERY_MODE_REQUESTED_UNAVAILABLE: u32 = 0x8033_801E;
    /// `e:Expires` is zero or in the past.
    pub const EVENTING_INVALID_EXPIRATION_TIME: u32 = 0x8033_801F;
    /// `e:Expires` is neither a duration nor a point in time.
    pub const EVENTING_UNSUPPORTED_EXPIRATION_TYPE: u32 = 0x8033_8020;
    /// The dialect of a filter on events is unknown.
    pub const EVENTING_FILTERING_REQUESTED_UNAVAILABLE: u32 = 0x8033_8022;
    /// The events that were asked for do not exist here.
    pub const EVENTING_SOURCE_UNABLE_TO_PROCESS: u32 = 0x8033_8023;
    /// Renew of a subscription that is not there.
    pub const EVENTING_UNABLE_TO_RENEW: u32 = 0x8033_8024;
    /// The body of Subscribe is malformed.
    pub const EVENTING_INVALID_MESSAGE: u32 = 0x8033_8025;
    /// The body is not understood.
    pub const INVALID_SOAP_BODY: u32 = 0x8033_8027;
    /// The deadline was hit.
    pub const OPERATION_TIMEDOUT: u32 = 0x8033_8029;
    /// A URI is longer than 2048 characters.
    pub const URI_LIMIT: u32 = 0x8033_802D;
    /// The action is known but not for this resource.
    pub const ACTION_MISMATCH: u32 = 0x8033_8031;
    /// Conflicting operations.
    pub const CONCURRENCY: u32 = 0x8033_8032;
    /// The instance exists.
    pub const ALREADY_EXISTS: u32 = 0x8033_8033;
    /// A limit of size or encoding.
    pub const ENCODING_LIMIT: u32 = 0x8033_8035;
    /// A bookmark nobody here wrote.
    pub const INVALID_BOOKMARK: u32 = 0x8033_8038;
    /// An option is not valid.
    pub const INVALID_OPTIONS: u32 = 0x8033_8039;
    /// A parameter is not valid.
    pub const INVALID_PARAMETER: u32 = 0x8033_803A;
    /// The resource URI is missing or unknown.
    pub const INVALID_RESOURCE_URI: u32 = 0x8033_803B;
    /// The selectors are not valid.
    pub const INVALID_SELECTORS: u32 = 0x8033_803D;
    /// A quota is exceeded.
    pub const QUOTA_LIMIT: u32 = 0x8033_803F;
    /// The message does not follow its schema.
    pub const SCHEMA_VALIDATION_ERROR: u32 = 0x8033_8041;
    /// The feature is not offered.
    pub const UNSUPPORTED_FEATURE: u32 = 0x8033_8042;
    /// The text is not XML.
    pub const INVALID_XML: u32 = 0x8033_8043;
    /// The response exceeds the MaxEnvelopeSize header.
    pub const MAX_ENVELOPE_SIZE_EXCEEDED: u32 = 0x8033_8048;
    /// The response exceeds our own limit.
    pub const SERVER_ENVELOPE_LIMIT: u32 = 0x8033_8049;
    /// Too many selectors.
    pub const SELECTOR_LIMIT: u32 = 0x8033_804A;
    /// Too many options.
    pub const OPTION_LIMIT: u32 = 0x8033_804B;
    /// The character set is not read.
    pub const CHARACTER_SET: u32 = 0x8033_804C;
    /// Done, but the answer is too large.
    pub const UNREPORTABLE_SUCCESS: u32 = 0x8033_804D;
    /// A bookmark whose events are gone.
    pub const BOOKMARK_EXPIRED: u32 = 0x8033_8050;
    /// An option is not supported.
    pub const OPTIONS_NOT_SUPPORTED: u32 = 0x8033_8051;
    /// An option has no name.
    pub const OPTIONS_INVALID_NAME: u32 = 0x8033_8052;
    /// An option has a value that is not usable.
    pub const OPTIONS_INVALID_VALUE: u32 = 0x8033_8053;
    /// A parameter is of another type.
    pub const PARAMETER_TYPE_MISMATCH: u32 = 0x8033_8054;
    /// A parameter does not exist.
    pub const INVALID_PARAMETER_NAME: u32 = 0x8033_8055;
    /// A representation has a value that cannot be taken.
    pub const INVALID_VALUES: u32 = 0x8033_8056;
    /// A representation lacks a value.
    pub const MISSING_VALUES: u32 = 0x8033_8057;
    /// A representation is in the namespace of something else.
    pub const INVALID_NAMESPACE: u32 = 0x8033_8058;
    /// A property does not exist.
    pub const INVALID_XML_FRAGMENT: u32 = 0x8033_8059;
    /// No key selector.
    pub const INSUFFICIENT_SELECTORS: u32 = 0x8033_805A;
    /// A selector that is no key.
    pub const UNEXPECTED_SELECTORS: u32 = 0x8033_805B;
    /// A selector value of another type.
    pub const SELECTOR_TYPEMISMATCH: u32 = 0x8033_805C;
    /// A selector value that is not usable.
    pub const INVALID_SELECTOR_VALUE: u32 = 0x8033_805D;
    /// The selectors name several instances.
    pub const AMBIGUOUS_SELECTORS: u32 = 0x8033_805E;
    /// A selector is there twice.
    pub const DUPLICATE_SELECTORS: u32 = 0x8033_805F;
    /// The authorization that events are to be sent with is not offered.
    pub const AUTHORIZATION_MODE_NOT_SUPPORTED: u32 = 0x8033_8064;
    /// ReplyTo or FaultTo is not the anonymous role.
    pub const UNSUPPORTED_ADDRESSING_MODE: u32 = 0x8033_8076;
    /// Fragments are not offered here.
    pub const FRAGMENT_TRANSFER_NOT_SUPPORTED: u32 = 0x8033_8077;
    /// MaxEnvelopeSize is below 8192.
    pub const MIN_ENVELOPE_SIZE: u32 = 0x8033_807E;
    /// Endpoint references nested too deep.
    pub const EPR_NESTING_EXCEEDED: u32 = 0x8033_807F;
    /// The OperationTimeout header is not usable.
    pub const INVALID_TIMEOUT_HEADER: u32 = 0x8033_8081;
    /// The enumeration mode is unknown.
    pub const ENUMERATION_MODE_UNSUPPORTED: u32 = 0x8033_8086;
    /// Locale is marked mustUnderstand.
    pub const MUSTUNDERSTAND_ON_LOCALE_UNSUPPORTED: u32 = 0x8033_8087;
    /// The fragment dialect is unknown.
    pub const FRAGMENT_DIALECT_REQUESTED_UNAVAILABLE: u32 = 0x8033_8090;
    /// The address of EndTo cannot be used.
    pub const EVENTING_INVALID_ENDTO_ADDRESS: u32 = 0x8033_8096;
    /// A push mode without `NotifyTo`.
    pub const EVENTING_MISSING_NOTIFYTO: u32 = 0x8033_80A0;
    /// `NotifyTo` without an address.
    pub const EVENTING_MISSING_NOTIFYTO_ADDRESS: u32 = 0x8033_80A1;
    /// `NotifyTo` whose address is no URL of HTTP.
    pub const EVENTING_INVALID_NOTIFYTO_ADDRESS: u32 = 0x8033_80A2;
    /// The interval of the heartbeats is zero or no duration.
    pub const EVENTING_INVALID_HEARTBEAT: u32 = 0x8033_80A4;
    /// Get without keys on a class that is no singleton.
    pub const INVALID_URI_WMI_SINGLETON: u32 = 0x8033_80FA;
    /// A class URI with a query for another class.
    pub const INVALID_URI_WMI_ENUM_WQL: u32 = 0x8033_80FB;
    /// Selectors on Enumerate.
    pub const ENUMERATE_WMI_INVALID_KEY: u32 = 0x8033_8108;
    /// The fragment path is blank.
    pub const INVALID_FRAGMENT_PATH_BLANK: u32 = 0x8033_8109;
    /// A content coding that is not read.
    pub const ENCODING_TYPE: u32 = 0x8033_8119;
    /// `n:Expires` is neither a duration nor a point in time.
    pub const ENUMERATE_UNSUPPORTED_EXPIRATION_TYPE: u32 = 0x8033_811C;
    /// The fragment expression is not acceptable.
    pub const CANNOT_PROCESS_FILTER: u32 = 0x8033_8122;
    /// The polymorphism mode is not offered here.
    pub const POLYMORPHISM_MODE_UNSUPPORTED: u32 = 0x8033_8137;
    /// `__cimnamespace` contradicts the resource URI.
    pub const DIFFERENT_CIM_SELECTOR: u32 = 0x8033_813B;
    /// Events cannot be delivered to the address.
    pub const EVENTING_DELIVER_TO_UNUSABLE: u32 = 0x8033_815D;
    /// Only one of the two values of `ConnectionRetry` is zero.
    pub const INVALID_CONNECTIONRETRY: u32 = 0x8033_815F;
    /// A setting that cannot be changed over the wire.
    pub const CONFIG_READONLY_PROPERTY: u32 = 0x8033_813F;
    /// Too many operations of one user.
    pub const QUOTA_MAX_OPERATIONS: u32 = 0x8033_81A6;
    /// A context of another user.
    pub const DIFFERENT_AUTHZ_TOKEN: u32 = 0x8033_81A9;
    /// A setting that has no effect any more.
    pub const DEPRECATED_CONFIG_SETTING: u32 = 0x8033_81AE;
    /// A class request without ClassName.
    pub const MISSING_CLASSNAME: u32 = 0x8033_81F6;
}
