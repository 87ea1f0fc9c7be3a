//! A worker that is killed: in a process of its own, since it kills every child of the process that it runs in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg(target_os = "linux")]

mod common;

use common::{
    LONG_QUESTION, QUESTION, Told, greedy_chat, note, read, read_tokens, start, starter_folder,
};
use node::{ChatPatch, MessageState};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_ends_one_answer_and_the_next_one_starts_another() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(&[models]).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let mut told = Told::default();
    let mut events = node
        .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
        .await
        .unwrap();
    assert!(read_tokens(&mut events, &mut told, 5).await);
    kill_children();
    while let Some(event) = events.recv().await {
        note(&mut told, event);
    }
    let cut = told.finished.unwrap();
    assert_eq!(cut.content, told.text, "nothing that was shown is lost");
    // It may also have gone on here by itself: then it is whole.
    if cut.state == MessageState::Interrupted {
        assert_eq!(cut.error.unwrap().code, "worker_died");
    }
    let told = read(
        node.chat_send(&chat.id, Some(&cut.id), Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    let state = told.finished.unwrap().state;
    assert!(
        matches!(state, MessageState::Complete | MessageState::Length),
        "{state:?}"
    );

    // One that dies while nobody uses it costs nothing at all.
    kill_children();
    let view = node.chat_open(&chat.id).await.unwrap();
    let told = read(
        node.chat_send(
            &chat.id,
            view.messages[2].parent.as_deref(),
            Some(QUESTION.to_owned()),
        )
        .await
        .unwrap(),
    )
    .await;
    let state = told.finished.unwrap().state;
    assert!(
        matches!(state, MessageState::Complete | MessageState::Length),
        "{state:?}"
    );
    node.stop().await;
}

/// Kills the workers of this process, by their ids.
fn kill_children() {
    let mut killed = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let children =
            std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let status = std::process::Command::new("kill")
                .args(["-KILL", child])
                .status()
                .unwrap();
            assert!(status.success());
            killed += 1;
        }
    }
    assert!(killed > 0, "there was no worker to kill");
}
