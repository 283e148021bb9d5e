//! libFuzzer on the oracle `spnego`: `cargo +nightly fuzz run --features libfuzzer spnego ../fixtures/fuzz/spnego`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::spnego(bytes));
