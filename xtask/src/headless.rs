//! The whole loop without a window: one node serves, a second one, in a data folder without weights, asks it.

use std::{
    fs,
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::{
    house::House,
    sh::{self, Failure, Kept, stage},
};

/// Loopback alone, on any free ports: nothing here is for a network.
const LISTEN: &[&str] = &["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
/// A node that has not said its address by now is stuck: it opens files and two sockets.
const ADDRESS_WITHIN: Duration = Duration::from_secs(60);
/// Addresses that wait to be read: a node has one per transport and interface.
const ADDRESSES: usize = 16;

const QUESTION: &str = "What is the capital of France?";
/// The starter is touchy: with this line it answers, with the one of its own template it rambles.
pub(crate) const SYSTEM: &str = "You are a helpful assistant.";

/// A node that serves from a data folder of its own.
#[derive(Debug)]
pub(crate) struct Serving {
    program: Kept,
    pub(crate) address: String,
}

impl Serving {
    /// On a folder that was prepared; what it tells of itself goes to `told`.
    pub(crate) fn start(house: &House, data: &Path, told: Stdio) -> Result<Self, Failure> {
        let mut command = house.decentralgpt(data);
        command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(told);
        let mut program = Kept::spawn(&mut command)?;
        let Some(stdout) = program.child().stdout.take() else {
            return Err(Failure::new("The serving node has no output to read."));
        };
        // Reads on until the program ends, so that it never waits for us.
        let (sender, receiver) = mpsc::sync_channel(ADDRESSES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let address = receiver.recv_timeout(ADDRESS_WITHIN).map_err(|_| {
            Failure::new("The serving node printed no address.").fix("read what it said above")
        })?;
        Ok(Self { program, address })
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.program.ended()
    }
}

/// A data folder whose node stays on loopback; `more` are further lines of its settings.
pub(crate) fn prepare_folder(data: &Path, more: &str) -> Result<(), Failure> {
    fs::create_dir_all(data).map_err(|error| Failure::io("Cannot make", data, &error))?;
    let settings = data.join("settings.toml");
    let listen = LISTEN
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect::<Vec<_>>()
        .join(", ");
    fs::write(
        &settings,
        format!("listen = [{listen}]\nmdns = false\nmainline = false\n{more}"),
    )
    .map_err(|error| Failure::io("Cannot write", &settings, &error))
}

/// The asking side: it looks for models nowhere, so every token comes from the peer.
fn asking(house: &House, data: &Path, address: &str) -> Command {
    let mut command = house.decentralgpt(data);
    command
        .env("DECENTRALGPT_MODELS", "")
        .args(["chat", "--peer", address, "--system", SYSTEM]);
    command
}

/// Shows the loop; afterwards, where that is wanted and there is a terminal, lets a person chat.
pub(crate) fn show(house: &House, then_chat: bool) -> Result<(), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
    let serving = stage("a node that serves", || {
        let data = folder.path().join("serving");
        prepare_folder(&data, "")?;
        let serving = Serving::start(house, &data, Stdio::inherit())?;
        println!("   it listens on {}", serving.address);
        Ok(serving)
    })?;
    let asker = folder.path().join("asking");
    prepare_folder(&asker, "")?;
    stage("a second node, without weights, asks it", || {
        println!("   > {QUESTION}");
        sh::run(
            asking(house, &asker, &serving.address)
                .stdin(Stdio::null())
                .args(["--temperature", "0", QUESTION]),
        )
    })?;
    if then_chat && std::io::stdin().is_terminal() {
        println!("── now you (an empty line with Ctrl-D ends)");
        sh::run(&mut asking(house, &asker, &serving.address))?;
    } else {
        println!("   no terminal to chat in: that was all");
    }
    drop(serving);
    Ok(())
}
