//! An answer whose stream is cut: the same peer goes on with the same job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use common::{
    LONG_QUESTION, Told, at_peer, greedy_chat, note, provider, read, read_tokens, start,
    starter_folder,
};
use node::{AnsweredState, ChatPatch, MessageState, Sampling};

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_taken_up_by_the_same_peer_as_the_same_job() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let me = asker.node.node_status().asking_peer_id;
    let longer = || ChatPatch {
        sampling: Some(Sampling {
            max_out: 240,
            temperature: 0.0,
            ..Sampling::default()
        }),
        ..at_peer(&peer.id)
    };
    let ask = async || {
        let chat = greedy_chat(&asker.node, at_peer(&peer.id)).await;
        asker.node.chat_update(&chat.id, longer()).await.unwrap();
        let sent = asker
            .node
            .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()));
        sent.await.unwrap()
    };

    let mut told = Told::default();
    let mut events = ask().await;
    for tokens in [12, 60] {
        assert!(
            read_tokens(&mut events, &mut told, tokens).await,
            "{told:?}"
        );
        provider.node.peers_disconnect(&me).await.unwrap();
    }
    while let Some(event) = events.recv().await {
        note(&mut told, event);
    }
    let finished = told.finished.unwrap();
    assert!(
        matches!(
            finished.state,
            MessageState::Complete | MessageState::Length
        ),
        "{finished:?}"
    );
    // One span, one place, and never a word about a move.
    assert_eq!(finished.spans.len(), 1, "{:?}", finished.spans);
    assert_eq!(told.placed, [(Some(peer.id.clone()), 0)]);
    assert!(told.moved.is_empty());
    assert_eq!(finished.content, told.text);

    // One job, with one receipt over all of its tokens, that both have.
    let job = finished.spans[0].receipt.clone().unwrap();
    let receipt = asker.node.receipt_open(&job).await.unwrap();
    assert_eq!(
        receipt.tokens_out,
        u64::from(finished.output_tokens.unwrap())
    );
    let answers = provider.node.node_answers(10).await.unwrap();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].job, job);
    assert_ne!(answers[0].state, AnsweredState::Answering);

    // Greedy on one machine: the undisturbed answer is the same.
    let whole = read(ask().await).await;
    assert_eq!(whole.text, told.text);
    asker.node.stop().await;
    provider.node.stop().await;
}
