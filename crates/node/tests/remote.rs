//! Chats that are answered by another node, on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use common::{
    LONG_QUESTION, QUESTION, Told, at_peer, greedy_chat, note, provider, read, read_tokens, start,
    starter_folder,
};
use node::{
    AnsweredState, ChatPatch, ClientSignature, MessageState, MoveReason, NodeError, Place,
    ProviderSignature, Sampling, ServingState,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_its_limit_goes_on_at_the_peer_at_the_same_token() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let chat = greedy_chat(&asker.node, at_peer(&peer.id)).await;
    let limit = async |max_out| {
        let sampling = Sampling {
            max_out,
            temperature: 0.0,
            ..Sampling::default()
        };
        let patch = ChatPatch {
            sampling: Some(sampling),
            ..ChatPatch::default()
        };
        asker.node.chat_update(&chat.id, patch).await.unwrap()
    };
    limit(3).await;
    let sent = asker
        .node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await;
    let cut = read(sent.unwrap()).await.finished.unwrap();
    assert_eq!(cut.state, MessageState::Length);

    limit(80).await;
    let sent = asker.node.chat_continue(&chat.id, &cut.id).await;
    let told = read(sent.unwrap()).await;
    let whole = told.finished.unwrap();
    assert_eq!(whole.state, MessageState::Complete);
    assert_eq!(whole.content, format!("{}{}", cut.content, told.text));
    assert!(whole.content.contains("Paris"), "{}", whole.content);
    // Two jobs, each with its receipt; the second one begins where the first one ended.
    let starts: Vec<u32> = whole.spans.iter().map(|span| span.from_index).collect();
    assert_eq!(starts, [0, 3]);
    let jobs: Vec<&String> = whole
        .spans
        .iter()
        .map(|span| span.receipt.as_ref().unwrap())
        .collect();
    assert_ne!(jobs[0], jobs[1]);
    asker.node.stop().await;
    provider.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_weights_gets_paris_and_a_receipt_that_both_signed() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    assert_eq!(peer.id, provider.node.node_status().peer_id);
    assert_eq!(peer.models.len(), 1, "{peer:?}");

    let patch = ChatPatch {
        consented: Some(false),
        ..at_peer(&peer.id)
    };
    let chat = greedy_chat(&asker.node, patch).await;
    let refused = asker
        .node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await;
    assert!(matches!(refused, Err(NodeError::ConsentNeeded)));
    assert!(
        asker
            .node
            .chat_open(&chat.id)
            .await
            .unwrap()
            .messages
            .is_empty()
    );
    let consent = ChatPatch {
        consented: Some(true),
        ..ChatPatch::default()
    };
    asker.node.chat_update(&chat.id, consent).await.unwrap();

    let told = read(
        asker
            .node
            .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    assert!(told.text.contains("Paris"), "{told:?}");
    let finished = told.finished.unwrap();
    assert_eq!(finished.state, MessageState::Complete);
    assert_eq!(finished.spans.len(), 1);
    assert_eq!(finished.spans[0].peer.as_ref(), Some(&peer.id));
    let job = finished.spans[0].receipt.clone().unwrap();
    for node in [&asker.node, &provider.node] {
        let receipt = wait_for(|| node.receipt_open(&job)).await;
        assert_eq!(receipt.provider_signature, ProviderSignature::Valid);
        assert_eq!(receipt.client_signature, ClientSignature::Valid);
        assert_eq!(
            receipt.tokens_out,
            u64::from(finished.output_tokens.unwrap())
        );
        assert_eq!(receipt.due, "0");
    }
    let answers = provider.node.node_answers(10).await.unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].job, job);
    assert_ne!(answers[0].state, AnsweredState::Answering);
    // No weights on the asking side: the head alone.
    let heads: u64 = std::fs::read_dir(asker.folder.path().join("heads"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(heads > 0 && heads < 8_000_000, "{heads}");
    assert!(asker.node.chats_list().await.unwrap()[0].remote);

    let off = provider.node.node_switch(false).await.unwrap();
    assert_eq!(off.serving, ServingState::Off);
    assert!(off.listening.is_empty() && off.offered.is_empty() && off.off_ms.is_some());
    println!("off took {} ms", off.off_ms.unwrap());
    asker.node.stop().await;
    provider.node.stop().await;
}

/// A receipt is stored right behind the last frame: the other side may be a moment later.
async fn wait_for<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut call: impl FnMut() -> F,
) -> T {
    let mut last = None;
    for _ in 0..100 {
        match call().await {
            Ok(value) => return value,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it did not come: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_goes_off_in_the_middle_is_replaced_at_the_same_token() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (first, first_address) = provider(std::slice::from_ref(&models)).await;
    let (second, second_address) = provider(std::slice::from_ref(&models)).await;
    let asker = start(&[]).await;
    let one = asker.node.peers_connect(&first_address).await.unwrap();
    let two = asker.node.peers_connect(&second_address).await.unwrap();
    let chat = greedy_chat(&asker.node, at_peer(&one.id)).await;

    let mut told = Told::default();
    let mut events = asker
        .node
        .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
        .await
        .unwrap();
    assert!(read_tokens(&mut events, &mut told, 12).await, "{told:?}");
    first.node.node_switch(false).await.unwrap();
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
    assert_eq!(finished.spans.len(), 2);
    let index = finished.spans[1].from_index;
    assert_eq!(
        told.placed,
        [(Some(one.id.clone()), 0), (Some(two.id.clone()), index)]
    );
    assert_eq!(finished.content, told.text);
    // Why it moved is told at once and stays with the answer.
    assert_eq!(told.moved, [MoveReason::Off]);
    let whys: Vec<_> = finished.spans.iter().map(|span| span.why).collect();
    assert_eq!(whys, [None, Some(MoveReason::Off)]);

    // The same question, undisturbed, at the second peer: greedy on one machine is the same text.
    let chat = greedy_chat(&asker.node, at_peer(&two.id)).await;
    let whole = read(
        asker
            .node
            .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    println!(
        "equal to the undisturbed answer: {}",
        whole.text == told.text
    );
    assert_eq!(
        whole.finished.unwrap().output_tokens,
        finished.output_tokens
    );
    for test in [asker, first, second] {
        test.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_stays_here_when_the_model_is_here() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(&[models]).await;
    let patch = ChatPatch {
        place: Some(Place::Automatic),
        ..ChatPatch::default()
    };
    let chat = greedy_chat(&test.node, patch).await;
    let told = read(
        test.node
            .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(told.finished.unwrap().spans[0].peer, None);
    test.node.stop().await;

    let test = start(&[]).await;
    let patch = ChatPatch {
        place: Some(Place::Automatic),
        ..ChatPatch::default()
    };
    let chat = greedy_chat(&test.node, patch).await;
    let refused = test
        .node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await
        .unwrap_err();
    assert_eq!(refused.view().code, "consent_needed");
    test.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_work_goes_first() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let remote = greedy_chat(&asker.node, at_peer(&peer.id)).await;
    let mut told = Told::default();
    let mut events = asker
        .node
        .chat_send(&remote.id, None, Some(LONG_QUESTION.to_owned()))
        .await
        .unwrap();
    assert!(read_tokens(&mut events, &mut told, 5).await);

    let own = greedy_chat(&provider.node, ChatPatch::default()).await;
    let mut status = provider.node.status();
    let own_events = provider
        .node
        .chat_send(&own.id, None, Some(LONG_QUESTION.to_owned()))
        .await
        .unwrap();
    let own_reading = tokio::spawn(read(own_events));
    status
        .wait_for(|status| status.serving == ServingState::PausedOwnWork)
        .await
        .unwrap();
    let own_told = own_reading.await.unwrap();
    assert!(matches!(
        own_told.finished.unwrap().state,
        MessageState::Complete | MessageState::Length
    ));
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
    asker.node.stop().await;
    provider.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_connects_and_a_blocked_peer_does_not() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, _) = provider(&[models]).await;
    let asker = start(&[]).await;
    let invite = provider.node.peers_invite().unwrap();
    assert!(invite.qr_svg.contains("<svg") && invite.text.starts_with("dgpt1:"));
    let peer = asker
        .node
        .peers_connect(&invite.text.to_uppercase())
        .await
        .unwrap();
    assert_eq!(peer.id, provider.node.node_status().peer_id);
    assert!(
        std::fs::read_to_string(asker.folder.path().join("peers.toml"))
            .unwrap()
            .contains(&peer.id)
    );
    asker.node.peers_block(&peer.id, true).await.unwrap();
    assert!(
        asker
            .node
            .node_status()
            .peers
            .iter()
            .any(|known| known.id == peer.id && known.blocked)
    );
    assert_eq!(
        asker
            .node
            .peers_connect(&invite.text)
            .await
            .unwrap_err()
            .view()
            .code,
        "peer_blocked"
    );
    asker.node.peers_block(&peer.id, false).await.unwrap();
    asker.node.peers_connect(&invite.text).await.unwrap();
    assert_eq!(
        asker.node.peers_invite().unwrap_err().view().code,
        "node_off"
    );
    asker.node.stop().await;
    provider.node.stop().await;
}
