//! Tickets on MIT Kerberos.
//!
//! The library takes the keytab and the replay cache from the environment, which the program has set before it came
//! here. It reads the keytab at every logon, so a key that is added there is known at once.

use std::fmt;
use std::sync::Arc;

use libgssapi::context::{CtxFlags, SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::Error;
use libgssapi::error::MajorFlags;
use libgssapi::oid::{GSS_MECH_KRB5, OidSet};
use libgssapi::util::{GssIov, GssIovType};

use super::{Ticket, TicketAcceptor, TicketError, TicketFault};
use crate::transport::auth::security::{MessageSecurity, SealError};
use crate::transport::auth::spnego::{self, oid};

/// `GSS_C_CHANNEL_BOUND_FLAG`: both sides gave the same channel binding.
const CHANNEL_BOUND: u32 = 0x800;
/// The major codes that are an error; the bits below tell something besides.
const ERROR_CODES: u32 = 0xffff_0000;

/// Codes of RFC 4120 §7.5.9, as MIT Kerberos numbers them from this base.
const CODE_BASE: i64 = -1_765_328_384;
const TICKET_EXPIRED: u8 = 32;
const TICKET_NOT_YET_VALID: u8 = 33;
const CLOCK_SKEW: u8 = 37;

/// Where the two names of the mechanism differ, and what stands there (`spnego::oid::KERBEROS`).
const DIFFERS: usize = 3;

/// Why tickets cannot be accepted at all.
#[derive(Debug, thiserror::Error)]
#[error("Kerberos cannot use the keytab: {0}")]
pub struct GssapiError(String);

/// Accepts tickets with the keys of the keytab that the environment names.
pub struct KeytabAcceptor {
    credential: Cred,
    services: Arc<[String]>,
}

impl fmt::Debug for KeytabAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeytabAcceptor").field("services", &self.services).finish_non_exhaustive()
    }
}

impl KeytabAcceptor {
    /// Accepts tickets for these services (`HTTP`, …), whatever the host in their names.
    ///
    /// # Errors
    /// When the library finds no keys.
    pub fn open(services: &[String]) -> Result<Self, GssapiError> {
        let error = |error: Error| GssapiError(error.to_string());
        let mechanisms = OidSet::singleton(GSS_MECH_KRB5).map_err(error)?;
        let credential = Cred::acquire(None, None, CredUsage::Accept, Some(&mechanisms)).map_err(error)?;
        Ok(Self { credential, services: services.into() })
    }

    fn is_served(&self, target: &str) -> bool {
        let service = target.split_once('/').map_or(target, |(service, _)| service);
        self.services.iter().any(|known| known.eq_ignore_ascii_case(service))
    }
}

impl TicketAcceptor for KeytabAcceptor {
    fn accept(&self, token: &[u8], binding: Option<&[u8]>) -> Result<Ticket, TicketError> {
        let (token, renamed) = with_own_name(token);
        let mut context = ServerCtx::new(Some(self.credential.clone()));
        let answer = context.step(&token, binding).map_err(refusal)?;
        if !context.is_complete() {
            return Err(malformed("the client wants more legs than one"));
        }
        let info = context.info().map_err(refusal)?;
        let target = info.target_name.to_string();
        if !self.is_served(&target) {
            let reason = format!("the ticket is for {target}, which is not one of the services");
            return Err(TicketError { fault: TicketFault::Wrong, reason });
        }
        let principal = info.source_name.display_name().map_err(refusal)?;
        let principal = str::from_utf8(&principal).map_err(|_| malformed("the name of the client is not UTF-8"))?;
        let seals = CtxFlags::GSS_C_CONF_FLAG | CtxFlags::GSS_C_INTEG_FLAG;
        Ok(Ticket {
            principal: principal.to_owned(),
            lifetime: info.lifetime,
            bound: info.flags.bits() & CHANNEL_BOUND != 0,
            answer: answer.map(|answer| with_name_of_client(answer.to_vec(), renamed)),
            security: Box::new(Session { context, can_seal: info.flags.contains(seals), sequence: None }),
        })
    }
}

fn malformed(reason: &str) -> TicketError {
    TicketError { fault: TicketFault::Malformed, reason: reason.to_owned() }
}

