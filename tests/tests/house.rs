//! The rules of the house that Cargo and clippy cannot keep: who imports whom, where things have their one home, what the
//! promises in docs/behavior.md are kept by. Each rule fails with the file that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Rooms: each does one thing and knows no other.
const ROOMS: &[&str] = &["engine", "memory", "network", "ledger", "chain", "wallet"];
/// Faces of the one core.
const SHELLS: &[&str] = &["cli", "desktop"];
/// A file past this asks whether it is two things. A question, not a rule: it is printed, and nothing fails.
const LONG_FILE: usize = 500;

#[test]
fn who_imports_whom() {
    for (name, imports) in manifests() {
        let ours: BTreeSet<&str> = imports
            .iter()
            .filter_map(|import| import.strip_prefix("decentralgpt-"))
            .collect();
        if name == "protocol" || ROOMS.contains(&name.as_str()) {
            let allowed = BTreeSet::from(["protocol"]);
            let wrong: Vec<_> = ours.difference(&allowed).collect();
            assert!(
                wrong.is_empty(),
                "{name} imports {wrong:?}: rooms know `protocol` alone, `node` alone knows two of them"
            );
        }
        if SHELLS.contains(&name.as_str()) {
            assert_eq!(
                ours,
                BTreeSet::from(["node"]),
                "{name} is a thin face: it imports `node` and nothing else of ours"
            );
        }
        if name == "xtask" {
            assert!(
                ours.is_empty(),
                "xtask starts programs and holds no logic of the product, but imports {ours:?}"
            );
        }
    }
}

#[test]
fn everything_has_one_home() {
    let homes: &[(&str, &[&str])] = &[
        ("candle-core", &["engine"]),
        ("candle-nn", &["engine"]),
        ("libp2p", &["network"]),
        ("rusqlite", &["ledger", "memory"]),
        // Downloads here, endpoints there: each has its own bounds.
        ("reqwest", &["node", "chain"]),
        ("bip39", &["wallet"]),
        ("argon2", &["wallet"]),
        ("rpassword", &["cli"]),
        ("tauri", &["desktop"]),
        ("specta", &["desktop"]),
    ];
    let manifests = manifests();
    for (dependency, allowed) in homes {
        for (name, imports) in &manifests {
            if imports.contains(*dependency) {
                assert!(
                    allowed.contains(&name.as_str()),
                    "{name} imports {dependency}, whose home is {allowed:?}"
                );
            }
        }
    }
}

#[test]
fn protocol_is_pure() {
    let manifests = manifests();
    for impure in [
        "tokio",
        "futures",
        "rand",
        "getrandom",
        "libp2p",
        "reqwest",
        "rusqlite",
        "tracing",
    ] {
        assert!(
            !manifests["protocol"].contains(impure),
            "protocol imports {impure}: it is a function of what it is handed"
        );
    }
    for (path, text) in files("crates/protocol/src", &["rs"]) {
        let text = without_tests(&text);
        for impure in [
            "Instant::now",
            "SystemTime::now",
            "std::fs",
            "std::net",
            "std::thread",
            "std::env",
        ] {
            assert!(
                !text.contains(impure),
                "{}: {impure} in a crate without clock, disk and network",
                path.display()
            );
        }
    }
}

#[test]
fn no_vague_names() {
    for name in manifests().keys() {
        for vague in [
            "common", "util", "utils", "types", "core", "config", "helpers", "shared", "misc",
        ] {
            assert_ne!(
                name, vague,
                "a crate named {vague} says nothing about what it owns"
            );
        }
    }
}

#[test]
fn every_crate_keeps_the_lints_and_opens_with_what_it_is() {
    let root = root();
    for member in members() {
        let manifest = fs::read_to_string(root.join(&member).join("Cargo.toml")).unwrap();
        let table: toml::Table = manifest.parse().unwrap();
        assert_eq!(
            table
                .get("lints")
                .and_then(|lints| lints.get("workspace"))
                .and_then(toml::Value::as_bool),
            Some(true),
            "{member}/Cargo.toml does not take the workspace's lints"
        );
        for source in ["src/lib.rs", "src/main.rs"] {
            let Ok(text) = fs::read_to_string(root.join(&member).join(source)) else {
                continue;
            };
            assert!(
                text.starts_with("//!"),
                "{member}/{source} does not open with what it is"
            );
            if member != "tests" {
                assert!(
                    !text.contains("#![allow(clippy::unwrap_used")
                        && !text.contains("#![allow(clippy::expect_used"),
                    "{member}/{source} allows unwrap outside tests"
                );
            }
        }
    }
}

