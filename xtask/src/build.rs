//! The window's page and the programs, in the dev profile.

use std::{fs, path::Path};

use crate::{
    house::House,
    sh::{self, Failure},
};

/// `npm ci` in the window's folder, unless what lies in node_modules came from this lock file.
pub(crate) fn window_packages(house: &House) -> Result<(), Failure> {
    npm_packages(house, "ui")
}

/// `npm ci` in a folder of the repository, unless what lies in node_modules came from this lock file.
pub(crate) fn npm_packages(house: &House, folder: &str) -> Result<(), Failure> {
    let folder = house.root.join(folder);
    let lock = folder.join("package-lock.json");
    let stamp = folder.join("node_modules").join(".installed-lock.json");
    let wanted = fs::read(&lock).map_err(|error| Failure::io("Cannot read", &lock, &error))?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("   as the lock file says, already");
        return Ok(());
    }
    let mut install = house.npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    sh::run(install.current_dir(folder))?;
    fs::write(&stamp, wanted).map_err(|error| Failure::io("Cannot write", &stamp, &error))
}

/// The page that the desktop program embeds: it must lie in ui/dist before that program is compiled.
pub(crate) fn window_page(house: &House) -> Result<(), Failure> {
    sh::run(&mut house.npm(["run", "--silent", "build"]))
}

/// All programs of the product. Their tests are compiled as well where they will run soon: building both at once keeps cargo
/// from compiling dependencies twice.
pub(crate) fn programs(house: &House, with_tests: bool) -> Result<(), Failure> {
    // xtask is running: some systems cannot replace a program that does.
    let mut arguments = vec!["build", "--locked", "--workspace", "--exclude", "xtask"];
    arguments.push(if with_tests {
        "--all-targets"
    } else {
        "--bins"
    });
    sh::run(&mut house.cargo(arguments))
}

/// The starter beside the programs, where they look for models that came with them: started by hand, they find it too.
pub(crate) fn starter_beside(house: &House, starter: &Path) -> Result<(), Failure> {
    let folder = house.target.join("debug").join("models");
    fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
    let beside = folder.join(crate::starter::FILE);
    let _ = fs::remove_file(&beside);
    // A second name for the same bytes where the disk allows it, else a copy.
    fs::hard_link(starter, &beside)
        .or_else(|_| fs::copy(starter, &beside).map(|_| ()))
        .map_err(|error| Failure::io("Cannot write", &beside, &error))
}

/// Puts a program in place by a rename: a running one keeps its old file, and nobody ever starts half of one.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), Failure> {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).map_err(|error| Failure::io("Cannot copy to", &beside, &error))?;
    fs::rename(&beside, to).map_err(|error| Failure::io("Cannot rename to", to, &error))
}
