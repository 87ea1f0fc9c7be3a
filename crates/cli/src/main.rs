//! The headless face of DecentralGPT: `decentralgpt chat`, `serve`, and what else [`arguments`] lists.
//!
//! It owns the command line: what may be typed, what goes to which stream, which exit code means what. It decides nothing of
//! the product. Every command speaks to a node through its control socket: the one of a running window or `serve`, or one that
//! is started for the command and stopped after it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod answer;
mod arguments;
mod chat;
mod community;
mod core;
mod doctor;
mod earnings;
mod failure;
mod listing;
mod models;
mod money;
mod output;
mod payment;
mod peers;
mod prices;
mod serve;
mod stop;
mod vote;
mod wallet;
mod wallet_typed;
mod words;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    arguments::{Arguments, Command},
    core::Core,
    failure::Failure,
    output::Output,
    stop::Stop,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Quiet unless asked: standard error belongs to the person.
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("DECENTRALGPT_LOG").unwrap_or_else(|_| EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    let mut output = Output::new();
    let json = wants_json(&arguments.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::new(
                "no_runtime",
                format!("This computer gives the program no threads: {error}."),
                "end other programs, then try again.",
            )
            .tell(&mut output, json);
        }
    };
    let ended = runtime.block_on(act(arguments, &mut output));
    // A read of standard input that never ends must not hold the program.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(&mut output, json),
    }
}

/// Opens the node, does what was asked, and closes it whatever happened.
async fn act(arguments: Arguments, output: &mut Output) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let opened = Core::open(arguments.data, output);
    let core = tokio::select! {
        core = opened => core?,
        () = stop.asked() => return Err(Failure::Interrupted),
    };
    let done = match arguments.command {
        Command::Chat(chat) => chat::chat(&core, chat, output, &stop).await,
        Command::Serve(serve) => serve::serve(&core, serve, output, &stop).await,
        Command::Models(models) => models::models(&core, models, output, &stop).await,
        Command::Peers(peers) => peers::peers(&core, peers, output, &stop).await,
        Command::Wallet(wallet) => wallet::wallet(&core, wallet, output, &stop).await,
        Command::Earnings(earnings) => money::earnings(&core, earnings, output).await,
        Command::Electricity(electricity) => {
            earnings::electricity(&core, electricity, output).await
        }
        Command::Claim(claim) => money::claim(&core, claim, output, &stop).await,
        Command::Vote(vote) => vote::vote(&core, vote, output, &stop).await,
        Command::Networks(networks) => money::networks(&core, networks, output).await,
        Command::Status(listing) => doctor::status(&core, listing, output).await,
        Command::Doctor(how) => doctor::doctor(&core, how, output).await,
    };
    output.clear_progress();
    core.close().await;
    done
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Chat(chat) => chat.json,
        Command::Serve(serve) => serve.json,
        Command::Wallet(wallet) => wallet.json,
        Command::Earnings(earnings) => earnings.json,
        Command::Electricity(electricity) => electricity.json,
        Command::Claim(claim) => claim.json,
        Command::Vote(vote) => vote.json,
        Command::Networks(networks) => networks.json,
        Command::Peers(peers) => peers.json,
        Command::Models(
            arguments::Models::List(listing)
            | arguments::Models::Add { listing, .. }
            | arguments::Models::Price { listing, .. }
            | arguments::Models::Cap { listing, .. }
            | arguments::Models::Community { listing, .. },
        )
        | Command::Status(listing) => listing.json,
        Command::Doctor(doctor) => doctor.listing.json,
        Command::Models(
            arguments::Models::Pull { .. }
            | arguments::Models::Remove { .. }
            | arguments::Models::Default { .. }
            | arguments::Models::Move { .. },
        ) => false,
    }
}
