//! libFuzzer on the oracle `cimxml`: `cargo +nightly fuzz run --features libfuzzer cimxml ../fixtures/fuzz/cimxml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::cimxml(text));
