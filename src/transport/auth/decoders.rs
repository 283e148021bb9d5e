//! What reads bytes of clients before anybody has logged on, for fuzzing.
//!
//! Each takes any bytes and says whether they could be read. What is read by a decoder that has a writer is written
//! and has to be read alike.

use super::certificate::CertificateNames;
use super::credssp::{TsRequest, user_of_credentials};
use super::kerberos::{Ticket, TicketAcceptor, error_token};
use super::negotiate::{self, Facts, NtlmFacts, Step};
use super::ntlm::{BindingCheck, Challenge, ServerNames};
use super::spnego::{NegTokenInit, NegTokenResp};
use crate::time::Timestamp;

/// A `TSRequest` of CredSSP, and the credentials that it hands over. `None` when it is written as something else
/// than was read, which is a mistake here.
#[must_use]
pub fn credssp(bytes: &[u8]) -> Option<bool> {
    let credentials = user_of_credentials(bytes).is_some();
    match TsRequest::parse(bytes) {
        Some(request) => (TsRequest::parse(&request.write()).as_ref() == Some(&request)).then_some(true),
        None => Some(credentials),
    }
}

/// A first or a further token of SPNEGO.
#[must_use]
pub fn spnego(bytes: &[u8]) -> bool {
    NegTokenInit::parse(bytes).is_some() | NegTokenResp::parse(bytes).is_some()
}

/// Type 1 and type 3 of NTLM: the bytes as each of them. The proof is compared too, and never right.
#[must_use]
pub fn ntlm(bytes: &[u8]) -> bool {
    const TYPE_1: &[u8] = b"NTLMSSP\0\x01\0\0\0\x31\x02\x08\xe0";
    let names = ServerNames::of("host.example.test");
    let first = Challenge::answer(bytes, [7; 8], 0, &names).is_ok();
    let proof = Challenge::answer(TYPE_1, [7; 8], 0, &names).and_then(|challenge| challenge.authenticate(bytes));
    match proof {
        Ok(proof) => !proof.account().is_empty() && proof.verify(None, BindingCheck::Ignored).is_err(),
        Err(_) => first,
    }
}

/// The first token of Kerberos, as far as it is read here to answer one that comes at the wrong time.
#[must_use]
pub fn kerberos(bytes: &[u8]) -> bool {
    error_token(bytes, 37, Timestamp::default()).is_some()
}

/// A token of Negotiate, and the same bytes as each further one, until the handshake ends; `acceptor` is asked about
/// tickets. Gives the ticket that ended it.
#[must_use]
pub fn tickets(bytes: &[u8], acceptor: &dyn TicketAcceptor) -> Option<Ticket> {
    let names = ServerNames::of("host.example.test");
    let ntlm = Some(NtlmFacts { server_challenge: [7; 8], filetime: 0, names: &names });
    let facts = Facts { ntlm, kerberos: true };
    let mut step = negotiate::begin(bytes, &facts);
    loop {
        step = match step {
            // A handshake counts its tokens, so this ends.
            Ok(Step::Continue(_, handshake)) => handshake.step(bytes, &facts),
            Ok(Step::Accept(logon)) => {
                let Ok(ticket) = acceptor.accept(logon.token(), None) else {
                    let told = error_token(logon.token(), 37, Timestamp::default());
                    let _ = told.map(|error| logon.refusal(error));
                    return None;
                };
                logon.conclude(ticket)
            }
            Ok(Step::Done(ticket)) => return Some(ticket),
            Ok(Step::Prove(_)) | Err(_) => return None,
        };
    }
}

/// The names in a certificate.
#[must_use]
pub fn certificate(bytes: &[u8]) -> bool {
    CertificateNames::read(bytes).is_some()
}
