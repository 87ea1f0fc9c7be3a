//! What paying costs an answer's pace: one provider with a price and one asker with a deposit, a round trip of 100 ms between them, and
//! a real chain beside them. Local answers of the same provider are the measure, by turns.

use std::{net::Ipv4Addr, path::Path};

use decentralgpt_tests::{
    Folder, Serving,
    money::{UNIT, World, amount},
};

use crate::{
    error::LabError,
    figures::{Figures, Row},
    ready::Ready,
    reference::QUESTIONS,
    remote::{Place, Side, ask, line, median},
    switch::{Switch, door, namespace::Namespace},
};

const PROVIDER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const ASKER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// For a million tokens written.
const PRICE: u128 = 10 * UNIT;
/// Whole tokens in the vault: more than all answers cost.
const DEPOSIT: &str = "50";

/// So many answers of each side.
///
/// # Errors
/// [`LabError`] when a program does not start, does not answer, or is not paid.
pub(crate) fn run(
    switch: &mut Switch,
    starter: &Path,
    ready: &Ready,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), LabError> {
    let Some(world) = World::start() else {
        figures.skip("tokens a second at 100 ms with paid windows (no development chain here)");
        return Ok(());
    };
    let lends = format!("[money]\nmode = \"earn\"\nprice = \"{PRICE}\"\n");
    let provider = world.set_up(listening(PROVIDER, &lends));
    let asker = world.asker_on(world.set_up(listening(ASKER, "")), DEPOSIT);
    let mut attach = |address, folder| -> Result<(Serving, Namespace), LabError> {
        let (_, namespace) = switch
            .attach(address, line(), None)
            .map_err(LabError::system("no network namespace can be made here"))?;
        let serving = serve(&namespace, folder, &world, starter, ready)?;
        Ok((serving, namespace))
    };
    let provider = attach(PROVIDER, provider)?;
    let asker = attach(ASKER, asker)?;
    let place = Place::At(&provider.0.address);
    ask(provider.0.folder(), Place::Here, QUESTIONS[0])?;
    ask(asker.0.folder(), place, QUESTIONS[0])?;
    let (mut local, mut remote) = (Side::default(), Side::default());
    for round in 0..rounds {
        let question = QUESTIONS[round % QUESTIONS.len()];
        local.take(&ask(provider.0.folder(), Place::Here, question)?);
        let message = ask(asker.0.folder(), place, question)?;
        let spans = message["spans"].as_array().into_iter().flatten();
        let paid: u128 = spans.map(|span| amount(&span["paid"])).sum();
        if paid == 0 {
            return Err(LabError::Wrong("an answer was not paid for".to_owned()));
        }
        remote.take(&message);
    }
    let pace = Row::new(
        "tokens_per_second.rtt100.paid",
        "tok/s",
        median(&remote.pace),
    );
    figures.push(pace.against("local", median(&local.pace)).goal(">= 0.97"));
    let first = Row::new("first_token.rtt100.paid", "ms", median(&remote.first_ms));
    figures.push(first.against("local", median(&local.first_ms)));
    Ok(())
}

fn listening(address: Ipv4Addr, settings: &str) -> Folder {
    let folder = Folder::new();
    folder.set(
        &[
            &format!("/ip4/{address}/udp/4001/quic-v1"),
            &format!("/ip4/{address}/tcp/4001"),
        ],
        settings,
    );
    folder
}

fn serve(
    namespace: &Namespace,
    folder: Folder,
    world: &World,
    starter: &Path,
    ready: &Ready,
) -> Result<Serving, LabError> {
    let inside = LabError::system("a program does not serve in its namespace");
    for port in world.ports() {
        door::open(namespace, port).map_err(LabError::system("no way to the chain"))?;
    }
    ready.put_into(&folder)?;
    let starter = starter.to_owned();
    namespace
        .run(move || Serving::start_offering(folder, &starter))
        .map_err(inside)
}
