//! libFuzzer on the oracle `ntlm`: `cargo +nightly fuzz run --features libfuzzer ntlm ../fixtures/fuzz/ntlm`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::ntlm(bytes));
