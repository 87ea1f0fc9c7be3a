//! What a person may type, and the help they get for it.

mod money;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::money::{
    ByArgument, Claim, Earnings, Electricity, Networks, NetworksAct, Sure, Vote, VoteAct, Wallet,
    WalletAct,
};

const EXIT_CODES: &str = "\
Exit codes:
  0    it worked
  1    it did not; standard error says why in a sentence, and what to do next
  2    the command line itself is wrong
  130  ended by Ctrl-C

One DecentralGPT works per data folder. When the window or `serve` already runs on it, these commands are done by that one.";

/// Chat with open language models, on this computer or on a stranger's.
#[derive(Debug, Parser)]
#[command(name = "decentralgpt", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The folder of chats, models, settings and identity [default: the system's folder for such things]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a question, or talk in turns when there is a terminal
    Chat(Chat),
    /// Answer other people's questions with this computer, until Ctrl-C
    Serve(Serve),
    /// List, fetch, add and remove models
    #[command(subcommand)]
    Models(Models),
    /// See, connect and block other computers
    Peers(Peers),
    /// Make, open and back up the wallet; send, deposit, withdraw
    Wallet(Wallet),
    /// What this computer earned, and the proof of it
    Earnings(Earnings),
    /// What energy costs you, and what measures it: for earnings net of electricity
    Electricity(Electricity),
    /// Bring vouchers that somebody handed over to the vault; the fee is yours, what they are worth is theirs
    Claim(Claim),
    /// What the network votes on, and your vote
    Vote(Vote),
    /// The networks that money can be on
    Networks(Networks),
    /// What this node does right now
    Status(Listing),
    /// Check this computer, and say how to mend what is wrong
    #[command(after_help = "Exits with 1 when a check fails; a warning is no failure.")]
    Doctor(Doctor),
}

const CHAT_EXAMPLES: &str = "\
Examples:
  decentralgpt chat                                    talk in turns
  decentralgpt chat \"What is the capital of France?\"   one answer
  git diff | decentralgpt chat \"Explain this change.\"  the pipe's text goes below the question
  decentralgpt chat --peer /ip4/203.0.113.7/tcp/4001/p2p/12D3Koo… \"Hello\"
                                                       answered by that computer

Through a pipe, standard output is the answer alone; everything else goes to standard error. Ctrl-C stops the answer; a
second one ends the program.";

#[derive(Debug, Args)]
#[command(after_help = CHAT_EXAMPLES)]
pub(crate) struct Chat {
    /// The question; without it, it is read from the pipe, or you talk in turns
    pub(crate) prompt: Option<String>,
    /// Ask this computer, by address, invite or id. Its owner can read what you write. May be given several times: the answer
    /// goes on with another one when the first is lost
    #[arg(long = "peer", value_name = "ADDR")]
    pub(crate) peers: Vec<String>,
    /// Where the answer is computed; `peer` and `automatic` consent to a stranger's computer reading this chat
    #[arg(long, value_enum)]
    pub(crate) place: Option<PlaceArgument>,
    /// The model, by an id of `decentralgpt models list`; by `sha256:` and its digest one that is in no list
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Instructions that the model gets before the chat
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Most tokens of one answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_out: Option<u32>,
    /// 0 always takes the likeliest token; higher is more surprising
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub(crate) temperature: Option<f32>,
    /// The same seed, model and place give the same answer
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Do not keep this chat
    #[arg(long)]
    pub(crate) temporary: bool,
    /// Every event of the answer as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlaceArgument {
    /// This computer
    Local,
    /// A peer's computer
    Peer,
    /// This computer where it can, else a peer's
    Automatic,
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=5.0).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err("a number from 0 to 5".to_owned()),
    }
}

const SERVE_EXAMPLES: &str = "\
Examples:
  decentralgpt serve
  decentralgpt serve --listen /ip4/0.0.0.0/udp/4001/quic-v1 --listen /ip4/0.0.0.0/tcp/4001

Standard output is the addresses that others can dial, one per line; what happens is told on standard error. Your own
questions always go first. Ctrl-C tells the peers, frees the model and ends.";

#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct Serve {
    /// Answer with this model alone, and keep that in the settings [default: the ones there, else every ready one whose licence allows it]
    #[arg(long, value_name = "ID")]
    pub(crate) model: Vec<String>,
    /// Listen on this multiaddress, and keep it in the settings in place of those there; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Every change of state as one line of JSON on standard output, after the addresses
    #[arg(long)]
    pub(crate) json: bool,
}

const PRICE_EXAMPLES: &str = "\
Examples:
  decentralgpt models price                            what is asked now, model by model
  decentralgpt models price ID 12.5                    your own figure for this model
  decentralgpt models price ID --median --floor 0.1    the median of others' offers, and never below 0.1
  decentralgpt models price ID --as-all                as for all models
  decentralgpt models price --cached 25                what was read before costs a quarter of reading it";

const CAP_EXAMPLES: &str = "\
Examples:
  decentralgpt models cap                  every limit that is set
  decentralgpt models cap ID 12.5          nobody who asks more for this model is asked
  decentralgpt models cap ID --as-all      the limit for all models, if there is one";

