//! libFuzzer on the oracle `request`: `cargo +nightly fuzz run --features libfuzzer request ../fixtures/fuzz/request`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::request(text));
