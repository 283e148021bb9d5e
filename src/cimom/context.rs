//! What a provider may know about the request it serves.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::access::Principal;
use crate::time::Timestamp;

/// The circumstances of one operation.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Who asks.
    pub principal: Principal,
    /// The namespace of the request as the schema spells it (`root/virtualization/v2`). References in
    /// the answer name instances of this namespace.
    pub namespace: SmolStr,
    /// When the request arrived.
    pub now: Timestamp,
    /// Hints of the client (`wmi:` and `wmiarray:` options), in order, without the prefix.
    pub options: Arc<[(SmolStr, SmolStr)]>,
}
