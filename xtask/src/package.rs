//! The installer of this system.
//!
//! One release build makes every program with the same features; Tauri's own bundler then only packs. What goes beside the
//! window (the command line, the worker, the starter model) is told to it in a second configuration that is written here,
//! so that no build but this one copies 98 MB of model about.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    build,
    card::{self, Card},
    house::House,
    sh::{self, Failure, stage},
    starter, system,
};

/// The programs that stand beside the window in the installer, all made by one cargo call.
const BESIDE: [&str; 2] = ["decentralgpt", "decentralgpt-worker"];

/// Builds everything for release and packs it into target/release/bundle.
pub(crate) fn package(house: &House, kinds: Option<&str>, cards: &[Card]) -> Result<(), Failure> {
    stage("1/6 system packages", || {
        system::packages(system::Need::Build)
    })?;
    stage("2/6 packages of the window", || {
        build::window_packages(house)
    })?;
    stage("3/6 page of the window", || build::window_page(house))?;
    stage("4/6 starter model", || starter::fetch(house).map(|_| ()))?;
    stage("5/6 programs, for release", || {
        sh::run(&mut programs(house))
    })?;
    for &card in cards {
        stage(card.worker(), || {
            card::worker(house, card, "release").map(|_| ())
        })?;
    }
    let configuration = configure(house, cards)?;
    stage("6/6 installer", || {
        sh::run(&mut bundler(house, &configuration, kinds))
    })?;
    for installer in installers(house) {
        let bytes = fs::metadata(&installer)
            .map(|metadata| metadata.len())
            .unwrap_or_default();
        println!("   {} ({:.1} MB)", installer.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

/// All programs at once: chosen one by one, cargo would compile their dependencies again with other features.
fn programs(house: &House) -> Command {
    house.cargo([
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--bins",
        "--exclude",
        "xtask",
        "--exclude",
        "decentralgpt-tests",
    ])
}

/// Lays the programs out as the bundler wants them, named after the target, and writes what it shall pack.
fn configure(house: &House, cards: &[Card]) -> Result<PathBuf, Failure> {
    let folder = house.target.join("package");
    fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
    let target = target()?;
    let workers = cards.iter().map(|card| card.worker());
    let beside: Vec<&str> = BESIDE.into_iter().chain(workers).collect();
    for name in &beside {
        copy(
            &released(house, name),
            &folder.join(program(&format!("{name}-{target}"))),
        )?;
    }
    let programs: Vec<PathBuf> = BESIDE.iter().map(|name| folder.join(name)).collect();
    let model = house.models().join(starter::FILE);
    let configuration = json!({
        "bundle": {
            "active": true,
            "externalBin": programs,
            "resources": { model.display().to_string(): format!("models/{}", starter::FILE) },
        }
    });
    let path = folder.join("tauri.package.json");
    fs::write(&path, configuration.to_string())
        .map_err(|error| Failure::io("Cannot write", &path, &error))?;
    Ok(path)
}

fn bundler(house: &House, configuration: &Path, kinds: Option<&str>) -> Command {
    let script: PathBuf = ["ui", "node_modules", "@tauri-apps", "cli", "tauri.js"]
        .iter()
        .collect();
    let mut command = Command::new("node");
    command
        .arg(house.root.join(script))
        .args(["bundle", "--ci", "--config"])
        .arg(configuration)
        .current_dir(house.root.join("src-tauri"))
        .env("CARGO_TARGET_DIR", &house.target);
    // AppImage wants tools that are downloaded, which not every machine can: it is asked for by name.
    let kinds = kinds.or(cfg!(target_os = "linux").then_some("deb"));
    if let Some(kinds) = kinds {
        command.args(["--bundles", kinds]);
    }
    command
}

/// The name that the compiler gives to this system.
fn target() -> Result<String, Failure> {
    let text = sh::quiet(Command::new("rustc").arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc does not say which system it compiles for."))
}

fn released(house: &House, name: &str) -> PathBuf {
    house.target.join("release").join(program(name))
}

fn program(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| Failure::io("Cannot copy to", to, &error))
}

fn installers(house: &House) -> Vec<PathBuf> {
    let bundle = house.target.join("release").join("bundle");
    let Ok(kinds) = fs::read_dir(bundle) else {
        return Vec::new();
    };
    kinds
        .flatten()
        .filter_map(|kind| fs::read_dir(kind.path()).ok())
        .flat_map(Iterator::flatten)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|ending| {
                ["deb", "dmg", "msi", "exe", "AppImage"]
                    .iter()
                    .any(|wanted| ending == *wanted)
            })
        })
        .collect()
}
