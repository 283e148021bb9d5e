//! WS-CIM (rank 2): CIM values and instances as WS-Management carries them (DSP0230, DSP0227, and
//! what a Windows host does).
//!
//! Pure: nothing here knows which providers or engine exist.

mod decode;
mod encode;
mod resource_uri;

pub use decode::{ArgumentError, decode_argument, decode_instance, decode_reference, object_path};
pub use encode::{InstanceWriter, write_reference};
pub use resource_uri::{ClassSelection, ResourceUri, UriFamily, UriStyle};
