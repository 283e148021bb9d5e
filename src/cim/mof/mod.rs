//! The MOF compiler (DSP0004): sources to an immutable [`Schema`](crate::cim::Schema), in one pure call.
//!
//! Mistakes do not stop it: each becomes a [`Diagnostic`] with file, line, caret and what was
//! expected, and the compiler goes on behind the declaration. Nesting, includes and inheritance are
//! bounded, so no source makes it panic or run away.
//!
//! Three things are taken as WMI takes them, because the published classes need it: a class that is no
//! association may have references (also arrays of them), a property that has the name of an
//! inherited one overrides it with or without `Override`, and the parameters of an overriding method
//! inherit no qualifiers.
//!
//! ```
//! let mof = r#"
//!     #pragma namespace ("root/demo")
//!     Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);
//!     class Demo_Thing { [Key] string Name; uint16 Size = 0x10; };
//! "#;
//! let schema = wsnapd::cim::mof::compile(&[("demo.mof", mof)]).unwrap();
//! let class = schema.namespace("root/demo").unwrap().class("demo_thing").unwrap();
//! assert_eq!(class.keys().count(), 1);
//! ```

mod ast;
mod compile;
mod diagnostic;
mod instances;
mod intern;
mod lexer;
mod parser;
mod qualifiers;
mod resolve;
mod sources;
mod typed;

pub use compile::{Compilation, Compiled, check, compile, includes};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use instances::{DeclaredInstance, parse_instance};
pub use sources::SourceSet;
