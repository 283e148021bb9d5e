//! CIM status codes (DSP0200) and the error every CIM operation answers with.

/// A CIM status code; the number is that of DSP0200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CimStatus {
    /// Anything without a code of its own.
    Failed = 1,
    /// The caller lacks the right.
    AccessDenied = 2,
    /// No such namespace.
    InvalidNamespace = 3,
    /// A parameter is not usable.
    InvalidParameter = 4,
    /// No such class.
    InvalidClass = 5,
    /// No such instance.
    NotFound = 6,
    /// The class does not offer the operation.
    NotSupported = 7,
    /// An instance with these keys exists.
    AlreadyExists = 11,
    /// No such property.
    NoSuchProperty = 12,
    /// A value is not of the type wanted.
    TypeMismatch = 13,
    /// The query language is unknown.
    QueryLanguageNotSupported = 14,
    /// The query cannot be processed.
    InvalidQuery = 15,
    /// The class has the method but does not offer it here.
    MethodNotAvailable = 16,
    /// The class has no such method.
    MethodNotFound = 17,
    /// The enumeration context is not usable.
    InvalidEnumerationContext = 21,
    /// The time-out is not usable.
    InvalidOperationTimeout = 22,
    /// A limit of the server is reached.
    ServerLimitsExceeded = 27,
    /// The server is going down.
    ServerIsShuttingDown = 28,
}

impl CimStatus {
    /// The number of the status in DSP0200.
    #[must_use]
    pub const fn code(self) -> u32 {
        #[expect(clippy::as_conversions, reason = "reads the discriminant, which is a small positive number")]
        {
            self as u32
        }
    }
}

/// Why a CIM operation was refused or failed: a status and a sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CimError {
    status: CimStatus,
    message: String,
}

impl CimError {
    /// An error with a sentence that helps the client.
    pub fn new(status: CimStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// `CIM_ERR_NOT_FOUND`: no instance has these keys.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(CimStatus::NotFound, format!("{what} does not exist"))
    }

    /// `CIM_ERR_METHOD_NOT_FOUND`: the class has no such method.
    #[must_use]
    pub fn method_not_found(class: &str, method: &str) -> Self {
        Self::new(CimStatus::MethodNotFound, format!("class {class} has no method {method}"))
    }

    /// `CIM_ERR_FAILED` with a sentence.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(CimStatus::Failed, message)
    }

    /// `CIM_ERR_INVALID_PARAMETER` with a sentence.
    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(CimStatus::InvalidParameter, message)
    }

    /// The CIM status.
    #[must_use]
    pub const fn status(&self) -> CimStatus {
        self.status
    }

    /// The sentence for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}
