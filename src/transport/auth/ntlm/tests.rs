//! The worked vectors of `[MS-NLMP]` logons, and what happens when a bit of them changes.

use std::fmt::Write as _;

use super::acceptor::Session;
use super::message::flag;
use super::seal::SecurityContext;
use super::*;
use crate::transport::auth::security::{MessageSecurity, SealError};

const TYPE_1: &str = "4e544c4d5353500001000000378208e200000000280000000000000028000000000c04000000000f";
const TYPE_2: &str = "4e544c4d53535000020000000400040038000000\
    35828ae21c9e9248ae3e7c1c00000000000000003a003a003c000000000c04000000000f56004d000100040056004d0002001600\
    57004f0052004b00530054004100540049004f004e000300040076006d00070008006896d65f4a79dd0100000000";
const TYPE_3: &str = "4e544c4d53535000030000001800180058000000920092007000000012001200020100000a000a00140100\
    00040004001e010000100010002201000035828ae2000c04000000000f2b7f82cedf019de4d9d3738be9b1ff9a00000000000000\
    0000000000000000000000000000000000d36262a924af8b14fa1d476fba569c6101010000000000006896d65f4a79dd010ec545\
    5462a0db31000000000100040056004d000200160057004f0052004b00530054004100540049004f004e000300040076006d0007\
    0008006896d65f4a79dd0109001c0048005400540050002f006c006f00630061006c0068006f0073007400060004000200000000\
    0000000000000057004f0052004b00470052004f0055005000610064006d0069006e0056004d00c6c2d76139e9dac5de6477bda3\
    d18ae8";

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn password() -> NtHash {
    NtHash::of_password("Passw0rd!")
}

fn log_on(type_3: &[u8]) -> Result<Session, NtlmError> {
    let proof = Challenge::recorded(&unhex(TYPE_1), &unhex(TYPE_2)).authenticate(type_3)?;
    proof.verify(Some(&password()), BindingCheck::Ignored)
}

fn names() -> ServerNames {
    ServerNames::of("vm.example.test")
}

#[test]
fn hashes_are_those_of_the_vectors() {
    assert_eq!(*password().to_hex(), "fc525c9683e8fe067095ba2ddc971889");
    assert_eq!(NtHash::from_hex("FC525C9683E8FE067095BA2DDC971889"), Some(password()));
    for text in ["", "fc", "+c525c9683e8fe067095ba2ddc971889", "fc525c9683e8fe067095ba2ddc97188900"] {
        assert_eq!(NtHash::from_hex(text), None, "{text}");
    }
    let key = password().response_key("aDmin", &crypto::utf16("WORKGROUP"));
    assert_eq!(hex(key.as_slice()), "dd996c865a3f19af1a2913d0d0bb9b79");
    assert_eq!(format!("{:?}", password()), "NtHash(..)");
}

#[test]
fn the_recorded_logon_is_accepted_and_seals() {
    let mut security = log_on(&unhex(TYPE_3)).unwrap().security.unwrap();
    assert!(security.can_seal());
    for (clear, signature, sealed) in [
        ("<a/>", "010000008c1e8e050194ce2200000000", "1f0daeac"),
        ("<b/>", "01000000b61bb71e78b03b7401000000", "be335246"),
    ] {
        assert_eq!(security.unseal(&unhex(signature), unhex(sealed)).unwrap(), clear.as_bytes());
    }
    for (clear, signature, sealed) in [
        ("<a/>", "0100000088b474600cc5c93700000000", "2c56dbcb"),
        ("<b/>", "010000005c559a92d220ba7b01000000", "a21c43de"),
    ] {
        let mut message = clear.as_bytes().to_owned();
        assert_eq!(hex(&security.seal(&mut message).unwrap()), signature);
        assert_eq!(hex(&message), sealed);
    }
}