#[test]
fn the_page_calls_rust_through_its_generated_bindings_alone() {
    for (path, text) in files("ui/src", &["ts", "svelte"]) {
        if path.ends_with("bindings.ts") {
            continue;
        }
        for line in text.lines().filter(|line| {
            !line.trim_start().starts_with("//") && !line.trim_start().starts_with('*')
        }) {
            assert!(
                !line.contains("invoke("),
                "{}: `{}` goes around ui/src/bindings.ts",
                path.display(),
                line.trim()
            );
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let text = fs::read_to_string(root().join("docs/behavior.md")).unwrap();
    let promises = tests_named_in("docs/behavior.md", &text);
    let given = text.matches("**Given**").count();
    assert!(
        promises >= given,
        "docs/behavior.md has {given} promises and names {promises} tests"
    );
}

#[test]
fn every_attack_names_a_test_that_exists() {
    let page = "docs/attacks.md";
    let text = fs::read_to_string(root().join(page)).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| attack"));
    let mut attacks = 0;
    for row in rows {
        assert!(
            tests_named_in(page, row) > 0,
            "{page} names no test of: {row}"
        );
        attacks += 1;
    }
    assert!(attacks > 0, "{page} lists nothing");
}

/// How many tests a page names, as `file::name`; each of them exists.
fn tests_named_in(page: &str, text: &str) -> usize {
    let mut named = 0;
    for entry in text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::") && code.contains('/'))
    {
        let (file, test) = entry.split_once("::").unwrap();
        let source = fs::read_to_string(root().join(file))
            .unwrap_or_else(|_| panic!("{page} names {file}, which does not exist"));
        // A test in Rust or Solidity by its function (the last part of a path), a test of the page by its words.
        let name = test.rsplit("::").next().unwrap();
        let found = if file.ends_with(".rs") {
            source.contains(&format!("fn {name}("))
        } else if file.ends_with(".sol") {
            source.contains(&format!("function {name}("))
        } else {
            source.contains(&format!("\"{test}\"")) || source.contains(&format!("'{test}'"))
        };
        assert!(found, "{page} names {entry}, and {file} has no such test");
        named += 1;
    }
    named
}

#[test]
fn no_path_of_somebody_s_machine() {
    // Put together, or this file would name them itself.
    let signs = [
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["/Us", "ers/"].concat(),
        ["/wo", "rk/"].concat(),
    ];
    for path in tracked() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for sign in &signs {
                // Within a web address it is somebody's site, not somebody's disk.
                let somewhere = line.match_indices(sign.as_str()).any(|(at, _)| {
                    let before = &line[..at];
                    let after = line[at + sign.len()..].chars();
                    // A folder of one letter is an example of an example, as in a test of paths.
                    let named = after.take_while(|mark| mark.is_alphanumeric()).count() > 1;
                    named
                        && !before.ends_with(|mark: char| {
                            mark.is_alphanumeric() || mark == '.' || mark == '_' || mark == '-'
                        })
                });
                assert!(
                    !somewhere,
                    "{path}:{}: a path of one machine: {}",
                    number + 1,
                    line.trim()
                );
            }
        }
    }
}

/// A person in the window reads the same next step; what is typed in a terminal stands beside it (`ErrorView::command`,
/// `Check::command`), and the window leaves it out.
#[test]
fn a_next_step_names_no_command_of_ours() {
    for room in ROOMS.iter().chain(&["node"]) {
        for (path, text) in files(&format!("crates/{room}/src"), &["rs"]) {
            // Programs of a terminal.
            if path.components().any(|part| part.as_os_str() == "bin") {
                continue;
            }
            for line in without_tests(&text).lines() {
                let code = line.trim_start();
                if code.starts_with("//") || code.contains("\"decentralgpt ") {
                    continue;
                }
                let has_option = code.match_indices(" --").any(|(at, dashes)| {
                    let after = code[at + dashes.len()..].chars().next();
                    code[..at].contains('"') && after.is_some_and(|mark| mark.is_ascii_lowercase())
                });
                assert!(
                    !has_option && !code.contains("`decentralgpt "),
                    "{}: {code}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn weights_and_build_output_are_not_in_the_tree() {
    for path in tracked() {
        let wrong = path.ends_with(".gguf")
            || path.starts_with("target/")
            || path.contains("node_modules/")
            || path.starts_with("ui/dist/");
        assert!(!wrong, "{path} is tracked");
    }
}

#[test]
fn ci_runs_what_the_readme_says() {
    let run = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(
        run.contains("exec cargo xtask test"),
        ".ci/run does not run `cargo xtask test`"
    );
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo xtask run", "cargo xtask test"] {
        assert!(
            readme.contains(command),
            "the README does not name `{command}`"
        );
    }
}

#[test]
fn long_files_are_pointed_at() {
    for folder in [
        "crates",
        "src-tauri/src",
        "xtask/src",
        "lab",
        "tests",
        "ui/src",
    ] {
        for (path, text) in files(folder, &["rs", "ts", "svelte"]) {
            let lines = text.lines().count();
            if lines > LONG_FILE && !path.ends_with("bindings.ts") {
                println!("{}: {lines} lines; is it two things?", path.display());
            }
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn members() -> Vec<String> {
    let table: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    table["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap().to_owned())
        .collect()
}

/// Every member's name, without our prefix, with what it depends on outside of tests.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for member in members() {
        let text = fs::read_to_string(root().join(&member).join("Cargo.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let name = table["package"]["name"].as_str().unwrap();
        let mut imports = BTreeSet::new();
        let mut collect = |table: &toml::Table| {
            for kind in ["dependencies", "build-dependencies"] {
                if let Some(dependencies) = table.get(kind).and_then(toml::Value::as_table) {
                    imports.extend(dependencies.keys().cloned());
                }
            }
        };
        collect(&table);
        for platform in table
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(toml::Table::values)
        {
            collect(platform.as_table().unwrap());
        }
        all.insert(
            name.strip_prefix("decentralgpt-")
                .unwrap_or(name)
                .to_owned(),
            imports,
        );
    }
    all
}

/// All files below a folder of the repository with one of these endings, and their text.
fn files(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                if !path.ends_with("node_modules") && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if endings
                .iter()
                .any(|ending| path.extension().is_some_and(|found| found == *ending))
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Source up to its test module, which by custom stands last.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

/// What git tracks; nothing outside a clone.
fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output();
    match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect(),
        Ok(_) | Err(_) => {
            println!("skipped: files that git tracks (this is no clone)");
            Vec::new()
        }
    }
}
