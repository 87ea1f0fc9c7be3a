//! What a provider still has in its cache of a chat: who is told of it, and what it costs.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use decentralgpt_tests::{
    Folder, LONG_QUESTION, SYSTEM, Serving,
    money::{HANG, UNIT, World, amount, earned_in_full, serve, wait},
    starter, wire,
};
use network::{Network, NetworkError};
use node::{AnswerEvent, ChatPatch, ChatView, Message, Place, Receipt, control::Client};
use protocol::{
    ModelDigest, PeerId,
    price::{self, Price, Prices, Totals},
    quote::{QuoteRequest, prefix_hashes},
};
use serde_json::Value;

/// Base units per million tokens written.
const PRICE: u128 = 10 * UNIT;
/// Put in, in tokens.
const DEPOSIT: &str = "5";
/// Of each answer.
const MAX_OUT: u32 = 48;
/// Of prompts that push others out of the cache: the context holds some of them, and what is kept for strangers fewer.
const CROWD_TOKENS: u32 = 600;
/// After so many of them nothing of the first is left, or nothing is ever given up.
const CROWD: u32 = 24;

/// From one look to the next: no peer is asked for more than ten quotes in ten seconds.
const AGAIN: Duration = Duration::from_secs(1);

/// A client on the wire, with its own name.
struct Asker {
    network: Network,
    peer: PeerId,
    model: ModelDigest,
}

impl Asker {
    async fn of(provider: &Serving) -> Self {
        let network = wire::dialler().await;
        let peer = network.connect(&provider.address).await.unwrap();
        let offer = network.offers(&peer).await.unwrap().remove(0);
        Self {
            network,
            peer,
            model: offer.model.digest,
        }
    }

    /// Has a few tokens written behind a prompt: all that the provider has then, but for what was written last.
    async fn asks(&self, prompt: &[u32]) -> Vec<u32> {
        let output = wire::ask(&self.network, self.peer, self.model, prompt, &[], 4).await;
        [prompt, &output].concat()
    }

    /// How much of an input the provider says that it has.
    async fn quoted(&self, input: &[u32], hashes: Vec<[u8; 32]>) -> u32 {
        let request = QuoteRequest {
            nonce: wire::seed()[..16].try_into().unwrap(),
            model: self.model,
            n_in: input.len() as u32,
            max_out: MAX_OUT,
            prefix_hashes: hashes,
        };
        loop {
            match self.network.quote(&self.peer, &request).await {
                Ok(quote) => return quote.cached_prefix_tokens,
                Err(NetworkError::Busy { .. }) => tokio::time::sleep(AGAIN).await,
                Err(error) => panic!("no quote: {error}"),
            }
        }
    }

    async fn cached(&self, input: &[u32]) -> u32 {
        self.quoted(input, prefix_hashes(input)).await
    }

