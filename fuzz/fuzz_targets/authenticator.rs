//! libFuzzer on the oracle `authenticator`, with a keytab in the environment, as `mutate` says:
//! `cargo +nightly fuzz run --features libfuzzer,kerberos authenticator ../fixtures/fuzz/authenticator`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wsnapd_fuzz::oracles::tickets::authenticator(bytes);
});
