//! libFuzzer on the oracle `envelope`: `cargo +nightly fuzz run --features libfuzzer envelope ../fixtures/fuzz/envelope`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::envelope(text));