    /// The same, of an engine that has time to look: while it measures a model it has none, and nothing is promised.
    async fn finds(&self, input: &[u32]) -> u32 {
        let began = Instant::now();
        loop {
            let cached = self.cached(input).await;
            if cached > 0 {
                return cached;
            }
            assert!(began.elapsed() < HANG, "nothing is found");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[test]
fn what_is_cached_is_told_to_who_had_it_computed_and_to_nobody_else() {
    let Some(model) = starter() else { return };
    let provider = Serving::start_offering(Folder::new(), &model);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let text = wire::Text::new(&model);
        let prompt = text.prompt(SYSTEM, LONG_QUESTION).await;
        text.end().await;
        let first = Asker::of(&provider).await;
        let second = Asker::of(&provider).await;
        assert_eq!(first.cached(&prompt).await, 0, "nothing was asked yet");

        let said = first.asks(&prompt).await;
        // Asked again, all of it is there but the token that is always computed.
        let all = prompt.len() as u32 - 1;
        assert_eq!(first.finds(&prompt).await, all);
        // A chat that goes on is known as far as one of the four named prefixes is.
        let mut next = said.clone();
        next.extend(&prompt[..said.len() / 5]);
        let n_in = next.len() as u32;
        let longest = [n_in * 15 / 16, n_in * 3 / 4, n_in / 2]
            .into_iter()
            .find(|&len| (len as usize) < said.len())
            .unwrap();
        assert_eq!(first.finds(&next).await, longest);
        // Who says nothing of the input hears nothing of it, and a lie finds nothing.
        assert_eq!(first.quoted(&prompt, Vec::new()).await, 0);
        let mut other = prompt.clone();
        other[0] += 1;
        assert_eq!(first.cached(&other).await, 0);

        // The same hashes of somebody else: nobody learns what another asked.
        assert_eq!(second.cached(&prompt).await, 0);
        assert_eq!(second.cached(&next).await, 0);
        assert_eq!(
            first.cached(&prompt).await,
            all,
            "the engine had time to look"
        );
        second.asks(&prompt).await;
        assert_eq!(second.finds(&prompt).await, all, "now it asked that itself");

        let last = crowd_out(&first, &prompt).await;
        assert_eq!(first.cached(&next).await, 0);
        assert!(first.finds(&last).await > 0);
        first.network.shutdown().await;
        second.network.shutdown().await;
    });
}

/// Asks for other things until the first is not in the cache any more: it holds a part of the context for all strangers.
/// Gives what was asked last.
async fn crowd_out(asker: &Asker, prompt: &[u32]) -> Vec<u32> {
    for number in 1..=CROWD {
        let ids: Vec<u32> = (0..CROWD_TOKENS).map(|id| 100 + number + 7 * id).collect();
        asker.asks(&ids).await;
        // It had time to look when it finds what was asked just now.
        asker.finds(&ids).await;
        if asker.cached(prompt).await == 0 {
            return ids;
        }
    }
    panic!("the cache keeps everything");
}

#[test]
fn the_next_turn_of_a_chat_costs_less_by_what_is_cached() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, PRICE);
    let prices = prices(provider.folder());
    assert_eq!(prices.input, Price::new(PRICE / 5));
    assert_eq!(prices.cached, Price::new(PRICE / 50));

    // It asks by one name for as long as it runs.
    let asker = serve(world.asker(DEPOSIT), &model);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (paid, cached) = runtime.block_on(async {
        let attached = Client::attach(asker.folder().path()).await.unwrap();
        let client = attached.expect("it runs");
        let chat = new_chat(&client, &provider).await;
        let first = turn(&client, &chat, None, LONG_QUESTION).await;
        let one = receipt(&client, &first).await;
        assert_eq!(one.tokens_cached, 0);
        let second = turn(&client, &chat, Some(&first), "And then?").await;
        let two = receipt(&client, &second).await;

        // A named part of the input, and no more than was said before.
        let n_in = two.tokens_in;
        let named = [n_in * 15 / 16, n_in * 3 / 4, n_in / 2];
        assert!(named.contains(&two.tokens_cached), "{two:?}");
        assert!(two.tokens_cached <= one.tokens_in + one.tokens_out);
        let mut paid = 0;
        for (message, receipt) in [(&first, &one), (&second, &two)] {
            let totals = Totals {
                input: receipt.tokens_in - receipt.tokens_cached,
                cached: receipt.tokens_cached,
                output: receipt.tokens_out,
            };
            let due = price::due(&prices, &totals).unwrap();
            assert_eq!(receipt.due, due.to_string());
            let [span] = &message.spans[..] else {
                panic!("{message:?}")
            };
            assert_eq!(span.peer.as_ref(), Some(&provider.peer));
            assert_eq!(span.paid.as_deref(), Some(receipt.due.as_str()));
            assert_eq!(span.cached.unwrap_or(0), receipt.tokens_cached);
            paid += due;
        }
        (paid, two.tokens_cached)
    });

    // Both books say the same, and the chain pays it.
    wait("the asker's book says so", || {
        let balance = asker.folder().json(&["wallet", "balance"]);
        amount(&balance["spentToday"]) == paid
    });
    let mut earned = 0;
    wait("all of it is paid out", || {
        earned = earned_in_full(provider.folder());
        earned >= paid
    });
    assert_eq!(earned, paid);
    let rows = provider.folder().json(&["earnings", "--by", "job"]);
    let rows = rows.as_array().unwrap().iter();
    let told: u64 = rows.map(|row| row["tokensCached"].as_u64().unwrap()).sum();
    assert_eq!(told, cached);
}

/// What a provider asks, as it tells its owner.
fn prices(provider: &Folder) -> Prices {
    let asked = provider.json(&["models", "price"]);
    let row = &asked.as_array().unwrap()[0];
    let price = |name: &str| Price::new(amount(&row[name]));
    Prices {
        input: price("input"),
        cached: price("cached"),
        output: price("output"),
    }
}

async fn new_chat(client: &Client, provider: &Serving) -> ChatView {
    let peer = client.peers_connect(&provider.address).await.unwrap();
    let chat = client.chat_create(false).await.unwrap();
    let mut sampling = chat.sampling.clone();
    (sampling.temperature, sampling.max_out) = (0.0, MAX_OUT);
    let patch = ChatPatch {
        place: Some(Place::Peer),
        peer: Some(Some(peer.id)),
        consented: Some(true),
        system_prompt: Some(Some(SYSTEM.to_owned())),
        sampling: Some(sampling),
        ..ChatPatch::default()
    };
    client.chat_update(&chat.id, patch).await.unwrap()
}

/// Asks, below an answer or at the beginning; the answer.
async fn turn(client: &Client, chat: &ChatView, below: Option<&Message>, text: &str) -> Message {
    let below = below.map(|message| message.id.as_str());
    let mut events = client
        .chat_send(&chat.id, below, Some(text.to_owned()))
        .await
        .unwrap();
    while let Some(event) = events.next().await.unwrap() {
        if let AnswerEvent::Finished { message, .. } = event {
            assert!(message.error.is_none(), "{message:?}");
            return message;
        }
    }
    panic!("the answer has no end");
}

async fn receipt(client: &Client, message: &Message) -> Receipt {
    let job = message.spans[0].receipt.as_deref().expect("a receipt");
    let receipt = client.receipt_open(job).await.unwrap();
    // What both keys signed says the same.
    let signed: Value = serde_json::from_str(&receipt.json).unwrap();
    assert_eq!(signed["tokensCached"], receipt.tokens_cached);
    receipt
}
