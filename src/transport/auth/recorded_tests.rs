//! Logons as clients made them, against the challenges of the servers they were recorded with.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::negotiate::{self, Accepted, Facts, Logon, NtlmFacts, Refusal, Step};
use super::ntlm::{BindingCheck, Challenge, NtHash, NtlmError, ServerNames};
use super::spnego::{NegTokenInit, NegTokenResp};
use crate::transport::charset;
use crate::transport::sealing::{self, Label};

fn recorded(client: &str) -> HashMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ntlm").join(format!("{client}.txt"));
    let text = fs::read_to_string(path).unwrap();
    let entries = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap());
    entries.map(|(name, value)| (name.to_owned(), STANDARD.decode(value).unwrap())).collect()
}

/// The logon of a recording, as if its challenge had been ours.
fn logon(entries: &HashMap<String, Vec<u8>>) -> Result<Logon, Refusal> {
    let (negotiate, challenge) = (&entries["negotiate"], &entries["challenge"]);
    let raw = |token: &[u8]| NegTokenInit::parse(token).map_or(token.to_vec(), |init| init.token.unwrap().to_vec());
    let raw_challenge = NegTokenResp::parse(challenge).map_or(challenge.clone(), |it| it.token.unwrap().to_vec());
    let list = NegTokenInit::parse(negotiate).map(|init| init.list.to_vec());
    let handshake = negotiate::resumed(list, Challenge::recorded(&raw(negotiate), &raw_challenge));
    let names = ServerNames::of("vm");
    let ntlm = Some(NtlmFacts { server_challenge: [0; 8], filetime: 0, names: &names });
    match handshake.step(&entries["authenticate"], &Facts { ntlm, kerberos: false })? {
        Step::Prove(logon) => Ok(logon),
        _ => panic!("the logon goes on"),
    }
}

fn conclude(entries: &HashMap<String, Vec<u8>>, password: &str) -> Result<Accepted, Refusal> {
    bound(entries, password, BindingCheck::Ignored)
}

fn bound(entries: &HashMap<String, Vec<u8>>, password: &str, check: BindingCheck) -> Result<Accepted, Refusal> {
    let logon = logon(entries)?;
    assert_eq!(logon.account().to_lowercase(), "admin");
    logon.conclude(Some(&NtHash::of_password(password)), check)
}

const SEALING: [&str; 4] = ["pypsrp-ntlm", "pypsrp-negotiate", "pywinrm-ntlm", "ruby-winrm"];
const OTHERS: [&str; 4] = ["pypsrp-https", "rust-winrm-rs", "go-winrm", "node-winrm-client"];

#[test]
fn the_logons_of_clients_are_accepted_and_their_messages_unsealed() {
    for client in SEALING.into_iter().chain(OTHERS) {
        let entries = recorded(client);
        let mut accepted = conclude(&entries, "Passw0rd!").unwrap_or_else(|error| panic!("{client}: {error}"));
        let wrong = conclude(&entries, "passw0rd!").err();
        assert_eq!(wrong, Some(Refusal::Ntlm(NtlmError::WrongProof)), "{client}");
        if SEALING.contains(&client) {
            let context = accepted.security.as_mut().unwrap();
            let message = sealing::parse(&entries["sealed"], Label::Spnego, 100_000).unwrap();
            let clear = context.unseal(message.pieces[0].header, message.pieces[0].data.to_vec()).unwrap();
            assert_eq!(clear, entries["clear"], "{client}");
        }
    }
}

#[test]
fn clients_without_sealing_are_known() {
    for client in ["go-winrm", "node-winrm-client"] {
        let accepted = conclude(&recorded(client), "Passw0rd!").unwrap();
        assert!(accepted.security.is_none_or(|context| !context.can_seal()), "{client}");
    }
}

/// The certificate of the recording server is gone, but its digest stands in the proof of the client that knew it.
#[test]
fn the_channel_binding_of_a_client_is_compared_bit_by_bit() {
    let entries = recorded("pypsrp-https");
    let token = &entries["authenticate"];
    // Attribute 10, of 16 bytes.
    let at = token.windows(4).position(|window| window == [10, 0, 16, 0]).unwrap() + 4;
    let sent: [u8; 16] = token[at..at + 16].try_into().unwrap();
    for check in [BindingCheck::IfPresent(sent), BindingCheck::Required(sent)] {
        assert!(bound(&entries, "Passw0rd!", check).is_ok());
    }
    let wrong = Some(Refusal::Ntlm(NtlmError::WrongBinding));
    for bit in 0..128 {
        let mut ours = sent;
        ours[bit / 8] ^= 1 << (bit % 8);
        for check in [BindingCheck::IfPresent(ours), BindingCheck::Required(ours)] {
            assert_eq!(bound(&entries, "Passw0rd!", check).err(), wrong, "bit {bit}");
        }
    }
    let without = recorded("pypsrp-unbound");
    assert!(bound(&without, "Passw0rd!", BindingCheck::IfPresent(sent)).is_ok());
    assert_eq!(bound(&without, "Passw0rd!", BindingCheck::Required(sent)).err(), wrong);
}

