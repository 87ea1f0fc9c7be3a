//! What paying costs an answer's pace: one provider with a price and one asker with a deposit, a round trip of 100 ms between them, and
//! a real chain beside them. Local answers of the same provider are the measure, by turns; and answers to somebody who typed before, so
//! that the provider's quote is at hand.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use decentralgpt_tests::{
    Folder, SYSTEM, Serving,
    money::{UNIT, World, amount},
};
use node::{AnswerEvent, ChatPatch, ErrorView, Place as ChatPlace, control::Client};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    error::LabError,
    figures::{Figures, Row},
    ready::Ready,
    reference::QUESTIONS,
    remote::{Place, Side, TOKENS, ask, line, median},
    switch::{Switch, door, namespace::Namespace},
};

const PROVIDER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const ASKER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// For a million tokens written.
const PRICE: u128 = 10 * UNIT;
/// Whole tokens in the vault: more than all answers cost.
const DEPOSIT: &str = "50";

/// Somebody who typed has typed for this long: some round trips.
const TYPES_FOR: Duration = Duration::from_millis(500);

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
    let typist = Typist::at(asker.0.folder(), &provider.0.address)?;
    let (mut local, mut remote, mut typed) = (Side::default(), Side::default(), Side::default());
    for round in 0..rounds {
        let question = QUESTIONS[round % QUESTIONS.len()];
        local.take(&ask(provider.0.folder(), Place::Here, question)?);
        let message = ask(asker.0.folder(), place, question)?;
        was_paid(&message)?;
        remote.take(&message);
        let message = typist.ask(question)?;
        was_paid(&message)?;
        typed.take(&message);
    }
    let pace = Row::new(
        "tokens_per_second.rtt100.paid",
        "tok/s",
        median(&remote.pace),
    );
    figures.push(pace.against("local", median(&local.pace)).goal(">= 0.97"));
    let first = Row::new("first_token.rtt100.paid", "ms", median(&remote.first_ms));
    figures.push(first.against("local", median(&local.first_ms)));
    let first = Row::new(
        "first_token.rtt100.paid.quote_at_hand",
        "ms",
        median(&typed.first_ms),
    );
    figures.push(first.against("local", median(&local.first_ms)));
    Ok(())
}

fn was_paid(message: &Value) -> Result<(), LabError> {
    let spans = message["spans"].as_array().into_iter().flatten();
    match spans.map(|span| amount(&span["paid"])).sum() {
        0u128 => Err(LabError::Wrong("an answer was not paid for".to_owned())),
        _ => Ok(()),
    }
}

/// Asks as a window does: the node hears that somebody types.
struct Typist {
    runtime: Runtime,
    client: Client,
    peer: String,
}

impl Typist {
    /// At the node that runs on this folder; the peer at this address answers.
    fn at(folder: &Folder, address: &str) -> Result<Self, LabError> {
        let runtime = Runtime::new().map_err(LabError::system("no runtime"))?;
        let attached = runtime.block_on(Client::attach(folder.path()));
        let client = attached
            .map_err(|error| LabError::Wrong(error.to_string()))?
            .ok_or_else(|| LabError::Wrong("a node does not run".to_owned()))?;
        let peer = runtime.block_on(client.peers_connect(address));
        Ok(Self {
            peer: peer.map_err(refused)?.id,
            runtime,
            client,
        })
    }

    /// The finished message.
    fn ask(&self, question: &str) -> Result<Value, LabError> {
        self.runtime
            .block_on(self.type_and_send(question))
            .map_err(refused)?
            .ok_or_else(|| LabError::Wrong("a question was not answered".to_owned()))
    }

    async fn type_and_send(&self, question: &str) -> Result<Option<Value>, ErrorView> {
        let client = &self.client;
        let chat = client.chat_create(false).await?;
        let mut sampling = chat.sampling.clone();
        (sampling.temperature, sampling.max_out) = (0.0, TOKENS);
        let patch = ChatPatch {
            place: Some(ChatPlace::Peer),
            peer: Some(Some(self.peer.clone())),
            consented: Some(true),
            system_prompt: Some(Some(SYSTEM.to_owned())),
            sampling: Some(sampling),
            ..ChatPatch::default()
        };
        client.chat_update(&chat.id, patch).await?;
        client.chat_context(&chat.id, question).await?;
        tokio::time::sleep(TYPES_FOR).await;
        let mut events = client
            .chat_send(&chat.id, None, Some(question.to_owned()))
            .await?;
        while let Some(event) = events.next().await? {
            if let AnswerEvent::Finished { message, .. } = event {
                return Ok(serde_json::to_value(message).ok());
            }
        }
        Ok(None)
    }
}

fn refused(error: ErrorView) -> LabError {
    LabError::Wrong(error.message)
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
