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