/// The MIC covers the whole message, the proof its own part, so no bit is free. (Exempt: the second
/// length of each field and what nothing refers to are covered by the MIC too.)
#[test]
fn no_bit_of_the_logon_may_change() {
    let right = unhex(TYPE_3);
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(log_on(&wrong).is_err(), "bit {bit}");
    }
    for end in 0..right.len() {
        assert!(log_on(&right[..end]).is_err(), "cut to {end}");
    }
    for (type_1, type_2) in [(1, 0), (0, 1)] {
        let (mut negotiate, mut challenge) = (unhex(TYPE_1), unhex(TYPE_2));
        negotiate[20] ^= type_1;
        challenge[60] ^= type_2;
        let proof = Challenge::recorded(&negotiate, &challenge).authenticate(&right).unwrap();
        assert!(matches!(proof.verify(Some(&password()), BindingCheck::Ignored), Err(NtlmError::WrongMic)));
    }
}

#[test]
fn no_bit_of_a_sealed_message_may_change() {
    let (signature, sealed) = ("010000008c1e8e050194ce2200000000", "1f0daeac");
    let right = unhex(&format!("{signature}{sealed}"));
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let (signature, message) = wrong.split_at(16);
        let mut security = log_on(&unhex(TYPE_3)).unwrap().security.unwrap();
        assert_eq!(security.unseal(signature, message.to_vec()), Err(SealError::Signature), "bit {bit}");
    }
}

#[test]
fn a_message_is_unsealed_once_and_in_its_order() {
    let (first, second) = ("010000008c1e8e050194ce2200000000", "01000000b61bb71e78b03b7401000000");
    let unseal =
        |security: &mut SecurityContext, signature: &str, data: &str| security.unseal(&unhex(signature), unhex(data));
    let mut security = log_on(&unhex(TYPE_3)).unwrap().security.unwrap();
    assert_eq!(unseal(&mut security, first, "1f0daeac"), Ok(b"<a/>".to_vec()));
    assert_eq!(unseal(&mut security, first, "1f0daeac"), Err(SealError::Signature));
    let mut security = log_on(&unhex(TYPE_3)).unwrap().security.unwrap();
    assert_eq!(unseal(&mut security, second, "be335246"), Err(SealError::Signature));
}

#[test]
fn passwords_and_accounts_that_are_wrong_are_refused() {
    let proof = || Challenge::recorded(&unhex(TYPE_1), &unhex(TYPE_2)).authenticate(&unhex(TYPE_3)).unwrap();
    assert_eq!(proof().account(), "admin");
    for hash in [None, Some(NtHash::of_password("passw0rd!")), Some(NtHash::of_nobody())] {
        assert!(matches!(proof().verify(hash.as_ref(), BindingCheck::Ignored), Err(NtlmError::WrongProof)));
    }
    // The same type 3 against a new challenge.
    let fresh = Challenge::answer(&unhex(TYPE_1), [7; 8], 0, &names()).unwrap();
    let replayed = fresh.authenticate(&unhex(TYPE_3)).unwrap();
    assert!(matches!(replayed.verify(Some(&password()), BindingCheck::Ignored), Err(NtlmError::WrongProof)));
}

/// A client of our own: what Go's sends when `flags` lack everything.
pub(super) fn answer(type_2: &[u8], user: &str, domain: &str, hash: &NtHash, pairs: &[u8], flags: u32) -> Vec<u8> {
    let temp = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &[9; 8], &[3; 8], &[0; 4], pairs, &[0; 4]].concat();
    let (user_bytes, domain) = (crypto::utf16(user), crypto::utf16(domain));
    let key = hash.response_key(user, &domain);
    let proof = crypto::hmac_md5(&key, &[&type_2[24..32], &temp]);
    let response = [proof.as_slice(), &temp].concat();
    let mut message = [message::SIGNATURE, &3_u32.to_le_bytes()].concat();
    let mut offset = 64_u32;
    for part in [&[][..], &response, &domain, &user_bytes, &[], &[]] {
        let length = u16::try_from(part.len()).unwrap();
        message.extend_from_slice(&[length.to_le_bytes(), length.to_le_bytes()].concat());
        message.extend_from_slice(&offset.to_le_bytes());
        offset += u32::from(length);
    }
    message.extend_from_slice(&flags.to_le_bytes());
    [&message[..], &response, &domain, &user_bytes].concat()
}

