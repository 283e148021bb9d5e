//! libFuzzer on the oracle `xml`: `cargo +nightly fuzz run --features libfuzzer xml ../fixtures/fuzz/xml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::xml(text));
