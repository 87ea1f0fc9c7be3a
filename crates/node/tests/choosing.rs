//! Whom a chat is answered by when the person chose nobody, on loopback: the two swarms, quotes, records, rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    LONG_QUESTION, QUESTION, TestNode, Told, at_peer, greedy_chat, note, options, provider, read,
    read_tokens, start, start_with, starter_folder,
};
use node::{ChatPatch, MessageState, Node, NodeError, Place, Settings};

/// A chat that goes to any peer, consented.
fn at_any() -> ChatPatch {
    ChatPatch {
        place: Some(Place::Peer),
        peer: Some(None),
        consented: Some(true),
        ..ChatPatch::default()
    }
}

/// Asks in a new chat, and gives the peer that answered.
async fn ask(asker: &Node, patch: ChatPatch) -> String {
    let chat = greedy_chat(asker, patch).await;
    let sent = asker
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await;
    let finished = read(sent.unwrap()).await.finished.unwrap();
    assert_eq!(finished.state, MessageState::Complete, "{finished:?}");
    finished.spans.last().unwrap().peer.clone().unwrap()
}

/// A node in a folder that was just left. A worker that another test is starting at this moment holds a copy of the lock
/// until it has become another program.
async fn start_again(folder: &Path, models: &[PathBuf]) -> Node {
    for _ in 0..40 {
        match Node::start(options(folder, models)).await {
            Ok(node) => return node,
            Err(NodeError::Data(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the folder stays locked");
}

async fn stop(nodes: impl IntoIterator<Item = TestNode>) {
    for test in nodes {
        test.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_never_hears_the_name_that_this_computer_serves_by() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let first = asker.node.node_status();
    assert_ne!(first.peer_id, first.asking_peer_id);
    ask(&asker.node, at_peer(&peer.id)).await;

    asker.node.peers_new_name().await.unwrap();
    let second = asker.node.node_status();
    assert_eq!(first.peer_id, second.peer_id);
    assert_ne!(first.asking_peer_id, second.asking_peer_id);
    ask(&asker.node, at_peer(&peer.id)).await;

    let answers = provider.node.node_answers(10).await.unwrap();
    let askers: Vec<&String> = answers.iter().map(|answer| &answer.peer).collect();
    assert_eq!(askers, [&second.asking_peer_id, &first.asking_peer_id]);

    // A start takes another name, too: none is kept on the disk.
    let folder = asker.folder.path().to_owned();
    asker.node.stop().await;
    let again = start_again(&folder, &[]).await;
    let third = again.node_status();
    assert_eq!(third.peer_id, first.peer_id);
    assert!(![first.asking_peer_id, second.asking_peer_id].contains(&third.asking_peer_id));
    again.stop().await;
    provider.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_a_chat_s_peer_is_made_again_while_the_person_types() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap().id;
    let chat = greedy_chat(&asker.node, at_peer(&peer)).await;
    let sent = asker
        .node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await;
    let finished = read(sent.unwrap()).await.finished.unwrap();
    assert_eq!(finished.state, MessageState::Complete, "{finished:?}");

    asker.node.peers_disconnect(&peer).await.unwrap();
    let connected = || {
        let peers = asker.node.node_status().peers;
        peers.iter().any(|known| known.id == peer && known.asked)
    };
    until("it is gone", || !connected()).await;
    // A chat that stays here goes to nobody.
    let here = ChatPatch {
        place: Some(Place::Local),
        ..ChatPatch::default()
    };
    asker.node.chat_update(&chat.id, here).await.unwrap();
    asker.node.chat_context(&chat.id, "And").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!connected());
    asker
        .node
        .chat_update(&chat.id, at_peer(&peer))
        .await
        .unwrap();
    asker.node.chat_context(&chat.id, "And").await.unwrap();
    until("it is back", connected).await;
    stop([provider, asker]).await;
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_address_is_refused_although_the_swarms_are_two() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (test, address) = provider(&[models]).await;
    let invite = test.node.peers_invite().unwrap();
    let bare = address.split("/p2p/").next().unwrap().to_owned();
    for text in [address, bare, invite.text, test.node.node_status().peer_id] {
        let refused = test.node.peers_connect(&text).await.unwrap_err();
        assert_eq!(refused.view().code, "own_address", "{text}: {refused:?}");
    }
    // Nor is this computer a peer of its own that answers it.
    assert!(test.node.peers_compare(None).unwrap().is_empty());
    test.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_measured_is_kept_and_shown_and_can_be_forgotten() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(std::slice::from_ref(&models)).await;
    let asker = start(std::slice::from_ref(&models)).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    assert_eq!(peer.record, None);
    let answered = ask(&asker.node, at_any()).await;
    assert_eq!(answered, peer.id);
    let record = |node: &Node| {
        let status = node.node_status();
        status
            .peers
            .into_iter()
            .find(|known| known.id == peer.id)
            .unwrap()
            .record
    };
    let folder = asker.folder.path().to_owned();
    asker.node.stop().await;

    let again = start_again(&folder, &[models]).await;
    again.peers_connect(&address).await.unwrap();
    let kept = record(&again).unwrap();
    assert_eq!((kept.jobs, kept.failed, kept.lies), (1, 0, 0));
    assert!(
        kept.tokens_per_second.is_none_or(|tps| tps > 0.0),
        "{kept:?}"
    );
    let choices = again.peers_compare(None).unwrap();
    assert_eq!(choices.len(), 1);
    assert_eq!(
        (choices[0].id.as_str(), choices[0].chance),
        (peer.id.as_str(), 1.0)
    );
    assert!(choices[0].reliability > 0.3, "{choices:?}");
    assert_eq!(choices[0].region.as_deref(), Some("FR"), "what it claims");
    again.peers_forget_records().await.unwrap();
    assert_eq!(record(&again), None);
    again.stop().await;
    provider.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_are_asked_for_quotes_and_a_chat_stays_where_it_is() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (one, one_at) = provider(std::slice::from_ref(&models)).await;
    let (two, two_at) = provider(std::slice::from_ref(&models)).await;
    let asker = start(&[]).await;
    let ids: BTreeSet<String> = BTreeSet::from([
        asker.node.peers_connect(&one_at).await.unwrap().id,
        asker.node.peers_connect(&two_at).await.unwrap().id,
    ]);
    let chat = greedy_chat(&asker.node, at_any()).await;
    let mut parent = None;
    let mut answered = Vec::new();
    for _ in 0..3 {
        let sent = asker
            .node
            .chat_send(&chat.id, parent.as_deref(), Some(QUESTION.to_owned()))
            .await;
        let finished = read(sent.unwrap()).await.finished.unwrap();
        answered.push(finished.spans.last().unwrap().peer.clone().unwrap());
        parent = Some(finished.id);
    }
    assert!(ids.contains(&answered[0]));
    assert!(
        answered.iter().all(|peer| *peer == answered[0]),
        "{answered:?}"
    );
    stop([asker, one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_nobody_keeps_is_named() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start_with(&[], "regions_allow = [\"DE\"]").await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let any = greedy_chat(
        &asker.node,
        ChatPatch {
            model: Some(Some(starter_id(&asker.node))),
            ..at_any()
        },
    )
    .await;
    let sent = asker
        .node
        .chat_send(&any.id, None, Some(QUESTION.to_owned()))
        .await;
    let failed = read(sent.unwrap()).await.finished.unwrap();
    let error = failed.error.unwrap();
    assert_eq!(
        (failed.state, error.code.as_str()),
        (MessageState::Failed, "nobody_fits")
    );
    assert!(error.message.contains("regions"), "{}", error.message);
    let choices = asker.node.peers_compare(None).unwrap();
    assert!(
        choices[0]
            .not_taken
            .as_ref()
            .is_some_and(|why| why.contains("regions"))
    );

    // Without the rule it is asked.
    let settings = Settings {
        regions_allow: Vec::new(),
        ..asker.node.settings_get()
    };
    asker.node.settings_set(settings).await.unwrap();
    assert_eq!(ask(&asker.node, at_any()).await, peer.id);
    stop([asker, provider]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_when_the_computer_woke_and_the_peer_is_not_blamed() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(&[models]).await;
    let asker = start(&[]).await;
    let peer = asker.node.peers_connect(&address).await.unwrap();
    let chat = greedy_chat(&asker.node, at_peer(&peer.id)).await;
    let sent = asker
        .node
        .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
        .await;
    let (mut events, mut told) = (sent.unwrap(), Told::default());
    assert!(read_tokens(&mut events, &mut told, 10).await, "{told:?}");
    asker.node.peers_woke().await;
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
    assert_eq!(finished.content, told.text);
    assert!(
        finished
            .spans
            .iter()
            .all(|span| span.peer.as_ref() == Some(&peer.id)),
        "{finished:?}"
    );
    println!("spans after waking: {:?}", finished.spans);
    // What is held against a peer is decided a moment after its stream ended.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    asker.node.peers_connect(&address).await.unwrap();
    let status = asker.node.node_status();
    let record = status
        .peers
        .iter()
        .find(|known| known.id == peer.id)
        .unwrap()
        .record
        .unwrap();
    assert_eq!((record.jobs, record.failed), (1, 0), "{record:?}");

    // The same without waking: not a token is missing, doubled or changed.
    let chat = greedy_chat(&asker.node, at_peer(&peer.id)).await;
    let sent = asker
        .node
        .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
        .await;
    let whole = read(sent.unwrap()).await;
    assert_eq!(whole.text, told.text);
    stop([asker, provider]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_only_this_computer_looks_for_nobody() {
    let Some(models) = starter_folder() else {
        return;
    };
    let (provider, address) = provider(std::slice::from_ref(&models)).await;
    let test = start(&[models]).await;
    let chat = greedy_chat(&test.node, ChatPatch::default()).await;
    let sent = test
        .node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await;
    let here = read(sent.unwrap()).await.finished.unwrap();
    assert_eq!(here.state, MessageState::Complete);
    let status = test.node.node_status();
    assert!(
        status.sources.iter().all(|source| !source.enabled),
        "{:?}",
        status.sources
    );
    assert!(status.peers.is_empty() && status.data == node::DataUsed::default());
    assert!(!test.folder.path().join("met-asking").exists());

    // The first wish for a peer opens the door.
    let peer = test.node.peers_connect(&address).await.unwrap();
    let mut status = test.node.status();
    let opened = status.wait_for(|status| {
        let enabled = |code: &str| {
            status
                .sources
                .iter()
                .any(|source| source.code == code && source.enabled)
        };
        enabled("book") && !enabled("mainline")
    });
    tokio::time::timeout(Duration::from_secs(10), opened)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ask(&test.node, at_peer(&peer.id)).await, peer.id);
    let log = test.node.peers_log();
    assert!(
        log.iter()
            .any(|line| line.code == "opened" && line.peer.as_ref() == Some(&peer.id)),
        "{log:?}"
    );
    stop([test, provider]).await;
}

/// The starter is in the list of models also where its file is not.
fn starter_id(node: &Node) -> String {
    let rows = node.models_list().rows;
    rows.iter().find(|row| row.starter).unwrap().id.clone()
}
