//! A WS-Management client (rank 6) for the command line and for calls between nodes.
//!
//! It speaks HTTP/1.1 with Basic over TLS (or in clear text where the server allows it), keeps its
//! connection, and knows Identify, Get, Enumerate with Pull, associations, Invoke and the polling of
//! jobs; [`RawClient`] sends what it is given, right or wrong. Requests are written and answers read with the codecs of `soap` and `binding`.
//!
//! ```no_run
//! # async fn list(ids: std::sync::Arc<dyn wsnapd::time::IdSource>) -> Result<(), wsnapd::client::ClientError> {
//! use wsnapd::client::{Client, ClientOptions};
//!
//! let client = Client::new(&ClientOptions::new("https://127.0.0.1:5986/wsman", "admin", "secret"), ids)?;
//! for machine in client.enumerate("root/virtualization/v2", "Msvm_ComputerSystem", None).await? {
//!     println!("{}", machine.text("ElementName").unwrap_or_default());
//! }
//! # Ok(()) }
//! ```

mod answer;
mod connection;
mod error;
mod job;
mod object;
mod operations;
mod raw;
mod request;
mod sink;

pub use connection::{ClientOptions, Trust};
pub use error::{ClientError, FaultAnswer};
pub use job::{JobProgress, job_succeeded};
pub use object::{Object, Output};
pub use operations::{Argument, Associators, Client, Identity};
pub use raw::{RawAnswer, RawClient, RawRequest};
pub use sink::HttpSink;
