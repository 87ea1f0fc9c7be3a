//! Chats that are answered on this computer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use common::{LONG_QUESTION, QUESTION, greedy_chat, read, read_tokens, start, starter_folder};
use node::{AnswerEvent, ChatPatch, ExportFormat, MessageState, NodeError, Sampling};

#[tokio::test(flavor = "multi_thread")]
async fn the_starter_says_paris_and_everything_is_kept() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(std::slice::from_ref(&models)).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let told = read(
        node.chat_send(&chat.id, None, Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    assert!(told.text.contains("Paris"), "{told:?}");
    let finished = told.finished.unwrap();
    assert_eq!(finished.state, MessageState::Complete);
    assert_eq!(finished.content, told.text);
    assert_eq!(finished.spans.len(), 1);
    assert_eq!(finished.spans[0].peer, None);
    assert!(finished.output_tokens.unwrap() > 3 && finished.prompt_tokens.unwrap() > 10);
    assert!(matches!(told.events[0], AnswerEvent::Started { .. }));
    assert!(
        told.events
            .iter()
            .any(|event| matches!(event, AnswerEvent::Titled { title } if title == QUESTION))
    );

    // A second question sees the first; regenerating makes a sibling.
    let told = read(
        node.chat_send(
            &chat.id,
            Some(&finished.id),
            Some("And of Italy?".to_owned()),
        )
        .await
        .unwrap(),
    )
    .await;
    let second = told.finished.unwrap();
    assert!(second.prompt_tokens > finished.prompt_tokens);
    let told = read(
        node.chat_send(&chat.id, second.parent.as_deref(), None)
            .await
            .unwrap(),
    )
    .await;
    let again = told.finished.unwrap();
    assert_eq!(again.siblings, [second.id.clone(), again.id.clone()]);
    assert_eq!(again.content, second.content, "greedy answers repeat");
    let view = node.chat_choose(&chat.id, &second.id).await.unwrap();
    assert_eq!(view.messages.last().unwrap().id, second.id);
    assert_eq!(view.messages.len(), 4);
    assert!(
        view.context_used > 0 && view.context_limit >= 2048,
        "{}",
        view.context_limit
    );
    let usage = node
        .chat_context(&chat.id, "one more question")
        .await
        .unwrap();
    assert!(usage.used > second.prompt_tokens.unwrap());

    assert_eq!(node.chats_search("capital").await.unwrap()[0].chat, chat.id);
    assert!(
        node.chat_export(&chat.id, ExportFormat::Markdown)
            .await
            .unwrap()
            .contains("Paris")
    );
    let json: serde_json::Value = serde_json::from_str(
        &node
            .chat_export(&chat.id, ExportFormat::Json)
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(json["messages"].as_array().unwrap().len(), 5);

    // After a restart the history is there, and the folder was free at once.
    node.stop().await;
    let node = node::Node::start(common::options(test.folder.path(), &[models]))
        .await
        .unwrap();
    let view = node.chat_open(&chat.id).await.unwrap();
    assert_eq!(view.title, QUESTION);
    assert!(view.messages[1].content.contains("Paris"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_answer_keeps_what_came_and_frees_the_chat() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(&[models]).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let mut events = node
        .chat_send(&chat.id, None, Some(LONG_QUESTION.to_owned()))
        .await
        .unwrap();
    let mut told = common::Told::default();
    assert!(read_tokens(&mut events, &mut told, 5).await);
    assert!(matches!(
        node.chat_send(&chat.id, None, Some("x".to_owned())).await,
        Err(NodeError::ChatBusy)
    ));
    assert!(node.chats_list().await.unwrap()[0].answering);
    node.chat_stop(&chat.id).unwrap();
    while let Some(event) = events.recv().await {
        common::note(&mut told, event);
    }
    let finished = told.finished.unwrap();
    assert_eq!(finished.state, MessageState::Stopped);
    assert_eq!(finished.content, told.text);
    assert!(!finished.content.is_empty());
    let told = read(
        node.chat_send(&chat.id, Some(&finished.id), Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(told.finished.unwrap().state, MessageState::Complete);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_longer_than_the_context_is_refused_and_not_stored() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(&[models]).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let refused = node
        .chat_send(&chat.id, None, Some("word ".repeat(20_000)))
        .await
        .unwrap_err()
        .view();
    assert_eq!(refused.code, "message_too_long");
    assert!(refused.fix.is_some());
    assert!(node.chat_open(&chat.id).await.unwrap().messages.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_no_row_names_is_not_to_be_had_here_and_nobody_is_sent_to_download_it() {
    let test = start(&[]).await;
    let node = &test.node;
    let chat = node.chat_create(true).await.unwrap();
    let patch = ChatPatch {
        model: Some(Some(format!("sha256:{}", "5a".repeat(32)))),
        place: Some(node::Place::Local),
        ..ChatPatch::default()
    };
    node.chat_update(&chat.id, patch).await.unwrap();
    let refused = node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await
        .unwrap_err()
        .view();
    assert_eq!(refused.code, "unlisted_not_here");
    assert!(refused.message.contains("Model 5a5a5a5a5a5a"), "{refused}");
    assert!(!refused.fix.unwrap().contains("ownload"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_chat_is_in_no_list() {
    let test = start(&[]).await;
    let node = &test.node;
    let chat = node.chat_create(true).await.unwrap();
    assert!(chat.temporary);
    assert!(node.chats_list().await.unwrap().is_empty());
    assert!(node.chat_open(&chat.id).await.unwrap().temporary);
    let refused = node
        .chat_send(&chat.id, None, Some(QUESTION.to_owned()))
        .await
        .unwrap_err()
        .view();
    assert_eq!(refused.code, "model_missing");
    assert!(refused.fix.is_some());
    assert_eq!(
        node.chat_open("nonsense").await.unwrap_err().view().code,
        "chat_missing"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_its_limit_goes_on_at_the_same_token() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(std::slice::from_ref(&models)).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let limit = async |node: &node::Node, max_out| {
        let sampling = Sampling {
            max_out,
            temperature: 0.0,
            ..Sampling::default()
        };
        let patch = ChatPatch {
            sampling: Some(sampling),
            ..ChatPatch::default()
        };
        node.chat_update(&chat.id, patch).await.unwrap()
    };
    limit(node, 3).await;
    let told = read(
        node.chat_send(&chat.id, None, Some(QUESTION.to_owned()))
            .await
            .unwrap(),
    )
    .await;
    let cut = told.finished.unwrap();
    assert_eq!(
        (cut.state, cut.output_tokens),
        (MessageState::Length, Some(3))
    );

    // Twice, the second time after a restart: the tokens are on the disk.
    let told = read(node.chat_continue(&chat.id, &cut.id).await.unwrap()).await;
    let longer = told.finished.unwrap();
    assert_eq!(longer.output_tokens, Some(6));
    assert_eq!(longer.content, format!("{}{}", cut.content, told.text));
    node.stop().await;
    let node = node::Node::start(common::options(test.folder.path(), &[models]))
        .await
        .unwrap();
    limit(&node, 80).await;
    let told = read(node.chat_continue(&chat.id, &longer.id).await.unwrap()).await;
    let whole = told.finished.unwrap();
    assert_eq!(whole.state, MessageState::Complete);
    assert_eq!(whole.content, format!("{}{}", longer.content, told.text));
    assert!(whole.content.contains("Paris"), "{}", whole.content);
    assert_eq!(
        whole.spans.len(),
        1,
        "all of it was computed here: {:?}",
        whole.spans
    );

    // What was read stays as it was, and no question was made up in between.
    let view = node.chat_open(&chat.id).await.unwrap();
    assert_eq!(view.messages.len(), 2);
    assert_eq!(
        view.messages[1].siblings,
        [cut.id.clone(), longer.id, whole.id.clone()]
    );
    let view = node.chat_choose(&chat.id, &cut.id).await.unwrap();
    assert_eq!(view.messages[1].content, cut.content);
    let refused = node.chat_continue(&chat.id, &whole.id).await.unwrap_err();
    assert_eq!(refused.view().code, "nothing_to_continue");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_context_is_told_and_a_new_chat_starts_from_a_summary() {
    let Some(models) = starter_folder() else {
        return;
    };
    let test = start(&[models]).await;
    let node = &test.node;
    let chat = greedy_chat(node, ChatPatch::default()).await;
    let say = async |parent: Option<&str>, text: String| {
        let told = read(node.chat_send(&chat.id, parent, Some(text)).await.unwrap()).await;
        told.finished.unwrap()
    };
    let first = say(None, format!("My name is Ada. {}", "bread ".repeat(200))).await;
    // Alone it fits the starter's context, with what stands before it it does not: that is told before anything is computed.
    let limit = node.chat_open(&chat.id).await.unwrap().context_limit;
    let second = "water ".repeat(limit as usize - 150);
    let refused = node
        .chat_send(&chat.id, Some(&first.id), Some(second))
        .await
        .unwrap_err()
        .view();
    assert_eq!(refused.code, "context_full", "{refused:?}");
    assert!(refused.fix.is_some());
    assert_eq!(node.chat_open(&chat.id).await.unwrap().messages.len(), 2);

    // A new chat from a summary: the old one stays, and the new one begins with what the model wrote about it.
    let (new, events) = node.chat_summarise(&chat.id).await.unwrap();
    let told = read(events).await;
    let summary = told.finished.unwrap();
    assert!(
        matches!(summary.state, MessageState::Complete | MessageState::Length),
        "{summary:?}"
    );
    assert!(!summary.content.trim().is_empty());
    let view = node.chat_open(&new).await.unwrap();
    assert!(view.title.ends_with("(continued)"), "{}", view.title);
    assert_eq!(view.messages.len(), 2);
    assert_eq!(view.messages[1].content, summary.content);
    assert_eq!(view.sampling.temperature, 0.0);
    assert_eq!(node.chat_open(&chat.id).await.unwrap().messages.len(), 2);

    // The next question sees the summary and not the conversation that it stands for.
    let asked = read(
        node.chat_send(&new, Some(&summary.id), Some("Who am I?".to_owned()))
            .await
            .unwrap(),
    )
    .await;
    assert!(asked.finished.unwrap().prompt_tokens < first.prompt_tokens);
    node.stop().await;
}
