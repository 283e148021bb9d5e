//! The answer to a ticket that comes at the wrong time: a KRB-ERROR (RFC 4120 §5.9.1) in the frame of GSS-API
//! (RFC 4121 §4.1), by which a client can correct its clock.

use chrono::{SubsecRound, Timelike};

use crate::time::Timestamp;

use super::super::spnego::{self, Der, element, whole};

const INTEGER: u8 = 0x02;
const GENERAL_STRING: u8 = 0x1b;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const FRAME: u8 = 0x60;
/// `[APPLICATION 1]`, `[APPLICATION 14]`, `[APPLICATION 30]`.
const TICKET: u8 = 0x61;
const AP_REQ: u8 = 0x6e;
const KRB_ERROR: u8 = 0x7e;

const fn tag(number: u8) -> u8 {
    0xa0 | number
}

/// The error with this code, about the service that the ticket in `token` names; `None` when no service is named.
pub(in super::super) fn error_token(token: &[u8], code: u8, now: Timestamp) -> Option<Vec<u8>> {
    let name = spnego::mechanism(token)?;
    let (realm, service) = service(token)?;
    let now = now.trunc_subsecs(6);
    let number = |value: u32| element(INTEGER, &positive(value));
    let time = now.format("%Y%m%d%H%M%SZ").to_string();
    let fields = [
        element(tag(0), &number(5)),
        element(tag(1), &number(30)),
        element(tag(4), &element(GENERALIZED_TIME, time.as_bytes())),
        element(tag(5), &number(now.nanosecond() / 1000 % 1_000_000)),
        element(tag(6), &number(u32::from(code))),
        element(tag(9), &element(GENERAL_STRING, realm)),
        element(tag(10), &element(SEQUENCE, service)),
    ];
    let error = element(KRB_ERROR, &element(SEQUENCE, &fields.concat()));
    // The kind of token of an error is 3.
    Some(element(FRAME, &[element(OBJECT_IDENTIFIER, name), vec![3, 0], error].concat()))
}

/// An integer that is not negative, in as few bytes as it takes.
fn positive(value: u32) -> Vec<u8> {
    let bytes = u64::from(value).to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // One zero stays before a first byte that would make the number negative, and for zero itself.
    let keep = bytes.get(zeros).is_none_or(|first| *first >= 0x80);
    bytes.get(zeros - usize::from(keep)..).unwrap_or_default().to_vec()
}

/// Realm and name of the service that a ticket is for; both stand in it in clear.
fn service(token: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut frame = Der(whole(token, FRAME)?);
    frame.take(OBJECT_IDENTIFIER)?;
    // The kind of token of a request is 1.
    let mut request = Der(whole(whole(frame.0.strip_prefix(&[1, 0])?, AP_REQ)?, SEQUENCE)?);
    // Version, kind of message, options.
    for number in 0..3 {
        request.take(tag(number))?;
    }
    let mut ticket = Der(whole(whole(request.take(tag(3))?, TICKET)?, SEQUENCE)?);
    ticket.take(tag(0))?;
    let realm = whole(ticket.take(tag(1))?, GENERAL_STRING)?;
    let service = whole(ticket.take(tag(2))?, SEQUENCE)?;
    Some((realm, service))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::spnego::oid;
    use super::*;

    fn request() -> Vec<u8> {
        let text = |text: &str| element(GENERAL_STRING, text.as_bytes());
        let names = element(SEQUENCE, &[text("HTTP"), text("vm.example.test")].concat());
        let service = [element(tag(0), &[2, 1, 2]), element(tag(1), &names)].concat();
        let ticket = [
            element(tag(0), &[2, 1, 5]),
            element(tag(1), &text("EXAMPLE.TEST")),
            element(tag(2), &element(SEQUENCE, &service)),
            element(tag(3), b"\x30\x00"),
        ];
        let ticket = element(TICKET, &element(SEQUENCE, &ticket.concat()));
        let fields = [
            element(tag(0), &[2, 1, 5]),
            element(tag(1), &[2, 1, 14]),
            element(tag(2), &[3, 5, 0, 0x20, 0, 0, 0]),
            element(tag(3), &ticket),
            element(tag(4), b"\x30\x00"),
        ];
        let request = element(AP_REQ, &element(SEQUENCE, &fields.concat()));
        element(FRAME, &[element(OBJECT_IDENTIFIER, oid::KERBEROS[0]), vec![1, 0], request].concat())
    }

    #[test]
    fn an_error_names_time_code_and_service() {
        let error = error_token(&request(), 37, "2026-11-20T23:43:45.25Z".parse().unwrap()).unwrap();
        let mut frame = Der(whole(&error, FRAME).unwrap());
        assert_eq!(frame.take(OBJECT_IDENTIFIER), Some(oid::KERBEROS[0]));
        let mut fields =
            Der(whole(whole(frame.0.strip_prefix(&[3, 0]).unwrap(), KRB_ERROR).unwrap(), SEQUENCE).unwrap());
        assert_eq!(fields.take(tag(0)), Some(&[2, 1, 5][..]));
        assert_eq!(fields.take(tag(1)), Some(&[2, 1, 30][..]));
        assert_eq!(fields.take(tag(4)), Some(&b"\x18\x0f20261120234345Z"[..]));
        assert_eq!(fields.take(tag(5)), Some(&[2, 3, 3, 0xd0, 0x90][..]), "a quarter of a million");
        assert_eq!(fields.take(tag(6)), Some(&[2, 1, 37][..]));
        assert_eq!(fields.take(tag(9)), Some(&b"\x1b\x0cEXAMPLE.TEST"[..]));
        assert!(fields.take(tag(10)).unwrap().ends_with(b"vm.example.test"));
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (value, bytes) in [(0, &[0][..]), (5, &[5]), (127, &[127]), (128, &[0, 128]), (0x1_0000, &[1, 0, 0])] {
            assert_eq!(positive(value), bytes, "{value}");
        }
    }

    #[test]
    fn a_request_that_is_cut_has_no_service() {
        let whole = request();
        for end in 0..whole.len() {
            assert_eq!(service(&whole[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_request_is_read_or_refused(at in 0_usize..200, byte in any::<u8>()) {
            let mut token = request();
            let length = token.len();
            token[at % length] = byte;
            error_token(&token, 37, Timestamp::default());
        }
    }
}
