//! A desk to stand the window on: a virtual screen, a message bus, and folders of its own. Nothing of the person who runs
//! the test is read or written.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The screen, as large as the window: without a window manager nothing moves or frames it.
const SCREEN: &str = "1280x800x24";

/// Programs that the window test needs beside our own.
const TOOLS: [&str; 4] = ["Xvfb", "dbus-daemon", "WebKitWebDriver", "import"];

/// The first of the needed tools that this machine lacks.
pub(crate) fn missing_tool() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    TOOLS
        .into_iter()
        .find(|tool| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}

/// The desk; everything on it ends when it is dropped.
pub(crate) struct Desk {
    screen: Child,
    bus: Child,
    display: String,
    bus_address: String,
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "config", "data", "cache", "run"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        }
        let (screen, number) = first_line(Command::new("Xvfb").args([
            "-displayfd",
            "1",
            "-nolisten",
            "tcp",
            "-screen",
            "0",
            SCREEN,
        ]));
        let (bus, bus_address) = first_line(Command::new("dbus-daemon").args([
            "--session",
            "--nofork",
            "--print-address=1",
        ]));
        Self {
            screen,
            bus,
            display: format!(":{number}"),
            bus_address,
            folder,
        }
    }

    /// What a program that stands on this desk finds in its environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [
            ("DISPLAY", self.display.clone()),
            ("DBUS_SESSION_BUS_ADDRESS", self.bus_address.clone()),
            ("HOME", path("home")),
            ("XDG_CONFIG_HOME", path("config")),
            ("XDG_DATA_HOME", path("data")),
            ("XDG_CACHE_HOME", path("cache")),
            ("XDG_RUNTIME_DIR", path("run")),
            ("GDK_BACKEND", "x11".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The home of everything that stands on it, with [`Desk::log`].
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the programs on it write what they log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("programs.log")
    }

    /// Writes what the screen shows to `file`.
    pub(crate) fn picture(&self, file: &Path) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let taken = Command::new("import")
            .args(["-window", "root"])
            .arg(file)
            .env("DISPLAY", &self.display)
            .status()
            .unwrap();
        assert!(taken.success(), "no picture {}", file.display());
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for process in [&mut self.screen, &mut self.bus] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Starts a server and reads the one line in which it says where it is.
fn first_line(command: &mut Command) -> (Child, String) {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let line = line.trim().to_owned();
    assert!(!line.is_empty(), "{command:?} said nothing");
    (process, line)
}
