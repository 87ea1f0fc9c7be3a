//! llama.cpp's source tree, with its vocabularies and templates.

use std::path::{Path, PathBuf};

/// Where `cargo xtask test` unpacks the package that holds it, under cargo's target folder.
const PACKAGE: &str = "peers/llama-cpp-0.3.36";

/// The tree that `$DECENTRALGPT_LLAMA_CPP` names, or the one that was unpacked here; else a line says what is skipped.
pub(crate) fn llama_cpp(for_what: &str) -> Option<PathBuf> {
    let named = std::env::var_os("DECENTRALGPT_LLAMA_CPP").map(PathBuf::from);
    let found = named.or_else(unpacked);
    if found.is_none() {
        println!("skipped: {for_what}: llama.cpp's source is not in the target folder's {PACKAGE}");
    }
    found
}

fn unpacked() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let folders = std::fs::read_dir(target.join(PACKAGE)).ok()?.flatten();
    let mut trees = folders.map(|folder| folder.path().join("vendor").join("llama.cpp"));
    trees.find(|tree| tree.join("models").is_dir())
}
