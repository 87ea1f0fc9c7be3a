//! What the journeys share: the real programs, data folders that stay on loopback, and nodes that end with their test.
//!
//! A journey starts the programs that people start and reads what they print. Nothing here imitates them, asserts a time or
//! sends a packet beyond this machine.

// Only tests call this: a failure here is the test's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

pub mod attacks;
#[cfg(target_os = "linux")]
pub mod disk;
#[cfg(unix)]
pub mod money;
pub mod wire;
#[cfg(unix)]
pub mod world;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

/// The starter: greedy, with [`SYSTEM`], it knows the capital of France.
pub const STARTER_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// The line it answers well with.
pub const SYSTEM: &str = "You are a helpful assistant.";
/// What it is asked.
pub const QUESTION: &str = "What is the capital of France?";
/// A question with a long answer, to be cut in the middle.
pub const LONG_QUESTION: &str = "Write a long story about a ship and its crew.";

/// A test that waits longer than this for a line waits for ever. No test asserts that something is faster.
const HANG: Duration = Duration::from_secs(120);
/// Where a node of a test listens.
const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
/// Lines of one program that wait to be read by its test.
const LINES: usize = 4096;

/// The folder of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A built program of the product, from the folder that this test was built into.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    // A program lies beside the others, a test in a folder of theirs.
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(&file))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace --bins"))
}

/// The starter's file; says that the test is skipped where it is not there.
#[must_use]
pub fn starter() -> Option<PathBuf> {
    let path = std::env::var_os("DECENTRALGPT_STARTER")
        .map_or_else(|| root().join("models").join(STARTER_FILE), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} (the starter model is not here: cargo xtask test starter)",
        test_name()
    );
    None
}

/// Bytes of the file's head: everything before its weights.
///
/// # Panics
/// When the worker cannot read the file.
#[must_use]
pub fn head_len(starter: &Path) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let text = wire::Text::new(starter);
        let head = text.reference().await.head_len;
        text.end().await;
        u64::from(head)
    })
}

fn test_name() -> String {
    std::thread::current()
        .name()
        .unwrap_or("a journey")
        .to_owned()
}

