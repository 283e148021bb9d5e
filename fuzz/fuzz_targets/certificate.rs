//! libFuzzer on the oracle `certificate`: `cargo +nightly fuzz run --features libfuzzer certificate ../fixtures/fuzz/certificate`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::certificate(bytes));
