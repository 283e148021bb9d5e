//! libFuzzer on the oracle `multipart`: `cargo +nightly fuzz run --features libfuzzer multipart ../fixtures/fuzz/multipart`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::multipart(bytes));
