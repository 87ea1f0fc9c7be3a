//! Somebody of the demo: a data folder with a wallet, and the commands that a person would type on it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::Stop;
use crate::{
    headless::{self, SYSTEM},
    house::House,
    sh::{self, Failure, Kept},
};

/// Of every wallet of the demo. They hold what is worth nothing, and end with it.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The longest answer: a few seconds of two slow cores.
const MAX_OUT: &str = "96";

#[derive(Debug)]
pub(crate) struct Person<'a> {
    house: &'a House,
    stop: &'a Stop,
    pub(crate) name: &'static str,
    pub(crate) data: PathBuf,
    password: PathBuf,
    /// Role and address.
    accounts: Vec<(String, String)>,
}

/// An answer as it ended.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) tokens: u64,
    /// Who computed a part of it, and what was paid for that part in base units.
    pub(crate) paid: Vec<(String, u128)>,
}

impl<'a> Person<'a> {
    /// Makes the folder and a wallet in it whose words were typed once, so that it signs larger sums too.
    pub(crate) fn new(
        house: &'a House,
        stop: &'a Stop,
        name: &'static str,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let mut person = Self {
            house,
            stop,
            name,
            data: folder.join(name),
            password: folder.join("password"),
            accounts: Vec::new(),
        };
        secret(&person.password, PASSWORD)?;
        let first = Self {
            data: folder.join(format!("{name}-first")),
            password: person.password.clone(),
            accounts: Vec::new(),
            ..person
        };
        for data in [&first.data, &person.data] {
            headless::prepare_folder(data, "")?;
        }
        let words = first.signed(&["wallet", "new"])?;
        let words: Vec<&str> = words["words"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let typed = first.data.join("words");
        secret(&typed, &words.join(" "))?;
        let typed = typed.to_string_lossy();
        person.signed(&["wallet", "import", "--words-file", &typed])?;
        let balance = person.json(&["wallet", "addresses"])?;
        let text = |account: &Value, name: &str| account[name].as_str().map(str::to_owned);
        person.accounts = balance
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|account| Some((text(account, "role")?, text(account, "address")?)))
            .collect();
        Ok(person)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|(_, address)| address.as_str())
    }

    /// The address of a role, short enough for a line.
    pub(crate) fn short(&self, role: &str) -> String {
        let mut accounts = self.accounts.iter();
        accounts
            .find(|(of, _)| of == role)
            .map(
                |(_, address)| match address.get(..6).zip(address.get(38..)) {
                    Some((begin, end)) => format!("{begin}…{end}"),
                    None => address.clone(),
                },
            )
            .unwrap_or_default()
    }

    /// Puts this network's file and these lines where the next start finds them.
    pub(crate) fn settle(&self, network: &Path, money: &str) -> Result<(), Failure> {
        let folder = self.data.join("networks");
        fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
        let file = folder.join("devnet.toml");
        fs::copy(network, &file).map_err(|error| Failure::io("Cannot write", &file, &error))?;
        headless::prepare_folder(
            &self.data,
            &format!("serve_max_out = 512\n[money]\nnetwork = \"devnet\"\n{money}"),
        )
    }

    /// What a command says, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let said = self.said(self.command(arguments).arg("--json"))?;
        // Where a command takes two transactions, each has a line.
        serde_json::from_str(said.lines().last().unwrap_or_default())
            .map_err(|error| Failure::new(format!("{arguments:?} answered no JSON: {error}.")))
    }

    /// A command that needs the wallet's password.
    pub(crate) fn signed(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let password = self.password.to_string_lossy();
        self.json(&[arguments, &["--password-file", &password]].concat())
    }

    /// What a command says to people, under the command itself.
    pub(crate) fn shows(&self, arguments: &[&str]) -> Result<(), Failure> {
        let said = self.said(&mut self.command(arguments))?;
        println!("   $ decentralgpt {}", arguments.join(" "));
        for line in said.lines() {
            println!("     {line}");
        }
        Ok(())
    }

    /// Asks these computers, and shows the answer as it comes.
    pub(crate) fn ask(&self, peers: &[&str], question: &str) -> Result<Answered, Failure> {
        self.stop.check()?;
        println!("   > {question}");
        let mut command = self.asking(peers);
        command
            .args(["--json", "--temperature", "0", "--max-out", MAX_OUT])
            .arg(question)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.told()?);
        let mut program = Kept::spawn(&mut command)?;
        let stdout = program.child().stdout.take();
        let mut line = Line::default();
        let mut finished = Value::Null;
        for said in BufReader::new(stdout.ok_or_else(|| self.no_answer())?)
            .lines()
            .map_while(Result::ok)
        {
            let event: Value = serde_json::from_str(&said).unwrap_or_default();
            match event["kind"].as_str() {
                Some("text") => line.show(event["append"].as_str().unwrap_or_default()),
                Some("finished") => finished = event["message"].clone(),
                _ => {}
            }
        }
        line.end();
        self.stop.check()?;
        let spans: Vec<&Value> = finished["spans"].as_array().into_iter().flatten().collect();
        if spans.is_empty() || !finished["error"].is_null() {
            return Err(self.no_answer());
        }
        Ok(Answered {
            tokens: finished["outputTokens"].as_u64().unwrap_or_default(),
            paid: spans
                .iter()
                .filter_map(|span| {
                    let peer = span["peer"].as_str()?.to_owned();
                    Some((peer, amount(&span["paid"])))
                })
                .collect(),
        })
    }

    /// A chat with these computers, in this terminal.
    pub(crate) fn talk(&self, peers: &[&str]) -> Result<(), Failure> {
        sh::run(&mut self.asking(peers))
    }

    /// It looks for models nowhere, so every token comes from a peer.
    fn asking(&self, peers: &[&str]) -> Command {
        let mut command = self.house.decentralgpt(&self.data);
        command
            .env("DECENTRALGPT_MODELS", "")
            .args(["chat", "--system", SYSTEM]);
        for peer in peers {
            command.args(["--peer", peer]);
        }
        command
    }

    fn no_answer(&self) -> Failure {
        let path = self.data.join("told.log");
        let told = fs::read_to_string(&path).unwrap_or_default();
        Failure::new(format!("{} got no answer.\n{told}", self.name))
    }

    /// Where the programs of this folder tell what they do: beside the story, not in it.
    pub(crate) fn told(&self) -> Result<Stdio, Failure> {
        let path = self.data.join("told.log");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map(Stdio::from)
            .map_err(|error| Failure::io("Cannot write", &path, &error))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.house.decentralgpt(&self.data);
        command.args(arguments);
        command
    }

    fn said(&self, command: &mut Command) -> Result<String, Failure> {
        self.stop.check()?;
        sh::quiet(command)
    }
}

/// Base units; what is not said is nothing.
pub(crate) fn amount(value: &Value) -> u128 {
    value
        .as_str()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

/// A file that its owner alone reads: commands take secrets from no other.
fn secret(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .map_err(|error| Failure::io("Cannot write", path, &error))
}

/// Text that comes in pieces, under the story's margin.
#[derive(Debug, Default)]
struct Line {
    begun: bool,
}

impl Line {
    fn show(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        for mark in text.chars() {
            // A model's marks must not steer the terminal.
            if mark.is_control() && mark != '\n' {
                continue;
            }
            if !self.begun && mark != '\n' {
                let _ = write!(out, "   ");
            }
            self.begun = mark != '\n';
            let _ = write!(out, "{mark}");
        }
        let _ = out.flush();
    }

    fn end(&mut self) {
        if self.begun {
            println!();
        }
        self.begun = false;
    }
}
