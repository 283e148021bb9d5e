//! Calls an oracle with mutated inputs for a while: a fuzzer for the stable compiler, without coverage.
//!
//! `cargo run -p wsnapd-fuzz --bin mutate -- ORACLE SECONDS FILE…` prints the first input on which the oracle
//! panics, and exits with 1.
//!
//! With the feature `kerberos` the oracle of this name puts tickets to MIT Kerberos, which wants a keytab:
//! `KRB5_CONFIG=fixtures/kerberos/krb5.conf KRB5_KTNAME=FILE:fixtures/kerberos/keytab`. Half of the saved tokens are
//! encrypted with its keys and accepted. Then there are also the oracles `authenticator`, for what is encrypted in a
//! token, and `sealed`, for the messages of a session.

use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use wsnapd_fuzz::oracles;

/// Pieces that matter to one of the formats, to be put in anywhere.
const TOKENS: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "&lt;",
    "&#60;",
    "&#1;",
    "&#13;",
    "&amp;",
    "]]>",
    "<![CDATA[",
    "<!--",
    "-->",
    "<?xml version='1.0'?>",
    "<!DOCTYPE a>",
    " xmlns=''",
    " xmlns:a='b'",
    "a:",
    "xsi:nil='true'",
    "\"",
    "'",
    "\\",
    "\\\\",
    "\0",
    "\u{feff}",
    "\r\n",
    "\t",
    "\u{fffe}",
    "é",
    "𝄞",
    "-1",
    "0x10",
    "1e999",
    "65536",
    "18446744073709551616",
    "TRUE",
    "NULL",
    "20260115102030.000000+000",
    "2026-01-15T10:20:60Z",
    "P1DT2S",
    "00000001020304.******:000",
    " NOT ",
    " AND ",
    " OR ",
    "(",
    ")",
    " LIKE '%[a-'",
    " IS NULL",
    " ISA T_All",
    "META_CLASS",
    "__THIS",
    " ClassDefsOnly",
    " KeysOnly",
    "__PATH",
    "__DERIVATION",
    "{",
    "}",
    ";",
    ",",
    "=",
    "instance of ",
    "class ",
    "#pragma ",
    "//",
    "/*",
    "*/",
    "$a",
    "REF ",
    "[]",
    "<VALUE>",
    "</VALUE>",
    "<VALUE.NULL/>",
    "<INSTANCE CLASSNAME='T_All'>",
    "</INSTANCE>",
    " EmbeddedObject='instance'",
    "//H/root:T_Base.InstanceID=\"a\"",
    "T_All",
    "AnObject",
    "AChar16",
    "ADateTime",
    "AReference",
    "root/test",
];

/// Numbers that look random: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or_default()
    }
}

/// One change: a piece taken out, doubled, put in from elsewhere or from the list, or a character replaced.
fn mutate(random: &mut Random, text: &mut Vec<char>, corpus: &[Vec<char>]) {
    let start = random.below(text.len() + 1);
    let reach = if random.below(4) == 0 { 200 } else { 8 };
    let end = (start + random.below(reach)).min(text.len());
    let insert: Vec<char> = match random.below(5) {
        0 => Vec::new(),
        1 => text[start..end].repeat(2),
        2 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(60)).min(other.len());
            other[from..to].to_vec()
        }
        3 => TOKENS[random.below(TOKENS.len())].chars().collect(),
        _ => vec![char::from(u8::try_from(random.below(128)).unwrap_or_default())],
    };
    let end = if random.below(2) == 0 { start } else { end };
    text.splice(start..end, insert);
    text.truncate(20_000);
}

/// A byte becomes another one: lengths and tags are single bytes.
fn damage(random: &mut Random, text: &mut [char]) {
    for _ in 0..random.below(4) {
        let at = random.below(text.len());
        if let Some(place) = text.get_mut(at) {
            *place = char::from(u8::try_from(random.below(256)).unwrap_or_default());
        }
    }
}

/// An oracle of either kind.
#[derive(Clone, Copy)]
enum Oracle {
    Text(oracles::Oracle),
    Bytes(oracles::BytesOracle),
}

impl Oracle {
    /// Characters beyond those of one byte stand for their lowest eight bits.
    fn meet(self, input: &str) {
        match self {
            Self::Text(oracle) => oracle(input),
            Self::Bytes(oracle) => {
                let bytes: Vec<u8> =
                    input.chars().map(|c| u8::try_from(u32::from(c) & 0xff).unwrap_or_default()).collect();
                oracle(&bytes);
            }
        }
    }
}

fn oracle(name: &str) -> Option<Oracle> {
    let text = oracles::ALL.iter().find(|(known, _)| *known == name).map(|(_, oracle)| Oracle::Text(*oracle));
    let bytes = || oracles::BYTES.iter().find(|(known, _)| *known == name).map(|(_, oracle)| Oracle::Bytes(*oracle));
    #[cfg(feature = "kerberos")]
    let bytes = || {
        let tickets = oracles::tickets::ALL.iter().find(|(known, _)| *known == name);
        bytes().or_else(|| tickets.map(|(_, oracle)| Oracle::Bytes(*oracle)))
    };
    text.or_else(bytes)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, files @ ..] = arguments.as_slice() else {
        eprintln!("usage: mutate ORACLE SECONDS FILE...");
        return ExitCode::FAILURE;
    };
    let Some(oracle) = oracle(name) else {
        eprintln!("no oracle is called {name}");
        return ExitCode::FAILURE;
    };
    #[cfg(feature = "kerberos")]
    if ["authenticator", "kerberos", "sealed"].contains(&name.as_str()) && !oracles::tickets::has_keytab() {
        eprintln!("the library finds no keytab: set KRB5_KTNAME");
        return ExitCode::FAILURE;
    }
    let read = |file: &String| match oracle {
        Oracle::Text(_) => std::fs::read_to_string(file).ok().map(|text| text.chars().collect()),
        Oracle::Bytes(_) => std::fs::read(file).ok().map(|bytes| bytes.into_iter().map(char::from).collect()),
    };
    let corpus: Vec<Vec<char>> = files.iter().filter_map(read).collect();
    if corpus.is_empty() {
        eprintln!("no file to start from could be read");
        return ExitCode::FAILURE;
    }
    let until = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(60));
    let mut random = Random(u64::from(std::process::id()));
    let mut runs = 0_u64;
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let mut text = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut text, &corpus);
        }
        if matches!(oracle, Oracle::Bytes(_)) {
            damage(&mut random, &mut text);
        }
        let input: String = text.into_iter().collect();
        let begin = Instant::now();
        if panic::catch_unwind(|| oracle.meet(&input)).is_err() {
            println!("{}", input.escape_default());
            return ExitCode::FAILURE;
        }
        if begin.elapsed() > slowest {
            slowest = begin.elapsed();
            if slowest > Duration::from_millis(300) {
                eprintln!("slow ({slowest:?}): {input}");
            }
        }
        runs += 1;
    }
    eprintln!("{runs} runs of {name}, the slowest {slowest:?}");
    #[cfg(feature = "kerberos")]
    eprintln!("{} tickets accepted or messages unsealed", oracles::tickets::reached());
    ExitCode::SUCCESS
}