fn own_logon(user: &str, domain: &str, pairs: &[u8], binding: BindingCheck) -> Result<Session, NtlmError> {
    // Sixteen bytes with the one flag Go sets.
    let challenge = Challenge::answer(&unhex("4e544c4d535350000100000001000000"), [5; 8], 77, &names()).unwrap();
    let type_3 = answer(challenge.message(), user, domain, &password(), pairs, flag::UNICODE);
    challenge.authenticate(&type_3)?.verify(Some(&password()), binding)
}

#[test]
fn a_client_with_the_least_flags_logs_on_but_cannot_seal() {
    for (user, domain) in
        [("admin", ""), ("ADMIN", "."), ("Admin", "VM"), ("admin@example.test", ""), ("jörg ß", "Wörk")]
    {
        let session = own_logon(user, domain, &[0; 4], BindingCheck::Ignored).unwrap();
        assert!(!session.had_mic);
        assert!(session.security.is_none_or(|security| !security.can_seal()));
    }
}

#[test]
fn channel_bindings_are_checked_under_each_policy() {
    let ours = [0xc5; 16];
    let pair = |value: [u8; 16]| [&[10, 0, 16, 0][..], &value, &[0; 4]].concat();
    let wrong_bits = (0..128).map(|bit| {
        let mut value = ours;
        value[bit / 8] ^= 1 << (bit % 8);
        (pair(value), [true, false, false])
    });
    let cases =
        [(pair(ours), [true, true, true]), (vec![0; 4], [true, true, false]), (pair([0; 16]), [true, true, false])];
    for (pairs, expected) in cases.into_iter().chain(wrong_bits) {
        let policies = [BindingCheck::Ignored, BindingCheck::IfPresent(ours), BindingCheck::Required(ours)];
        let found = policies.map(|policy| own_logon("admin", "", &pairs, policy).is_ok());
        assert_eq!(found, expected, "{pairs:x?}");
    }
}

#[test]
fn what_is_no_ntlmv2_is_refused() {
    let challenge = || Challenge::answer(&unhex(TYPE_1), [5; 8], 77, &names()).unwrap();
    let valid = answer(challenge().message(), "admin", "", &password(), &[0; 4], flag::UNICODE);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = valid.clone();
        change(&mut message);
        challenge().authenticate(&message).err()
    };
    assert_eq!(with(&|_| ()), None);
    assert_eq!(with(&|m| m[20..22].copy_from_slice(&[24, 0])), Some(NtlmError::OldResponse));
    assert_eq!(
        with(&|m| {
            m[20] = 0;
            m[21] = 0;
            m[36] = 0;
        }),
        Some(NtlmError::Anonymous)
    );
    assert_eq!(with(&|m| m[40..44].fill(0xff)), Some(NtlmError::Malformed), "a field outside the message");
    assert_eq!(with(&|m| m[36] -= 1), Some(NtlmError::Malformed), "half a UTF-16 unit");
    assert_eq!(with(&|m| m[8] = 1), Some(NtlmError::Malformed), "another message");
    assert_eq!(with(&|m| m[80] = 2), Some(NtlmError::Malformed), "another version of the response");
    assert!(matches!(Challenge::answer(&valid, [5; 8], 77, &names()), Err(NtlmError::Malformed)), "type 3 first");
}

proptest::proptest! {
    #[test]
    fn any_message_is_read_or_refused(kind in 1_u8..4, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let message = [message::SIGNATURE, &[kind, 0, 0, 0], &body].concat();
        Challenge::answer(&message, [1; 8], 0, &names()).ok();
        let challenge = Challenge::answer(&unhex(TYPE_1), [5; 8], 77, &names()).unwrap();
        challenge.authenticate(&message).ok();
    }
}
