//! libFuzzer on the oracle `mof`: `cargo +nightly fuzz run --features libfuzzer mof ../fixtures/fuzz/mof`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::mof(text));
