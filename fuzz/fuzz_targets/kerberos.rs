//! libFuzzer on the oracle `kerberos`; with a keytab in the environment, as `mutate` says:
//! `cargo +nightly fuzz run --features libfuzzer,kerberos kerberos ../fixtures/fuzz/kerberos`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wsnapd_fuzz::oracles::kerberos(bytes));
