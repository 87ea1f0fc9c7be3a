//! Where things lie: the repository, the folder that cargo builds into, the programs in it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::sh::{self, Failure};

/// The repository and its build folder.
#[derive(Debug, Clone)]
pub(crate) struct House {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// What cargo calls the target directory.
    pub(crate) target: PathBuf,
    /// Whether `CI` is set: nobody watches, and the machine may be changed.
    pub(crate) ci: bool,
}

impl House {
    /// # Errors
    /// When cargo cannot tell where it builds.
    pub(crate) fn open() -> Result<Self, Failure> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .map(Path::to_path_buf)
            .ok_or_else(|| Failure::new("The folder of xtask has no parent."))?;
        let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
        let target = match shared_target(ci) {
            Some(folder) => folder,
            None => cargo_target(&root)?,
        };
        Ok(Self { root, target, ci })
    }

    /// A cargo of this workspace, building into this house's target folder.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        if self.ci {
            // Every clone lies in a new folder: what incremental builds keep is never used, and fills the disk.
            command.env("CARGO_INCREMENTAL", "0");
        }
        // What `cargo xtask` itself was built with must not reach the builds below it: cargo would build twice.
        for name in env::vars_os().map(|(name, _)| name) {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_")
                || name == "CARGO_MANIFEST_DIR"
                || name == "CARGO_MANIFEST_PATH"
            {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// An npm in the window's folder.
    pub(crate) fn npm<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
        command.args(arguments).current_dir(self.root.join("ui"));
        command
    }

    /// A program of the dev profile, by its name without the system's ending.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.target
            .join("debug")
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// A built program as it is shipped.
    pub(crate) fn shipped(&self, name: &str) -> PathBuf {
        self.target
            .join("release")
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// The command line on a data folder.
    pub(crate) fn decentralgpt(&self, data: &Path) -> Command {
        let mut command = Command::new(self.program("decentralgpt"));
        command.arg("--data").arg(data);
        command
    }

    /// The repository's folder of weights, which git ignores.
    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Where benches write, whatever cargo builds into.
    pub(crate) fn bench_folder(&self) -> PathBuf {
        self.root.join("target").join("bench")
    }
}

/// In CI every clone builds into one folder, so that only the first is cold. Its name ends in /target because Tauri finds
/// bundled resources in dev by that name.
fn shared_target(ci: bool) -> Option<PathBuf> {
    if !ci || env::var_os("CARGO_TARGET_DIR").is_some() {
        return None;
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(cache.join("decentralgpt").join("target"))
}

fn cargo_target(root: &Path) -> Result<PathBuf, Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root);
    let text = sh::quiet(&mut cargo)?;
    let metadata: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("cargo metadata is not JSON: {error}.")))?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| Failure::new("cargo metadata names no target directory."))
}
