//! Who may do what, and the record of what was done (rank 0).
//!
//! An [`Account`] has a [`Role`], which says what it may do, and may have a [`Scope`], which says to what: the rest
//! of the host does not exist for it. A [`Principal`] is an account that has logged on, with where it came from.
//! The transport makes principals, the protocol layer asks for their [`Right`], and the engine decides about
//! everything else in one place, its [`Gate`](crate::engine::Gate).

mod account;
mod audit;
mod scope;

pub use account::{Account, Accounts, Principal, Right, Role, Scheme, UnknownRole};
pub use audit::{AuditEvent, AuditOutcome, AuditRecord, AuditTrail, NoAudit};
pub use scope::{Pattern, Scope, ScopeError, ScopeKind};
