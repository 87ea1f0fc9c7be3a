//! The installer of this system, by Tauri's own bundler.

use std::{fs, process::Command};

use crate::{
    build,
    house::House,
    sh::{self, Failure, stage},
    starter, system,
};

pub(crate) fn package(house: &House) -> Result<(), Failure> {
    stage("system packages", || system::packages(system::Need::Build))?;
    stage("packages of the window", || build::window_packages(house))?;
    stage("starter model", || starter::fetch(house).map(|_| ()))?;
    stage("installer", || sh::run(&mut bundler(house)))?;
    for installer in installers(house) {
        let bytes = fs::metadata(&installer)
            .map(|metadata| metadata.len())
            .unwrap_or_default();
        println!("   {} ({:.1} MB)", installer.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

fn bundler(house: &House) -> Command {
    let script = house
        .root
        .join("ui")
        .join("node_modules")
        .join("@tauri-apps")
        .join("cli")
        .join("tauri.js");
    let mut command = Command::new("node");
    command
        .arg(script)
        .args(["build", "--ci"])
        .current_dir(&house.root)
        .env("CARGO_TARGET_DIR", &house.target);
    // AppImage wants tools that are downloaded: the release workflow makes it.
    if cfg!(target_os = "linux") {
        command.args(["--bundles", "deb"]);
    }
    command
}

fn installers(house: &House) -> Vec<std::path::PathBuf> {
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
