//! What may be typed of money: the wallet, what was earned and is claimed, electricity, votes, and the networks it can be on.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const WALLET_EXAMPLES: &str = "\
Examples:
  decentralgpt wallet new                              24 new words, under a password that you type
  decentralgpt wallet words --confirm                  three of them are asked back
  decentralgpt wallet import --words-file words.txt    words from a file that only you can read (mode 0600)
  decentralgpt wallet export > key.json                the wallet key for another wallet, under a password of its own

Words and passwords are typed and never shown, or read from files of mode 0600. They are never arguments: other programs
can read those.";

#[derive(Debug, Args)]
#[command(after_help = WALLET_EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Wallet {
    #[command(subcommand)]
    pub(crate) act: WalletAct,
    /// As JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The wallet's password, from a file of mode 0600 [default: typed]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletAct {
    /// Make a wallet of 24 new words, and show them
    New,
    /// Take over a wallet by its words, or by a Web3 key file of another one
    Import {
        /// The words, from a file of mode 0600 [default: typed]
        #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
        words_file: Option<PathBuf>,
        /// A Web3 key file (JSON, version 3), as other wallets export it
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// The key file's password, from a file of mode 0600 [default: typed]
        #[arg(long, value_name = "FILE", requires = "key_file")]
        key_password_file: Option<PathBuf>,
    },
    /// Whether there is a wallet, whether it is open, and whether its words were confirmed
    Show,
    /// The addresses of this computer's keys, and the paths by which they follow from the words
    Addresses,
    /// Open the wallet of the window or `serve` that runs, until it is idle
    Unlock,
    /// Close it: its keys leave the memory of the window or `serve`, until its password is typed again
    Lock,
    /// Have this computer's keychain keep what opens the wallet: no password is asked after a start
    Remember {
        /// Ask for the password again; what the keychain keeps is removed
        #[arg(long)]
        off: bool,
    },
    /// Show the words
    Words {
        /// Ask three of them back instead, and keep that a copy exists
        #[arg(long)]
        confirm: bool,
    },
    /// Write the wallet key as a Web3 key file (JSON, version 3) to standard output
    Export {
        /// The key file's own password, from a file of mode 0600 [default: typed]
        #[arg(long, value_name = "FILE")]
        key_password_file: Option<PathBuf>,
    },
    /// Another password
    Password {
        /// The new password, from a file of mode 0600 [default: typed]
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
    /// What the accounts have, what the vault holds, and what is missing
    Balance,
    /// The transactions of this computer, the newest first
    History,
    /// What paid for an answer: what was signed, for whom, and what the chain says of it
    Payment {
        /// The answer's job, as its receipt names it
        job: String,
    },
    /// Put tokens into the vault, and let this computer pay out of them
    Deposit {
        /// In tokens, as 12.5
        amount: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Take tokens out of the vault that are in no grant; what an ended key left is taken back first, 14 days after its end
    Withdraw {
        /// In tokens, as 12.5
        amount: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Send tokens to somebody
    Send {
        /// In tokens, as 12.5
        amount: String,
        /// The address
        to: String,
        /// The chain's coin instead of tokens
        #[arg(long)]
        coin: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// End the key by which this computer pays; what it promised stays owed
    EndKey {
        #[command(flatten)]
        sure: Sure,
    },
    /// Keep what this computer earns in the vault, where it pays for answers without a deposit
    Join {
        #[command(flatten)]
        sure: Sure,
    },
    /// Let what this computer earns go to the wallet again
    Unjoin {
        #[command(flatten)]
        sure: Sure,
    },
    /// Test tokens, on a network that gives some
    Faucet {
        #[command(flatten)]
        sure: Sure,
    },
    /// Sign a first deposit that somebody else brings to the chain: for who has tokens and no coin
    SignStart {
        /// In tokens, as 12.5
        amount: String,
        /// How much of it is for who brings it
        #[arg(long, value_name = "AMOUNT", default_value = "0")]
        share: String,
        /// Where the signed text goes; it is no secret, and does what it says and nothing else
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        sure: Sure,
    },
    /// Bring somebody's first deposit to the chain, for the share that was signed
    Relay {
        /// What `sign-start` wrote
        file: PathBuf,
        #[command(flatten)]
        sure: Sure,
    },
    /// Send a transaction that waits again, at a higher price
    SpeedUp {
        /// Its id in `wallet history`
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Take back a transaction that waits
    Cancel {
        /// Its id in `wallet history`
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Whether what was shown is sent.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Sure {
    /// Send what is shown, without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Earnings {
    /// Put together by
    #[arg(long, value_enum, default_value = "day")]
    pub(crate) by: ByArgument,
    /// Of so many days, today the last of them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
    /// The proof of one job: what was signed, and what the chain says
    #[arg(long, value_name = "JOB", conflicts_with_all = ["by", "days"])]
    pub(crate) proof: Option<String>,
    /// Write every row of the books to this file: CSV, or JSON where its name ends so
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    pub(crate) save: Option<PathBuf>,
    /// Write the vouchers that were not claimed yet to this file: anybody can bring them to the vault with `decentralgpt claim`, while
    /// this computer is away. What they are worth goes to this wallet
    #[arg(long, value_name = "FILE", conflicts_with_all = ["proof", "save"])]
    pub(crate) export_claims: Option<PathBuf>,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Vouchers that somebody handed over.
#[derive(Debug, Args)]
pub(crate) struct Claim {
    /// The file, as `decentralgpt earnings --export-claims` wrote it
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sure: Sure,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// The wallet's password, from a file of mode 0600 [default: typed]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum ByArgument {
    /// Job by job
    Job,
    /// Day by day
    Day,
    /// Model by model
    Model,
    /// Device by device
    Device,
    /// All of it in one row
    Total,
}

/// The person's own figures about energy; nobody else is asked for any.
#[derive(Debug, Args)]
pub(crate) struct Electricity {
    /// What a kilowatt-hour costs you
    #[arg(long, value_name = "FIGURE")]
    pub(crate) tariff: Option<f64>,
    /// What one token is worth to you, in the same money
    #[arg(long, value_name = "FIGURE")]
    pub(crate) worth: Option<f64>,
    /// What that money is called, as € or EUR
    #[arg(long, value_name = "NAME")]
    pub(crate) currency: Option<String>,
    /// Watts that this computer draws more while it answers than while it does nothing; counts only where there is no meter
    #[arg(long, value_name = "W")]
    pub(crate) watts: Option<f64>,
    /// Forget all of them
    #[arg(long, conflicts_with_all = ["tariff", "worth", "currency", "watts"])]
    pub(crate) forget: bool,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Vote {
    #[command(subcommand)]
    pub(crate) act: Option<VoteAct>,
    /// As JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The wallet's password, from a file of mode 0600 [default: typed]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VoteAct {
    /// What is voted on, and what it would change here [default]
    List,
    /// Vote for a proposal
    For {
        /// Its number
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Vote against it
    Against {
        /// Its number
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Be counted, and take no side
    Abstain {
        /// Its number
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Send a carried proposal into its waiting time; anybody may
    Queue {
        /// Its number
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Bring a carried proposal that has waited into force; anybody may
    Execute {
        /// Its number
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Turn tokens into votes, one to one
    Wrap {
        /// In tokens, as 12.5
        amount: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Turn votes into tokens, one to one
    Unwrap {
        /// In tokens, as 12.5
        amount: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Lend your votes to an address; your own, to use them
    Delegate {
        /// The address [default: your wallet's]
        to: Option<String>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Propose one change
    Propose {
        /// `audit_rate`, `auditor_share`, `slash` or `fee` (in parts of 10,000), `minimum_stake` (base units), `model_add` or
        /// `model_remove`
        what: String,
        /// The value; of `model_add` "DIGEST LICENCE FAMILY CARD", of `model_remove` the digest, digests being SHA-256
        value: String,
        /// One line
        #[arg(long)]
        title: String,
        /// Why
        #[arg(long, default_value = "")]
        why: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Networks {
    #[command(subcommand)]
    pub(crate) act: Option<NetworksAct>,
    /// As JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworksAct {
    /// The network that is chosen, and how it stands with its endpoints [default]
    Show,
    /// Choose the network of this file: it is copied into the data folder
    Use {
        /// A network's file
        file: PathBuf,
    },
    /// Choose none: money is off, and everything else works
    Off,
}
