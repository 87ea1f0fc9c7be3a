//! Heads: a model file's first bytes, fetched by somebody without the weights.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;

use common::{QUIC, TCP, TestNode, head};
use network::{HeadProgress, HeadRequest, HeadSource, NetworkError};
use protocol::HeadDigest;

/// Answers every request for a head with this, and counts them.
fn serve(node: &mut TestNode, source: Option<HeadSource>) -> tokio::task::JoinHandle<usize> {
    let (_, nobody) = tokio::sync::mpsc::channel(1);
    let mut heads = std::mem::replace(&mut node.inbound.heads, nobody);
    tokio::spawn(async move {
        let mut asked = 0;
        while let Some(request) = heads.recv().await {
            asked += 1;
            let _ = request.reply.send(source.clone());
        }
        asked
    })
}

#[tokio::test]
async fn a_head_of_many_pieces_arrives_from_a_file_and_from_memory() {
    let (bytes, model) = head(3_000_001, 1);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file.write_all(&[0xee; 10_000]).unwrap();
    let sources = [
        (
            TCP,
            HeadSource::File {
                path: file.path().to_owned(),
                len: model.head_len,
            },
        ),
        (QUIC, HeadSource::Bytes(bytes.clone())),
    ];
    for (listen, source) in sources {
        let mut server = TestNode::listening(1, &[listen]).await;
        let asked = serve(&mut server, Some(source));
        let client = TestNode::dialing(2).await;
        client.connect(&server).await;
        assert_eq!(
            client
                .network
                .fetch_head(&server.id(), &model, &HeadProgress::default())
                .await
                .unwrap(),
            bytes
        );
        // The node is asked for the place of it, not for each piece; the first pieces may cross.
        server.network.shutdown().await;
        let asked = asked.await.unwrap();
        assert!((1..=4).contains(&asked), "{asked}");
    }
}

#[tokio::test]
async fn a_head_with_another_digest_is_refused() {
    let (bytes, mut model) = head(300_000, 1);
    let mut server = TestNode::listening(3, &[QUIC]).await;
    serve(&mut server, Some(HeadSource::Bytes(bytes)));
    let client = TestNode::dialing(4).await;
    client.connect(&server).await;
    model.head_sha256 = HeadDigest::new([7; 32]);
    let answer = client
        .network
        .fetch_head(&server.id(), &model, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::HeadDigest { expected, .. }) if expected == model.head_sha256),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_head_of_another_length_is_refused() {
    let (bytes, model) = head(300_000, 1);
    let mut server = TestNode::listening(5, &[QUIC]).await;
    serve(&mut server, Some(HeadSource::Bytes(bytes.slice(..299_999))));
    let client = TestNode::dialing(6).await;
    client.connect(&server).await;
    let answer = client
        .network
        .fetch_head(&server.id(), &model, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::Malformed { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_head_that_nobody_has_or_may_send_is_an_error() {
    let (_, model) = head(1000, 1);
    let mut server = TestNode::listening(7, &[TCP]).await;
    serve(&mut server, None);
    let client = TestNode::dialing(8).await;
    client.connect(&server).await;
    let answer = client
        .network
        .fetch_head(&server.id(), &model, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::HeadNotHeld { model: asked, .. }) if asked == model.digest),
        "{answer:?}"
    );

    let mut too_large = model;
    too_large.head_len = (32 << 20) + 1;
    let answer = client
        .network
        .fetch_head(&server.id(), &too_large, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::HeadTooLarge { .. })),
        "{answer:?}"
    );

    let stranger = protocol::Signer::from_seed([99; 32]).peer_id();
    let answer = client
        .network
        .fetch_head(&stranger, &model, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::NotConnected { .. })),
        "{answer:?}"
    );
}

/// Pieces that a node reads at once.
const READS: usize = 8;

#[tokio::test]
async fn heads_come_from_a_node_that_has_more_to_read_than_it_does_at_once() {
    let mut server = TestNode::listening(11, &[QUIC]).await;
    let heads: Vec<_> = (0..READS + 4).map(|at| head(1000, at as u8)).collect();
    let all = heads.clone();
    let (_, nobody) = tokio::sync::mpsc::channel(1);
    let mut asked = std::mem::replace(&mut server.inbound.heads, nobody);
    tokio::spawn(async move {
        let (mut waiting, mut was_full) = (Vec::new(), false);
        while let Some(request) = asked.recv().await {
            waiting.push(request);
            if !was_full && waiting.len() < READS {
                continue;
            }
            if !was_full {
                // All places are taken; whoever comes now is told that it is busy.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                was_full = true;
            }
            for HeadRequest { model, reply, .. } in waiting.drain(..) {
                let held = all.iter().find(|(_, held)| held.digest == model);
                let _ = reply.send(held.map(|(bytes, _)| HeadSource::Bytes(bytes.clone())));
            }
        }
    });
    let client = TestNode::dialing(12).await;
    client.connect(&server).await;
    let (network, from, came) = (&client.network, server.id(), HeadProgress::default());
    let fetches = heads
        .iter()
        .map(|(_, model)| network.fetch_head(&from, model, &came));
    let fetched = futures::future::join_all(fetches).await;
    for (fetched, (bytes, _)) in fetched.into_iter().zip(&heads) {
        assert_eq!(fetched.unwrap(), *bytes);
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_gives_no_head() {
    let (_, model) = head(1000, 1);
    // Holds the receiver and never looks into it.
    let server = TestNode::listening(9, &[TCP]).await;
    let client = TestNode::dialing(10).await;
    client.connect(&server).await;
    let answer = client
        .network
        .fetch_head(&server.id(), &model, &HeadProgress::default())
        .await;
    assert!(
        matches!(answer, Err(NetworkError::HeadNotHeld { .. })),
        "{answer:?}"
    );
}
