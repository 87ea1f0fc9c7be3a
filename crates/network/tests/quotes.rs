//! Quotes: asked, answered, refused, and forged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{QUIC, TCP, TestNode, unix_ms, within};
use network::{NetworkError, QuoteAsked};
use protocol::{
    ModelDigest, Signer,
    price::Prices,
    quote::{MAX_QUOTE, QUOTE_TIMEOUT_MS, Quote, QuoteRequest},
};

fn request(nonce: u8) -> QuoteRequest {
    QuoteRequest {
        nonce: [nonce; 16],
        model: ModelDigest::new([3; 32]),
        n_in: 1000,
        max_out: 200,
        prefix_hashes: vec![[9; 32]; 4],
    }
}

fn quote(asked: &QuoteAsked) -> Quote {
    Quote {
        request_hash: asked.request_hash,
        eta_first_token_ms: 350,
        decode_tps: 42,
        queue_pos: 1,
        prices: Prices::default(),
        cached_prefix_tokens: 750,
        quote_id: [7; 16],
        expires_unix_ms: unix_ms() + 10_000,
    }
}

/// Two nodes that are connected: who asks, and who is asked.
async fn two(seed: u8, listen: &str) -> (TestNode, TestNode) {
    let server = TestNode::listening(seed, &[listen]).await;
    let client = TestNode::dialing(seed + 1).await;
    client.connect(&server).await;
    (client, server)
}

async fn next(server: &mut TestNode) -> QuoteAsked {
    within("a question", server.inbound.quotes.recv())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_quote_is_asked_answered_and_verified() {
    for (seed, listen) in [(1, QUIC), (3, TCP)] {
        let (client, mut server) = two(seed, listen).await;
        let (network, to) = (client.network.clone(), server.id());
        let answer = tokio::spawn(async move { network.quote(&to, &request(1)).await });
        let asked = next(&mut server).await;
        assert_eq!((asked.peer, &asked.request), (client.id(), &request(1)));
        let sent = quote(&asked);
        asked.reply.send(Some(sent.sign(&server.signer))).unwrap();
        assert_eq!(answer.await.unwrap().unwrap(), sent);
    }
}

#[tokio::test]
async fn who_does_not_want_the_job_says_so_before_the_time_is_over() {
    let (client, mut server) = two(5, TCP).await;
    let (network, to) = (client.network.clone(), server.id());
    let answer = tokio::spawn(async move { network.quote(&to, &request(1)).await });
    next(&mut server).await.reply.send(None).unwrap();
    let answer = within("the refusal", answer).await.unwrap();
    assert!(
        matches!(answer, Err(NetworkError::Broken { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_provider_that_stands_still_costs_two_seconds_at_most() {
    let (client, server) = two(7, QUIC).await;
    let begun = Instant::now();
    let answer = client.network.quote(&server.id(), &request(1)).await;
    assert!(answer.is_err(), "{answer:?}");
    // Twice the time allowed: the machine may be busy, but a request that nothing ends would not come back at all.
    assert!(begun.elapsed() < Duration::from_millis(2 * QUOTE_TIMEOUT_MS));
}

#[tokio::test]
async fn a_quote_that_is_forged_or_answers_something_else_is_a_violation() {
    let (client, mut server) = two(9, TCP).await;
    let thief = Signer::from_seed([99; 32]);
    type Forge = fn(&QuoteAsked, &Signer, &Signer) -> Bytes;
    let forged: [(&str, Forge); 2] = [
        ("another key", |asked, _, thief| quote(asked).sign(thief)),
        ("another request", |asked, own, _| {
            Quote {
                request_hash: [0; 32],
                ..quote(asked)
            }
            .sign(own)
        }),
    ];
    for (at, (what, forge)) in forged.into_iter().enumerate() {
        let (network, to) = (client.network.clone(), server.id());
        let answer = tokio::spawn(async move { network.quote(&to, &request(1)).await });
        let asked = next(&mut server).await;
        let bytes = forge(&asked, &server.signer, &thief);
        asked.reply.send(Some(bytes)).unwrap();
        let answer = answer.await.unwrap();
        assert!(
            matches!(answer, Err(NetworkError::Malformed { .. })),
            "{what}: {answer:?}"
        );
        client
            .until("the count", |status| {
                status.refusals.violations == at as u64 + 1
            })
            .await;
    }
    // The third is too long for the wire, and one too many.
    let (network, to) = (client.network.clone(), server.id());
    let answer = tokio::spawn(async move { network.quote(&to, &request(1)).await });
    next(&mut server)
        .await
        .reply
        .send(Some(vec![0; MAX_QUOTE + 1].into()))
        .unwrap();
    assert!(answer.await.unwrap().is_err());
    client
        .until("the ban", |status| status.banned == [server.id()])
        .await;
}

#[tokio::test]
async fn questions_beyond_the_rate_are_not_brought_to_the_node() {
    let (client, mut server) = two(11, QUIC).await;
    let answering = tokio::spawn(async move {
        while let Some(asked) = server.inbound.quotes.recv().await {
            let answer = quote(&asked).sign(&server.signer);
            let _ = asked.reply.send(Some(answer));
        }
    });
    let to = protocol::Signer::from_seed([11; 32]).peer_id();
    let begun = Instant::now();
    let mut answered = 0;
    for nonce in 0..40 {
        answered += usize::from(client.network.quote(&to, &request(nonce)).await.is_ok());
    }
    // The burst, and one for each second that this took.
    let allowed = 10 + begun.elapsed().as_secs() as usize + 1;
    assert!((10..=allowed).contains(&answered), "{answered} of 40");
    client.network.shutdown().await;
    answering.abort();
}