fn refusal(error: Error) -> TicketError {
    // A code of MIT Kerberos is a negative number of 32 bits.
    let code = i64::from(error.minor.cast_signed()) - CODE_BASE;
    let major = error.major.bits() & ERROR_CODES;
    let fault = match u8::try_from(code) {
        Ok(code @ (TICKET_EXPIRED | TICKET_NOT_YET_VALID | CLOCK_SKEW)) => TicketFault::Untimely(code),
        _ if major == MajorFlags::GSS_S_BAD_BINDINGS.bits() => TicketFault::Unbound,
        _ if major == MajorFlags::GSS_S_DEFECTIVE_TOKEN.bits() => TicketFault::Malformed,
        _ => TicketFault::Wrong,
    };
    TicketError { fault, reason: one_line(&error.to_string()) }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A token under Microsoft's name of the mechanism, under its own name; the two are equally long.
fn with_own_name(token: &[u8]) -> (Vec<u8>, bool) {
    let [own, microsoft] = oid::KERBEROS;
    let renamed = spnego::mechanism(token) == Some(microsoft);
    (if renamed { replaced(token.to_vec(), microsoft, own) } else { token.to_vec() }, renamed)
}

fn with_name_of_client(answer: Vec<u8>, renamed: bool) -> Vec<u8> {
    let [own, microsoft] = oid::KERBEROS;
    if renamed && spnego::mechanism(&answer) == Some(own) { replaced(answer, own, microsoft) } else { answer }
}

/// The first occurrence is the one in the frame.
fn replaced(mut token: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let place = token.windows(from.len()).position(|window| window == from);
    if let (Some(place), Some(new)) = (place, to.get(DIFFERS))
        && let Some(byte) = token.get_mut(place + DIFFERS)
    {
        *byte = *new;
    }
    token
}

/// The keys of a logon. Wrap tokens are those of RFC 4121 §4.2.6.2, with the trailer rotated to the front, so that
/// the data is as long as the clear text.
struct Session {
    context: ServerCtx,
    can_seal: bool,
    /// The number of the last message of the client. The library looks at numbers only if the client asked for it.
    sequence: Option<u64>,
}

/// The first two bytes of a Wrap token.
const WRAP: [u8; 2] = [5, 4];
/// The message is sealed, and not only signed.
const SEALED: u8 = 2;

impl MessageSecurity for Session {
    fn can_seal(&self) -> bool {
        self.can_seal
    }

    fn seal(&mut self, message: &mut [u8]) -> Result<Vec<u8>, SealError> {
        let mut parts = [
            GssIov::new_alloc(GssIovType::Header),
            GssIov::new(GssIovType::Data, message),
            GssIov::new_alloc(GssIovType::Padding),
        ];
        self.context.wrap_iov(true, &mut parts).map_err(mechanism)?;
        let [header, _, padding] = &parts;
        if !header.starts_with(&WRAP) || !padding.is_empty() {
            return Err(SealError::Mechanism("the ticket has a key of an old kind; AES is needed".to_owned()));
        }
        Ok(header.to_vec())
    }

    fn unseal(&mut self, header: &[u8], data: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let (Some([first, second, flags, ..]), Some(number)) = (header.first_chunk::<8>(), header.get(8..16)) else {
            return Err(SealError::Signature);
        };
        if [*first, *second] != WRAP || flags & SEALED == 0 {
            return Err(SealError::Signature);
        }
        let number = number.try_into().map(u64::from_be_bytes).map_err(|_| SealError::Signature)?;
        if self.sequence.is_some_and(|last| last.checked_add(1) != Some(number)) {
            return Err(SealError::Signature);
        }
        let clear = self.context.unwrap(&[header, &data].concat()).map_err(mechanism)?;
        self.sequence = Some(number);
        Ok(clear.to_vec())
    }

    fn verify_mech_list(&mut self, list: &[u8], mic: &[u8]) -> bool {
        self.context.verify_mic(list, mic).is_ok()
    }

    fn sign_mech_list(&mut self, list: &[u8]) -> Result<Vec<u8>, SealError> {
        self.context.get_mic(list).map(|mic| mic.to_vec()).map_err(mechanism)
    }
}

fn mechanism(error: Error) -> SealError {
    SealError::Mechanism(one_line(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_mechanism_is_that_of_the_client() {
        let [own, microsoft] = oid::KERBEROS;
        let frame = |name: &[u8]| [&[0x60, 14, 6, 9][..], name, &[1, 0, 7]].concat();
        assert_eq!(with_own_name(&frame(own)), (frame(own), false));
        assert_eq!(with_own_name(&frame(microsoft)), (frame(own), true));
        assert_eq!(with_name_of_client(frame(own), true), frame(microsoft));
        assert_eq!(with_name_of_client(frame(own), false), frame(own));
    }
}
