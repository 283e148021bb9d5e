//! Namespace URIs of the protocol, resolved once so that a name compares as a number.

macro_rules! namespaces {
    ($($(#[$doc:meta])* $variant:ident = $uri:literal),+ $(,)?) => {
        /// A resolved namespace.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Ns<'a> {
            /// No namespace.
            None,
            $($(#[$doc])* $variant,)+
            /// Any other URI, as it was written.
            Other(&'a str),
        }

        impl<'a> Ns<'a> {
            /// Resolves a URI.
            #[must_use]
            pub fn from_uri(uri: &'a str) -> Self {
                match uri {
                    "" => Self::None,
                    $($uri => Self::$variant,)+
                    other => Self::Other(other),
                }
            }

            /// The URI; empty for no namespace.
            #[must_use]
            pub const fn uri(self) -> &'a str {
                match self {
                    Self::None => "",
                    $(Self::$variant => $uri,)+
                    Self::Other(uri) => uri,
                }
            }
        }
    };
}

namespaces! {
    /// SOAP 1.2 envelope
    Soap = "http://www.w3.org/2003/05/soap-envelope",
    /// SOAP 1.1 envelope, which is refused
    Soap11 = "http://schemas.xmlsoap.org/soap/envelope/",
    /// WS-Addressing, August 2004
    Addressing = "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    /// WS-Transfer
    Transfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    /// WS-Enumeration
    Enumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    /// WS-Eventing
    Eventing = "http://schemas.xmlsoap.org/ws/2004/08/eventing",
    /// WS-Management
    Wsman = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    /// WS-Management Identify
    Identity = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd",
    /// WS-Management Identify as [MS-WSMV] prints it
    IdentityMsWsmv = "http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd",
    /// CIM binding
    CimBinding = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd",
    /// Microsoft's WS-Management headers
    MsWsman = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    /// Microsoft's fault detail
    MsFault = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    /// WS-CIM common types
    Cim = "http://schemas.dmtf.org/wbem/wscim/1/common",
    /// `xsi:nil`, `xsi:type`
    Xsi = "http://www.w3.org/2001/XMLSchema-instance",
    /// XML Schema; omicli binds the prefix `xsi` to it
    XmlSchema = "http://www.w3.org/2001/XMLSchema",
    /// `xml:lang`
    Xml = "http://www.w3.org/XML/1998/namespace",
}

/// A resolved name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name<'a> {
    /// The namespace.
    pub ns: Ns<'a>,
    /// The part after the prefix.
    pub local: &'a str,
}

impl Name<'_> {
    /// Whether it is this name.
    #[must_use]
    pub fn is(&self, ns: Ns<'_>, local: &str) -> bool {
        self.local == local && self.ns == ns
    }
}
