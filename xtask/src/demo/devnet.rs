//! A chain of this machine's own with every contract: the program that keeps it, and the file that describes it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::sums::Unit;
use crate::{
    build,
    house::House,
    sh::{self, Failure, Kept},
};

/// The contracts are made in a few seconds; a chain that is not ready by now never is.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Lines of it that wait to be read: it says where its file is, and that it is ready.
const LINES: usize = 16;
/// Its proposals stay open for so long: for as long as somebody may look at them.
const VOTE_SECONDS: &str = "3600";

/// A running chain. It ends with this value, and with whoever holds it: it reads what this holds open.
#[derive(Debug)]
pub(crate) struct Devnet {
    program: Kept,
    _held: Option<ChildStdin>,
    /// The network's file.
    pub(crate) file: PathBuf,
    /// Where it answers.
    pub(crate) url: String,
    pub(crate) chain_id: u64,
    pub(crate) vault: String,
    pub(crate) unit: Unit,
}

impl Devnet {
    /// anvil from its package, and the program that puts the contracts on it.
    pub(crate) fn build(house: &House) -> Result<(), Failure> {
        build::npm_packages(house, "contracts")?;
        // Of the whole workspace, as the programs: with other features cargo would compile what lies below it a second time.
        sh::run(&mut house.cargo([
            "build",
            "--locked",
            "--quiet",
            "--workspace",
            "--exclude",
            "xtask",
            "--features",
            "decentralgpt-chain/dev",
            "--bin",
            "decentralgpt-deploy",
        ]))
    }

    /// Starts it on any free port, with coin on these accounts.
    pub(crate) fn start<'a>(
        house: &House,
        folder: &Path,
        accounts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Failure> {
        let file = folder.join("devnet.toml");
        let mut command = Command::new(house.program("decentralgpt-deploy"));
        command
            .args(["devnet", "--port", "0", "--vote-seconds", VOTE_SECONDS])
            .arg("--file")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for account in accounts {
            command.args(["--coin", account]);
        }
        let mut program = Kept::spawn(&mut command)?;
        let held = program.child().stdin.take();
        let Some(stdout) = program.child().stdout.take() else {
            return Err(Failure::new("The chain has no output to read."));
        };
        let (sender, receiver) = mpsc::sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        // `URL serves chain ID` is its last line before it waits.
        let url = loop {
            let line = receiver.recv_timeout(READY_WITHIN).map_err(|_| {
                Failure::new("The chain did not start.").fix("read what it said above")
            })?;
            if let Some((url, _)) = line.split_once(" serves chain ") {
                break url.to_owned();
            }
        };
        let text =
            fs::read_to_string(&file).map_err(|error| Failure::io("Cannot read", &file, &error))?;
        let network: toml::Table = text
            .parse()
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        let of = |table: &toml::Table, name: &str| {
            table
                .get(name)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let token = network.get("token").and_then(|value| value.as_table());
        Ok(Self {
            program,
            _held: held,
            url,
            chain_id: network
                .get("chain_id")
                .and_then(toml::Value::as_integer)
                .and_then(|id| u64::try_from(id).ok())
                .unwrap_or_default(),
            vault: of(&network, "vault"),
            unit: Unit {
                symbol: token.map(|token| of(token, "symbol")).unwrap_or_default(),
                test: network.get("test").and_then(toml::Value::as_bool) == Some(true),
            },
            file,
        })
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.program.ended()
    }
}
