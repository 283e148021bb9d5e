//! CIM-XML (DSP0201, DSP0203): the text form of embedded instances, of error texts and of references.
//!
//! Decoding takes what WMI tools, the MI serializer, openwsman and hand-written clients send and gives a
//! [`RawInstance`](super::RawInstance), whose values are still text. Encoding writes the form of a
//! Hyper-V host (`hyperv-host.md` §2.12): no declaration, properties sorted by name, numeric references only.
//!
//! ```
//! use wsnapd::cim::cimxml;
//!
//! let text = r#"<INSTANCE CLASSNAME="X"><PROPERTY NAME="Level" TYPE="uint8"><VALUE>1</VALUE></PROPERTY></INSTANCE>"#;
//! let instance = cimxml::decode_instance(text)?;
//! assert_eq!(instance.class_name, "X");
//! assert_eq!(instance.properties.len(), 1);
//! # Ok::<(), cimxml::CimXmlError>(())
//! ```

mod class;
mod decode;
mod encode;
mod error;
mod reference;

pub use class::{ClassContent, encode_class, encode_class_into, write_class_path};
pub use decode::{decode_instance, read_instance};
pub use encode::{encode_instance, encode_instance_into};
pub use error::CimXmlError;
