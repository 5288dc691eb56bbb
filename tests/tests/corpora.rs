//! Every input that the fuzz targets keep (`fuzz/corpus`), once more, without libFuzzer.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz")
        .join(name)
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| {
            let path = PathBuf::from(entry?.file_name());
            Ok(path.with_extension("").display().to_string())
        })
        .collect()
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() -> Result<()> {
    let targets = fuzz::TARGETS.map(|(name, _)| name.to_owned());
    let targets = BTreeSet::from(targets);
    ensure!(names(&folder("fuzz_targets"))? == targets);
    ensure!(names(&folder("corpus"))? == targets);
    Ok(())
}

#[test]
fn no_input_that_was_ever_kept_breaks_a_promise() -> Result<()> {
    for (name, run) in fuzz::TARGETS {
        let corpus = folder("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&corpus)? {
            let path = entry?.path();
            let input = fs::read(&path)?;
            let held = std::panic::catch_unwind(|| run(&input));
            ensure!(held.is_ok(), "{} breaks a promise", path.display());
            inputs += 1;
        }
        ensure!(3 <= inputs, "{} is all but empty", corpus.display());
    }
    Ok(())
}
