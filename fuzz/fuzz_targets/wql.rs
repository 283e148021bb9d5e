//! libFuzzer on the oracle `wql`: `cargo +nightly fuzz run --features libfuzzer wql ../fixtures/fuzz/wql`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| wsnapd_fuzz::oracles::wql(text));