#[test]
fn a_recorded_wrong_password_is_refused() {
    let entries = recorded("pypsrp-wrong-password");
    assert_eq!(conclude(&entries, "Passw0rd!").err(), Some(Refusal::Ntlm(NtlmError::WrongProof)));
}

/// omicli sends no domain and no LM response, its sealed messages have no TABs, and zeros behind the envelope.
#[test]
fn the_logon_of_omicli_is_accepted_and_its_message_unsealed() {
    let entries = recorded("omicli");
    let logon = logon(&entries).unwrap();
    assert_eq!(logon.account(), "omitest");
    let hash = NtHash::of_password("Passw0rd!omi");
    let mut accepted = logon.conclude(Some(&hash), BindingCheck::Ignored).unwrap();
    let message = sealing::parse(&entries["sealed"], Label::Spnego, 100_000).unwrap();
    let context = accepted.security.as_mut().unwrap();
    let piece = &message.pieces[0];
    let mut clear = context.unseal(piece.header, piece.data.to_vec()).unwrap();
    assert_eq!((clear.len(), clear.last()), (1312, Some(&0)));
    charset::drop_filler(&mut clear);
    let clear = String::from_utf8(clear).unwrap();
    assert!(clear.starts_with("<s:Envelope ") && clear.ends_with("</s:Envelope>"), "{clear:?}");
    assert!(clear.contains("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_President"), "{clear}");
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const INIT: &str = "604806062b0601050502a03e303ca00e300c060a2b06010401823702020aa22a04284e544c4d5353500001000000378208e2\
    00000000280000000000000028000000000c04000000000f";
const CHALLENGE: &str = "a1819030818da0030a0103a10c060a2b06010401823702020aa27804764e544c4d5353500002000000040004003800\
    000035828ae27bdf3ef924e7aa3100000000000000003a003a003c000000000c04000000000f56004d000100040056004d00020016005700\
    4f0052004b00530054004100540049004f004e000300040076006d00070008009a71dd5f4a79dd0100000000";
const AUTHENTICATE: &str = "a182015730820153a0030a0101a2820136048201324e544c4d535350000300000018001800580000009200920070\
    00000012001200020100000a000a0014010000040004001e010000100010002201000035828ae2000c04000000000fdd7941a365d0af5e43\
    02a56bb4033580000000000000000000000000000000000000000000000000b3c1c21db409a212ef87b1af64925e1f010100000000000\
    09a71dd5f4a79dd011d9cdd285335ef89000000000100040056004d000200160057004f0052004b00530054004100540049004f004e00\
    0300040076006d00070008009a71dd5f4a79dd0109001c0048005400540050002f006c006f00630061006c0068006f007300740006000\
    40002000000000000000000000057004f0052004b00470052004f0055005000610064006d0069006e0056004d00018c8b3a9376838f6a95\
    9c8e0a7bad46a312041001000000d77b0b16ebea256f00000000";

fn vector(authenticate: &[u8]) -> Result<Accepted, Refusal> {
    let entries =
        [("negotiate", unhex(INIT)), ("challenge", unhex(CHALLENGE)), ("authenticate", authenticate.to_vec())];
    conclude(&entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), "Passw0rd!")
}

/// `authentication.md` §10.2: after the signature of the list, sequence 1 and a key stream from its
/// beginning.
#[test]
fn the_vector_inside_spnego_is_accepted_and_seals() {
    let mut accepted = vector(&unhex(AUTHENTICATE)).unwrap();
    let token = "a11b3019a0030a0100a3120410010000000319e1a839107e4a00000000";
    assert_eq!(accepted.token, Some(unhex(token)));
    let context = accepted.security.as_mut().unwrap();
    let clear = context.unseal(&unhex("0100000086e12f501cf88fac01000000"), unhex("2496f8a9")).unwrap();
    assert_eq!(clear, b"<a/>");
}

#[test]
fn the_list_of_mechanisms_must_be_signed() {
    let right = unhex(AUTHENTICATE);
    let start = right.len() - 16;
    for bit in 0..128 {
        let mut wrong = right.clone();
        wrong[start + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(vector(&wrong).err(), Some(Refusal::MechListMic), "bit {bit}");
    }
    // The same without the signature, which a client that made a MIC owes.
    let token = NegTokenResp::parse(&right).unwrap().token.unwrap().to_vec();
    let bare = super::spnego::response(super::spnego::NegState::AcceptIncomplete, None, Some(&token), None);
    assert_eq!(vector(&bare).err(), Some(Refusal::MechListMic));
}