const COMMUNITY_EXAMPLES: &str = "\
Examples:
  decentralgpt models community --on                     list them from now on
  decentralgpt models community                          look for peers, and list what they offer
  decentralgpt models community --look sha256:1a2b…      what this file says of itself
  decentralgpt chat --place peer --model sha256:1a2b… \"Hello\"
                                                         asks for it, whether they are listed or not";

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// Every known model, with its size and whether it fits this computer
    List(Listing),
    /// Fetch a model of the catalogue; Ctrl-C keeps what is there, and the next pull goes on from it
    #[command(after_help = "Example:\n  decentralgpt models pull smollm2-135m-instruct-q4_1")]
    Pull {
        /// An id of `decentralgpt models list`
        id: String,
    },
    /// Use a GGUF file from this disk, where it lies
    Add {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        listing: Listing,
    },
    /// Delete a fetched model's file, or forget an added one, whose file stays
    Remove {
        /// An id of `decentralgpt models list`
        id: String,
    },
    /// The model of new chats
    Default {
        /// An id of `decentralgpt models list`
        id: String,
    },
    /// What this computer asks for the models that it lends, per million tokens written
    #[command(after_help = PRICE_EXAMPLES)]
    Price {
        /// An id of `decentralgpt models list`; without it, what is asked for each
        id: Option<String>,
        /// What to ask for it, in tokens, as 12.5
        #[arg(requires = "id", conflicts_with_all = ["median", "as_all"])]
        amount: Option<String>,
        /// The median of what others ask for it
        #[arg(long, requires = "id", conflicts_with = "as_all")]
        median: bool,
        /// The least that is asked where the median is taken, in tokens
        #[arg(long, value_name = "AMOUNT", requires = "median")]
        floor: Option<String>,
        /// What is set for all models
        #[arg(long, requires = "id")]
        as_all: bool,
        /// For all models: what a token in the cache costs, in percent of one that is read
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
        cached: Option<u32>,
        #[command(flatten)]
        listing: Listing,
    },
    /// The most that is paid to peers for a model, per million tokens read or written
    #[command(after_help = CAP_EXAMPLES)]
    Cap {
        /// An id of `decentralgpt models list`; without it, the limits are shown
        id: Option<String>,
        /// The most for this model, in tokens, as 12.5: in the place of the limit for all models
        #[arg(requires = "id", conflicts_with = "as_all")]
        amount: Option<String>,
        /// No limit of its own
        #[arg(long, requires = "id")]
        as_all: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// What peers offer that is in no row of `models list`: who made it, its licence and whether it is what it calls itself is not known
    #[command(after_help = COMMUNITY_EXAMPLES)]
    Community {
        /// List them from now on, here and in the window
        #[arg(long, conflicts_with_all = ["off", "look"])]
        on: bool,
        /// List them no longer
        #[arg(long, conflicts_with = "look")]
        off: bool,
        /// Fetch what this file says of itself, from a peer that offers it; at most 32 MiB
        #[arg(long, value_name = "DIGEST")]
        look: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Keep models in another folder: the files go there
    Move {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) act: Option<PeersAct>,
    /// As JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersAct {
    /// The computers this one is connected with, what for, and what they offer; blocked ones too [default]
    List,
    /// Connect by a multiaddress, an invite's text or the id of a known peer
    Connect {
        /// Address, invite or id
        address: String,
    },
    /// What another person needs to connect to this computer, while it serves; on a terminal also as a QR code
    Invite,
    /// Whom a new chat would be answered by and why not by the others; nobody is asked
    Compare {
        /// The model, by an id of `decentralgpt models list`; without it, that of new chats
        #[arg(long, value_name = "ID")]
        model: Option<String>,
    },
    /// Ask under another name from now on, as happens every day: peers cannot tell that both are this computer, except by its
    /// address
    NewName,
    /// Forget what was measured of all peers
    ForgetRecords,
    /// Begin all connections anew; for what a system runs when it wakes
    Woke,
    /// What happened to connections since the node started, the newest first
    Log,
    /// Never talk to a peer
    Block {
        /// Its id
        id: String,
        /// Talk to it again
        #[arg(long)]
        undo: bool,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Doctor {
    /// Start the clock of the list of jobs over, where this computer's was once far ahead and every job is refused since. For ten
    /// minutes none is taken for money then
    #[arg(long)]
    pub(crate) forget_clock: bool,
    /// Forget it without asking
    #[arg(long, requires = "forget_clock")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Listing {
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_temperature_is_a_small_number() {
        assert_eq!(temperature("0"), Ok(0.0));
        assert!(temperature("-1").is_err());
        assert!(temperature("NaN").is_err());
        assert!(temperature("hot").is_err());
    }

    #[test]
    fn no_secret_is_an_argument() {
        for line in [
            ["decentralgpt", "wallet", "unlock", "hunter2"],
            ["decentralgpt", "wallet", "new", "--password=hunter2"],
            ["decentralgpt", "wallet", "import", "abandon"],
        ] {
            assert!(Arguments::try_parse_from(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn who_is_connected_is_what_peers_says_and_json_may_stand_anywhere() {
        for (line, json) in [
            (vec!["peers"], false),
            (vec!["peers", "--json"], true),
            (vec!["peers", "list", "--json"], true),
            (vec!["peers", "--json", "list"], true),
        ] {
            let line = [vec!["decentralgpt"], line].concat();
            let Command::Peers(peers) = Arguments::try_parse_from(&line).unwrap().command else {
                panic!("{line:?}");
            };
            assert!(matches!(peers.act, None | Some(PeersAct::List)), "{line:?}");
            assert_eq!(peers.json, json, "{line:?}");
        }
    }

    #[test]
    fn the_data_folder_may_stand_anywhere() {
        for line in [
            ["decentralgpt", "--data", "/d", "status"],
            ["decentralgpt", "status", "--data", "/d"],
        ] {
            assert_eq!(
                Arguments::try_parse_from(line).unwrap().data,
                Some(PathBuf::from("/d"))
            );
        }
    }
}