/// A data folder whose node listens on loopback alone and looks for nobody by itself.
#[derive(Debug)]
pub struct Folder {
    root: TempDir,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// With settings, and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings("")
    }

    /// With lines of TOML below the usual settings.
    #[must_use]
    pub fn with_settings(more: &str) -> Self {
        let folder = Self {
            root: tempfile::tempdir().unwrap(),
        };
        folder.set(&LISTEN, more);
        folder
    }

    /// With lines of TOML below the usual settings, and a catalogue that has every row but the starter's.
    ///
    /// # Panics
    /// Where the program's own catalogue is not there.
    #[must_use]
    pub fn without_the_starter(more: &str) -> Self {
        let catalogue = fs::read_to_string(root().join("models/catalog.toml")).unwrap();
        let rows = catalogue.split("[[model]]");
        let others = rows.filter(|row| !row.contains("\nstarter = true\n"));
        let others: Vec<&str> = others.collect();
        let folder = Self::with_settings(more);
        fs::write(folder.path().join("catalog.toml"), others.join("[[model]]")).unwrap();
        folder
    }

    /// With lines of TOML below the usual settings, on a disk of its own of a few megabytes.
    ///
    /// # Panics
    /// Where the system does not allow it: see [`disk::own_mounts`].
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn on_small_disk(more: &str) -> Self {
        let folder = Self {
            root: tempfile::tempdir().unwrap(),
        };
        disk::mount_small(folder.path()).unwrap();
        folder.set(&LISTEN, more);
        folder
    }

    /// Writes its settings anew: where its node listens, and more lines of TOML.
    pub fn set(&self, listen: &[&str], more: &str) {
        fs::write(
            self.path().join("settings.toml"),
            format!("listen = {listen:?}\nmdns = false\nmainline = false\n{more}"),
        )
        .unwrap();
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The command line on this folder. It finds models nowhere but in the folder itself.
    #[must_use]
    pub fn decentralgpt(&self) -> Command {
        let mut command = Command::new(program("decentralgpt"));
        command
            .arg("--data")
            .arg(self.path())
            .env("DECENTRALGPT_MODELS", "")
            // The keychain of whoever runs the tests is none of theirs.
            .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// The same, with the starter at hand.
    #[must_use]
    pub fn decentralgpt_with(&self, starter: &Path) -> Command {
        let mut command = self.decentralgpt();
        command.env("DECENTRALGPT_MODELS", starter.parent().unwrap());
        command
    }

    /// Every file below the folder with this ending.
    #[must_use]
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
            {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == ending) {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// What a program that ended said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The exit code; a signal is none.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts what the command line promises of every failure: exit code 1, a sentence and a next step on standard error.
    pub fn is_a_failure_that_says(&self, words: &[&str]) {
        assert_eq!(
            self.code(),
            Some(1),
            "exit code, after\n{}{}",
            self.out,
            self.err
        );
        for word in words {
            assert!(
                self.err.to_lowercase().contains(&word.to_lowercase()),
                "{word:?} is not in:\n{}",
                self.err
            );
        }
        assert!(
            self.err
                .lines()
                .any(|line| line.trim_start().starts_with("next: ")),
            "no next step in:\n{}",
            self.err
        );
        assert!(!self.err.contains("panicked"), "a panic:\n{}", self.err);
    }
}

/// Runs to the end.
#[must_use]
pub fn run(command: &mut Command) -> Said {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Said {
        status,
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// A program that runs beside its test, ended with it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts it.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::sync_channel(LINES);
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self {
            child,
            lines,
            errors: Some(errors),
        }
    }

    /// Its next line on standard output; `None` after the last one.
    ///
    /// # Panics
    /// When it says nothing for so long that it must hang.
    #[must_use]
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(HANG) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.kill();
                panic!(
                    "no line for {HANG:?}; on standard error:\n{}",
                    self.errors()
                );
            }
        }
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: libc::c_int) {
        let process = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: sends a signal to a child that was not waited for, so the number is still its own.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(process, signal) };
        assert_eq!(sent, 0, "signal {signal} was not sent");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for the end.
    #[must_use]
    pub fn wait(mut self) -> Said {
        let mut out = String::new();
        while let Some(line) = self.line() {
            out.push_str(&line);
            out.push('\n');
        }
        let status = self.child.wait().unwrap();
        Said {
            status,
            out,
            err: self.errors(),
        }
    }

    /// What it wrote on standard error; it has to have ended.
    fn errors(&mut self) -> String {
        self.errors
            .take()
            .map(|reader| reader.join().unwrap())
            .unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A stopped process dies of this as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that serves the starter from its own data folder.
#[derive(Debug)]
pub struct Serving {
    /// The program.
    pub program: Running,
    /// Where it can be dialled, with its id at the end.
    pub address: String,
    /// Its id.
    pub peer: String,
    folder: Folder,
}

impl Serving {
    /// Starts it, and waits for its first address.
    #[must_use]
    pub fn start(starter: &Path) -> Self {
        Self::start_in(Folder::new(), starter)
    }

    /// On a folder that was prepared.
    #[must_use]
    pub fn start_in(folder: Folder, starter: &Path) -> Self {
        Self::start_with(folder, starter, &[])
    }

    /// The same, and waits until it offers its model: before that it turns every question away.
    ///
    /// # Panics
    /// When it ends before.
    #[must_use]
    pub fn start_offering(folder: Folder, starter: &Path) -> Self {
        let mut serving = Self::start_with(folder, starter, &["--json"]);
        loop {
            let Some(line) = serving.program.line() else {
                panic!("serve ended: {:?}", serving.program.wait())
            };
            // More addresses come before the first state.
            let state = serde_json::from_str::<serde_json::Value>(&line).unwrap_or_default();
            if state["offered"]
                .as_array()
                .is_some_and(|offered| !offered.is_empty())
            {
                return serving;
            }
        }
    }

    fn start_with(folder: Folder, starter: &Path, more: &[&str]) -> Self {
        let mut program = Running::start(folder.decentralgpt_with(starter).arg("serve").args(more));
        let address = loop {
            let Some(line) = program.line() else {
                panic!("serve ended: {:?}", program.wait())
            };
            // Its first states may come before it listens.
            if line.starts_with('/') {
                break line;
            }
        };
        let peer = address
            .rsplit_once("/p2p/")
            .expect("an address ends with its peer")
            .1
            .to_owned();
        Self {
            program,
            address,
            peer,
            folder,
        }
    }

    /// kill -9; its folder stays as that moment left it.
    #[must_use]
    pub fn killed(self) -> Folder {
        let Self {
            mut program,
            folder,
            ..
        } = self;
        program.kill();
        let _ = program.wait();
        folder
    }

    /// Its data folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}
