//! XML (rank 0): one namespace-resolving pull reader and one append-only writer.
//!
//! No tree, no IO, no entity expansion. Names compare by namespace and local name, never by prefix.
//! A limit that is exceeded is an error, not a truncation.
//!
//! ```
//! use wsnapd::xml::{Event, Ns, Reader};
//!
//! let mut reader = Reader::new("<a:To xmlns:a='http://schemas.xmlsoap.org/ws/2004/08/addressing'> x </a:To>");
//! let Event::Start(to) = reader.next()? else { panic!() };
//! assert!(to.is(Ns::Addressing, "To"));
//! assert_eq!(reader.text_content()?, " x ");
//! # Ok::<(), wsnapd::xml::XmlError>(())
//! ```

mod error;
mod escape;
mod fragment;
mod names;
mod reader;
mod writer;

pub use error::{XmlError, XmlErrorKind};
pub use escape::{escape_attribute_into, escape_numeric_into, escape_text_into};
pub use fragment::Fragment;
pub use names::{Name, Ns};
pub use reader::{Element, Event, Reader, ReaderOptions};
pub use writer::Writer;
