//! libFuzzer on the oracle `sealed`, with a keytab in the environment, as `mutate` says:
//! `cargo +nightly fuzz run --features libfuzzer,kerberos sealed ../fixtures/fuzz/sealed`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wsnapd_fuzz::oracles::tickets::sealed(bytes);
});
