//! The conformance suite (rank 7): puts any WS-Management server to the rows of a checklist.
//!
//! It speaks only the protocol. A [`Profile`] names the classes to work with; each row sends what its rule is
//! about, right or wrong, and judges the answer. [`run`] gives a [`Report`] with what was sent, what was expected
//! and what came, and [`write_report`] shows it.

mod answer;
mod case;
mod checks;
mod message;
mod node;
mod ntlm;
mod profile;
mod report;
mod row;
mod run;
mod sink;
mod subject;

pub use case::Exchange;
pub use profile::{
    Account, Change, Char16, Classes, Creation, Embedded, Events, Method, Patience, Probe, Profile, ProfileError, Slow,
};
pub use report::{Format, write_report};
pub use row::{Finding, Row, Verdict};
pub use run::{Report, rows, run};
