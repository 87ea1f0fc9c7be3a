//! Puts the contracts on a chain, or starts a chain of one's own with them; writes a network file either way.
//!
//! For those who run or try a network: it is no part of what is shipped to people.

// A command-line tool: its words go to the terminal.
#![allow(clippy::print_stdout)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use chain::{
    Address, Coin, DeployOptions, Key, Network, Voting, deploy,
    dev::{Devnet, DevnetOptions},
};
use clap::{Args, Parser, Subcommand};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// A key's file is 64 digits and perhaps a line's end.
const MAX_KEY_FILE: u64 = 256;
const UNIT: u128 = 1_000_000_000_000_000_000;
/// What an account is given: the gas of some thousand transactions.
const COIN: u128 = 10 * UNIT;
/// Longer than this between proposal, vote and execution is said in days on the command line.
const DAY: u64 = 86_400;

/// Deploy the contracts of DecentralGPT, and write the network file that the app reads.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// On a chain that is there. Its opcodes are tried before anything is sent.
    Contracts(Box<Contracts>),
    /// On a chain of this machine's own, which ends with this program (Ctrl-C, or the end of its input). A line `coin ADDRESS` of its
    /// input gives an account coin for gas, and is answered by the same line.
    Devnet(Own),
}

#[derive(Debug, Args)]
struct Own {
    /// Where the network file goes.
    #[arg(long, default_value = "networks/devnet.toml")]
    file: PathBuf,
    /// Where it listens; 0 is any free port.
    #[arg(long, default_value_t = 8545)]
    port: u16,
    /// Seconds between two blocks.
    #[arg(long, default_value_t = 1)]
    block_seconds: u64,
    /// Seconds that a vote stays open.
    #[arg(long, default_value_t = 60)]
    vote_seconds: u32,
}

#[derive(Debug, Args)]
struct Contracts {
    /// An address of the chain's JSON-RPC; give two or more of different people.
    #[arg(long, required = true)]
    rpc: Vec<String>,
    /// A file with the secret key of an account that pays the gas: 64 hexadecimal digits.
    #[arg(long)]
    key_file: PathBuf,
    /// The network's name, and the file's: networks/NAME.toml.
    #[arg(long)]
    name: String,
    /// What people read.
    #[arg(long)]
    title: String,
    /// The token's address. Without it a new one with a faucet is made, worth nothing.
    #[arg(long)]
    token: Option<Address>,
    /// Every amount on it is worth nothing.
    #[arg(long)]
    test: bool,
    /// What pays for gas there.
    #[arg(long)]
    coin: String,
    /// How many blocks later a block counts as final.
    #[arg(long)]
    confirmations: u64,
    /// About how many milliseconds lie between two blocks.
    #[arg(long)]
    block_ms: u64,
    /// What a unit of gas is taken to cost, in base units of the token: what is too small to claim is judged by it.
    #[arg(long)]
    token_per_gas: u128,
    /// What a payee gets for claiming after a signer's end, in base units.
    #[arg(long, default_value_t = UNIT / 10_000)]
    gas_share: u128,
    /// What who shows an overdraft gets, in base units.
    #[arg(long, default_value_t = UNIT / 2)]
    report_reward: u128,
    /// The highest minimum stake that a vote can set, in base units.
    #[arg(long, default_value_t = 1000 * UNIT)]
    max_minimum_stake: u128,
    /// The votes that a proposer needs, in base units.
    #[arg(long, default_value_t = 10 * UNIT)]
    threshold: u128,
    /// Of all votes, in parts of 100.
    #[arg(long, default_value_t = 4)]
    quorum_percent: u8,
    /// Seconds from a proposal to its vote.
    #[arg(long, default_value_t = DAY as u32)]
    delay_s: u32,
    /// Seconds that a vote is open.
    #[arg(long, default_value_t = 7 * DAY as u32)]
    period_s: u32,
    /// Seconds from a carried vote to its execution.
    #[arg(long, default_value_t = 2 * DAY)]
    timelock_s: u64,
    /// Where the network file goes, instead of networks/NAME.toml.
    #[arg(long)]
    file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Contracts(contracts) => on_a_chain(*contracts).await,
        Task::Devnet(own) => devnet(&own).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn on_a_chain(contracts: Contracts) -> Result<(), Box<dyn std::error::Error>> {
    let key = read_key(&contracts.key_file)?;
    let file = contracts
        .file
        .unwrap_or_else(|| Path::new("networks").join(format!("{}.toml", contracts.name)));
    let options = DeployOptions {
        name: contracts.name,
        title: contracts.title,
        test: contracts.test || contracts.token.is_none(),
        token: contracts.token,
        coin: Coin {
            symbol: contracts.coin,
            decimals: 18,
        },
        confirmations: contracts.confirmations,
        block_ms: contracts.block_ms,
        token_per_gas: contracts.token_per_gas,
        gas_share: contracts.gas_share,
        report_reward: contracts.report_reward,
        max_minimum_stake: contracts.max_minimum_stake,
        voting: Voting {
            delay_s: contracts.delay_s,
            period_s: contracts.period_s,
            threshold: contracts.threshold,
            quorum_percent: contracts.quorum_percent,
            timelock_s: contracts.timelock_s,
        },
    };
    let network = deploy(&contracts.rpc, &key, &options).await?;
    write(&file, &network)
}

async fn devnet(own: &Own) -> Result<(), Box<dyn std::error::Error>> {
    let block_seconds = own.block_seconds.max(1);
    let mut options = DevnetOptions {
        port: Some(own.port),
        block_time: Some(Duration::from_secs(block_seconds)),
        ..DevnetOptions::default()
    };
    options.deploy.block_ms = block_seconds * 1000;
    options.deploy.voting.period_s = own.vote_seconds;
    let devnet = Devnet::start(&options).await?;
    write(&own.file, &devnet.network)?;
    println!("{} serves chain {}", devnet.url(), devnet.network.chain_id);
    // Whoever started this program ends it by closing its input, also where it was killed itself.
    let (sender, mut lines) = mpsc::channel(1);
    // A thread of its own: a read of standard input that never ends must not hold the program.
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { break };
        let account = line.strip_prefix("coin ").map(str::parse::<Address>);
        match account {
            Some(Ok(account)) => {
                devnet.set_coin(account, COIN).await?;
                println!("{line}");
            }
            Some(Err(_)) | None => eprintln!("{line} is no command: coin ADDRESS"),
        }
    }
    drop(devnet);
    Ok(())
}

fn write(file: &Path, network: &Network) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, network.to_toml()?)?;
    println!("{}", file.display());
    Ok(())
}

fn read_key(path: &Path) -> Result<Key, Box<dyn std::error::Error>> {
    if fs::metadata(path)?.len() > MAX_KEY_FILE {
        return Err(format!("{} is no key", path.display()).into());
    }
    let text = Zeroizing::new(fs::read_to_string(path)?);
    let digits = text.trim();
    let bytes = Zeroizing::new(
        alloy::hex::decode(digits).map_err(|_| format!("{} is no key", path.display()))?,
    );
    let secret: &[u8; 32] = bytes.as_slice().try_into()?;
    Ok(Key::from_secret(secret)?)
}
