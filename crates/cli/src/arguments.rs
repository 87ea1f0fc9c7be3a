//! What a person may type, and the help they get for it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    #[command(subcommand)]
    Peers(Peers),
    /// What this node does right now
    Status(Listing),
    /// Check this computer, and say how to mend what is wrong
    #[command(after_help = "Exits with 1 when a check fails; a warning is no failure.")]
    Doctor(Listing),
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
    /// The model, by an id of `decentralgpt models list`
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
    /// Keep models in another folder: the files go there
    Move {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Peers {
    /// The computers this one is connected with, and what they offer
    List(Listing),
    /// Connect by a multiaddress, an invite's text or the id of a known peer
    Connect {
        /// Address, invite or id
        address: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// What another person needs to connect to this computer, while it serves; on a terminal also as a QR code
    Invite(Listing),
    /// Whom a new chat would be answered by and why not by the others; nobody is asked
    Compare {
        /// The model, by an id of `decentralgpt models list`; without it, that of new chats
        #[arg(long, value_name = "ID")]
        model: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Ask under another name from now on, as happens every day: peers cannot tell that both are this computer, except by its
    /// address
    NewName,
    /// Forget what was measured of all peers
    ForgetRecords,
    /// Begin all connections anew; for what a system runs when it wakes
    Woke,
    /// What happened to connections since the node started, the newest first
    Log(Listing),
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
