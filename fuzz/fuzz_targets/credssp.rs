//! libFuzzer on the oracle `credssp`: `cargo +nightly fuzz run --features libfuzzer credssp ../fixtures/fuzz/credssp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::credssp(bytes));
