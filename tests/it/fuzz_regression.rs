//! Every saved fuzz input is put to its oracle again.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/oracles.rs"]
#[expect(unreachable_pub, reason = "the file belongs to the package of the fuzz targets, where it is public")]
mod oracles;

#[test]
fn saved_inputs_meet_their_oracles() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    for (name, oracle) in oracles::BYTES {
        let inputs = inputs(&fixtures, name);
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            assert!(catch_unwind(|| oracle(&bytes)).is_ok(), "{} breaks what is said above", input.display());
        }
    }
    for (name, oracle) in oracles::ALL {
        for input in inputs(&fixtures, name) {
            let bytes = fs::read(&input).unwrap();
            // libFuzzer's inputs are any bytes; a target for text leaves out what is no text.
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let met = catch_unwind(|| oracle(text));
                assert!(met.is_ok(), "{} breaks what is said above", input.display());
            }
        }
    }
}

fn inputs(fixtures: &Path, name: &str) -> Vec<PathBuf> {
    let mut inputs: Vec<_> = fs::read_dir(fixtures.join(name))
        .unwrap_or_else(|error| panic!("fixtures/fuzz/{name}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 3, "fixtures/fuzz/{name} has hardly anything to replay");
    inputs
}

/// What the saved tokens and messages become when MIT Kerberos has their keys; from the environment, which a process
/// cannot safely change once it has threads.
#[cfg(feature = "kerberos")]
#[test]
fn saved_tickets_are_accepted_and_saved_messages_unsealed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kerberos");
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "fuzz_regression::saved_tickets_meet_their_keys"])
        .env("KRB5_CONFIG", root.join("krb5.conf"))
        .env("KRB5_KTNAME", format!("FILE:{}", root.join("keytab").display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

#[cfg(feature = "kerberos")]
#[test]
#[ignore = "helper of another test"]
fn saved_tickets_meet_their_keys() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(oracles::tickets::has_keytab());
    for input in inputs(&fixtures, "kerberos") {
        // The captured ones are for other keys, and one ended long ago.
        let expected = !name(&input).contains('_');
        assert_eq!(oracles::tickets::token(&fs::read(&input).unwrap()), expected, "{}", input.display());
    }
    for (name, bound) in [
        ("mutual", Some(false)),
        ("one-way", Some(false)),
        ("signs-only", Some(false)),
        // It says what is not so, and the library does not mind.
        ("session-key", Some(false)),
        ("bound", Some(true)),
        ("bound-to-another", None),
        // With tickets that cannot be read.
        ("delegates", None),
        ("three-legs", None),
    ] {
        let bytes = fs::read(fixtures.join("authenticator").join(name)).unwrap();
        assert_eq!(oracles::tickets::authenticator(&bytes), bound, "{name}");
    }
    for (name, count) in [("one", 1), ("two", 2), ("three", 3), ("without-first", 0)] {
        let bytes = fs::read(fixtures.join("sealed").join(name)).unwrap();
        let before = oracles::tickets::reached();
        assert_eq!(oracles::tickets::sealed(&bytes), count, "{name}");
        assert_eq!(oracles::tickets::reached() - before, u64::try_from(count).unwrap());
    }
    // Whatever was found since.
    let kerberos: (_, oracles::BytesOracle) = ("kerberos", oracles::kerberos);
    for (name, oracle) in oracles::tickets::ALL.into_iter().chain([kerberos]) {
        for input in inputs(&fixtures, name) {
            oracle(&fs::read(&input).unwrap());
        }
    }
}
