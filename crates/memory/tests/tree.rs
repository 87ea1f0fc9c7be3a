//! Conversations as a person makes them: branches, streaming, settings, search, delete.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use memory::*;

async fn fresh() -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(folder.path().join("memory.db")).await.unwrap();
    (folder, memory)
}

async fn answered(
    memory: &Memory,
    chat: ChatId,
    parent: Option<MessageId>,
    question: &str,
    answer: &str,
) -> (Message, Message) {
    let asked = memory
        .insert(chat, NewMessage::user(parent, question))
        .await
        .unwrap();
    let reply = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    memory.append(reply.id, answer, &[]).await.unwrap();
    let reply = memory.finish(reply.id, Outcome::complete()).await.unwrap();
    (asked, reply)
}

fn texts(open: &OpenChat) -> Vec<&str> {
    open.path
        .iter()
        .map(|at| at.message.content.as_str())
        .collect()
}

#[tokio::test]
async fn send_edit_and_regenerate_are_branches_and_nothing_is_lost() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let (q1, a1) = answered(&memory, chat, None, "q1", "a1").await;
    let (q2, a2) = answered(&memory, chat, Some(a1.id), "q2", "a2").await;

    // Regenerate: another answer below the same question.
    let a2b = memory
        .insert(chat, NewMessage::answer(q2.id, None))
        .await
        .unwrap();
    memory.append(a2b.id, "a2b", &[]).await.unwrap();
    memory.finish(a2b.id, Outcome::complete()).await.unwrap();
    let open = memory.open_chat(chat).await.unwrap();
    assert_eq!(texts(&open), ["q1", "a1", "q2", "a2b"]);
    assert_eq!(open.path[3].siblings, [a2.id, a2b.id]);

    // Edit: the parent of the edited question.
    let (q2c, _) = answered(&memory, chat, Some(a1.id), "q2 edited", "a2c").await;
    let open = memory.open_chat(chat).await.unwrap();
    assert_eq!(texts(&open), ["q1", "a1", "q2 edited", "a2c"]);
    assert_eq!(open.path[2].siblings, [q2.id, q2c.id]);

    // Going back to the old question shows its youngest answer.
    memory.choose(chat, q2.id).await.unwrap();
    assert_eq!(
        texts(&memory.open_chat(chat).await.unwrap()),
        ["q1", "a1", "q2", "a2b"]
    );
    memory.choose(chat, a2.id).await.unwrap();
    assert_eq!(
        texts(&memory.open_chat(chat).await.unwrap()),
        ["q1", "a1", "q2", "a2"]
    );

    assert_eq!(memory.tree(chat).await.unwrap().len(), 7);
    let branch: Vec<_> = memory
        .branch(q2c.id)
        .await
        .unwrap()
        .into_iter()
        .map(|m| m.id)
        .collect();
    assert_eq!(branch, [q1.id, a1.id, q2c.id]);
}

#[tokio::test]
async fn a_finished_message_never_changes() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let (asked, reply) = answered(&memory, chat, None, "q", "a").await;
    for id in [asked.id, reply.id] {
        assert!(matches!(
            memory.append(id, "x", &[]).await,
            Err(MemoryError::Finished(_))
        ));
        assert!(matches!(
            memory.finish(id, Outcome::complete()).await,
            Err(MemoryError::Finished(_))
        ));
        assert!(matches!(
            memory.set_spans(id, Vec::new()).await,
            Err(MemoryError::Finished(_))
        ));
    }
    let streaming = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    assert!(matches!(
        memory
            .finish(streaming.id, Outcome::of(MessageState::Streaming))
            .await,
        Err(MemoryError::NoEnd)
    ));

    // Not even by going around this crate.
    memory.flush().await.unwrap();
    let raw = rusqlite::Connection::open(memory.path()).unwrap();
    for sql in [
        "UPDATE message SET content = 'x' WHERE state <> 'streaming'",
        "UPDATE message SET parent = NULL, chat = 'y'",
    ] {
        assert!(raw.execute(sql, []).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn an_answer_keeps_where_it_was_computed_and_what_was_counted() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("Trip", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let model = ModelUsed {
        id: "m".into(),
        name: "Model".into(),
        digest: Some("ab".into()),
    };
    let asked = memory
        .insert(chat, NewMessage::user(None, "q"))
        .await
        .unwrap();
    let reply = memory
        .insert(chat, NewMessage::answer(asked.id, Some(model.clone())))
        .await
        .unwrap();
    assert!(memory.chats().await.unwrap()[0].answering);
    let spans = vec![
        Span {
            from_index: 0,
            peer: Some("12D3KooW".into()),
            receipt: Some("ff".into()),
            why: None,
            paid: None,
            cached: Some(7),
        },
        Span {
            from_index: 40,
            peer: None,
            receipt: None,
            why: Some("gone".into()),
            paid: None,
            cached: None,
        },
    ];
    memory.set_spans(reply.id, spans.clone()).await.unwrap();
    assert!(memory.chats().await.unwrap()[0].remote);
    let stats = Stats {
        prompt_tokens: Some(9),
        output_tokens: Some(60),
        first_token_ms: Some(120),
        tokens_per_second: Some(31.5),
        reasoning_ms: Some(900),
    };
    let error = StoredError {
        code: "worker_died".into(),
        message: "It ended.".into(),
        fix: None,
    };
    let outcome = Outcome {
        stats,
        error: Some(error.clone()),
        ..Outcome::of(MessageState::Failed)
    };
    memory.finish(reply.id, outcome).await.unwrap();
    let kept = memory.message(reply.id).await.unwrap();
    assert_eq!(
        (kept.spans, kept.stats, kept.error, kept.model),
        (spans, stats, Some(error), Some(model))
    );
    assert_eq!(kept.state, MessageState::Failed);
    assert!(!memory.chats().await.unwrap()[0].answering);
    assert!(memory.open_chat(chat).await.unwrap().remote);
}

#[tokio::test]
async fn readers_see_text_before_it_is_saved() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let asked = memory
        .insert(chat, NewMessage::user(None, "q"))
        .await
        .unwrap();
    let reply = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    for piece in ["The ", "capital ", "of France"] {
        assert_eq!(
            memory.append(reply.id, piece, &[]).await.unwrap(),
            Autosave::OnTime
        );
    }
    assert_eq!(
        memory.message(reply.id).await.unwrap().content,
        "The capital of France"
    );
    assert_eq!(
        texts(&memory.open_chat(chat).await.unwrap()),
        ["q", "The capital of France"]
    );
}

#[tokio::test]
async fn settings_survive_and_missing_ones_take_their_defaults() {
    let (folder, memory) = fresh().await;
    let sampling = Sampling {
        temperature: 0.0,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repeat_penalty: 1.1,
        max_out: 512,
        seed: Some("18446744073709551615".into()),
    };
    let settings = ChatSettings {
        model: Some("m".into()),
        place: Place::Automatic,
        peer: Some("12D3".into()),
        consented: true,
        system_prompt: Some("Be brief.".into()),
        sampling: Some(sampling),
        on_full: OnFull::DropOldest,
    };
    let chat = memory
        .create_chat("A", ChatSettings::default())
        .await
        .unwrap()
        .id;
    memory.set_settings(chat, settings.clone()).await.unwrap();
    memory.pin(chat, true).await.unwrap();
    memory.close().await.unwrap();
    assert!(matches!(memory.chats().await, Err(MemoryError::Closed)));
    let path = folder.path().join("memory.db");
    let memory = Memory::open(&path).await.unwrap();
    let kept = memory.open_chat(chat).await.unwrap().chat;
    assert_eq!((kept.settings, kept.pinned), (settings, true));

    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE chat SET settings = '{\"consented\":true}'", [])
        .unwrap();
    let kept = memory.open_chat(chat).await.unwrap().chat.settings;
    assert_eq!(
        kept,
        ChatSettings {
            consented: true,
            ..ChatSettings::default()
        }
    );
}

#[tokio::test]
async fn the_list_is_pinned_first_then_newest() {
    let (_folder, memory) = fresh().await;
    let mut ids = Vec::new();
    for title in ["one", "two", "three"] {
        ids.push(
            memory
                .create_chat(title, ChatSettings::default())
                .await
                .unwrap()
                .id,
        );
    }
    memory.pin(ids[0], true).await.unwrap();
    let titles: Vec<_> = memory
        .chats()
        .await
        .unwrap()
        .into_iter()
        .map(|chat| chat.chat.title)
        .collect();
    assert_eq!(titles, ["one", "three", "two"]);
    memory
        .rename(ids[1], &format!("line\nbreak {}", "x".repeat(500)))
        .await
        .unwrap();
    let title = memory.open_chat(ids[1]).await.unwrap().chat.title;
    assert!(title.starts_with("line break") && title.chars().count() == MAX_TITLE_CHARS);
}

#[tokio::test]
async fn search_finds_words_in_messages_and_titles() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("Planning Zürich", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let (_, reply) = answered(
        &memory,
        chat,
        None,
        "Which mountains?",
        "The Matterhorn is a mountain of the Alps.",
    )
    .await;
    let (cjk, _) = answered(&memory, chat, Some(reply.id), "今日は天気がいい", "はい").await;

    let hits = memory.search("matterh").await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!((hits[0].chat, hits[0].message), (chat, Some(reply.id)));
    assert!(
        hits[0].snippet.contains("\u{1}Matterhorn\u{2}"),
        "{:?}",
        hits[0].snippet
    );
    let hits = memory.search("zurich").await.unwrap();
    assert_eq!(
        (hits[0].message, hits[0].snippet.as_str()),
        (None, "Planning \u{1}Zürich\u{2}")
    );
    assert_eq!(
        memory.search("天気").await.unwrap()[0].message,
        Some(cjk.id)
    );
    // Every word must be there; what looks like syntax is text.
    assert!(memory.search("matterhorn zebra").await.unwrap().is_empty());
    for odd in [
        "", "   ", "\"", "(", "a AND", "col:", "*", "-", "NEAR(", "\u{1}", "^x OR",
    ] {
        memory.search(odd).await.unwrap();
    }
    memory.rename(chat, "Elsewhere").await.unwrap();
    assert!(memory.search("zurich").await.unwrap().is_empty());
    assert_eq!(memory.search("elsewhere").await.unwrap().len(), 1);
    memory.delete(chat).await.unwrap();
    assert!(memory.search("matterhorn").await.unwrap().is_empty());
    memory.restore(chat).await.unwrap();
    assert_eq!(memory.search("matterhorn").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_chat_can_come_back_until_it_is_purged() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("gone?", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let (asked, _) = answered(&memory, chat, None, "q", "a").await;
    memory.delete(chat).await.unwrap();
    assert!(memory.chats().await.unwrap().is_empty());
    assert!(matches!(
        memory.open_chat(chat).await,
        Err(MemoryError::NoChat(_))
    ));
    assert!(matches!(
        memory.insert(chat, NewMessage::user(None, "x")).await,
        Err(MemoryError::NoChat(_))
    ));
    assert!(matches!(
        memory.delete(chat).await,
        Err(MemoryError::NoChat(_))
    ));
    memory.restore(chat).await.unwrap();
    assert_eq!(texts(&memory.open_chat(chat).await.unwrap()), ["q", "a"]);
    memory.delete(chat).await.unwrap();
    assert_eq!(memory.purge().await.unwrap(), 1);
    assert!(matches!(
        memory.restore(chat).await,
        Err(MemoryError::NoChat(_))
    ));
    assert!(matches!(
        memory.message(asked.id).await,
        Err(MemoryError::NoMessage(_))
    ));
}

#[tokio::test]
async fn deleting_is_deleting() {
    for at_start in [false, true] {
        let (folder, memory) = fresh().await;
        let chat = memory
            .create_chat("titlexyzzy", ChatSettings::default())
            .await
            .unwrap()
            .id;
        let keep = memory
            .create_chat("keep", ChatSettings::default())
            .await
            .unwrap()
            .id;
        for n in 0..30 {
            answered(
                &memory,
                chat,
                None,
                &format!("secretxyzzy {n} {}", "pad ".repeat(300)),
                "answerxyzzy",
            )
            .await;
            answered(&memory, keep, None, "kept", "kept").await;
        }
        // One that still streams goes with its chat.
        let asked = memory
            .insert(chat, NewMessage::user(None, "q"))
            .await
            .unwrap();
        let streaming = memory
            .insert(chat, NewMessage::answer(asked.id, None))
            .await
            .unwrap();
        memory
            .append(streaming.id, "streamxyzzy", &[])
            .await
            .unwrap();
        memory.delete(chat).await.unwrap();
        if at_start {
            memory.close().await.unwrap();
            let again = Memory::open(folder.path().join("memory.db")).await.unwrap();
            again.close().await.unwrap();
        } else {
            memory.purge().await.unwrap();
            memory.flush().await.unwrap();
            memory.close().await.unwrap();
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(5).any(|window| window == b"xyzzy"),
                "{} still holds it",
                path.display()
            );
        }
        let again = Memory::open(folder.path().join("memory.db")).await.unwrap();
        assert_eq!(again.tree(keep).await.unwrap().len(), 60);
    }
}

#[tokio::test]
async fn a_parent_is_a_message_of_the_same_chat() {
    let (_folder, memory) = fresh().await;
    let one = memory
        .create_chat("1", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let two = memory
        .create_chat("2", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let asked = memory
        .insert(one, NewMessage::user(None, "q"))
        .await
        .unwrap();
    assert!(matches!(
        memory
            .insert(two, NewMessage::user(Some(asked.id), "x"))
            .await,
        Err(MemoryError::NoMessage(_))
    ));
    assert!(matches!(
        memory
            .insert(two, NewMessage::user(Some(MessageId::fresh()), "x"))
            .await,
        Err(MemoryError::NoMessage(_))
    ));
    assert!(matches!(
        memory.choose(two, asked.id).await,
        Err(MemoryError::NoMessage(_))
    ));
    let large = "x".repeat(MAX_CONTENT_BYTES + 1);
    assert!(matches!(
        memory.insert(one, NewMessage::user(None, large)).await,
        Err(MemoryError::TooLarge { .. })
    ));
    assert!(memory.tree(two).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_chat_of_thousands_of_messages_opens_and_goes() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("long", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let mut parent = None;
    for n in 0..2500 {
        parent = Some(
            memory
                .insert(chat, NewMessage::user(parent, format!("{n}")))
                .await
                .unwrap()
                .id,
        );
    }
    let open = memory.open_chat(chat).await.unwrap();
    assert_eq!(open.path.len(), 2500);
    assert!(
        open.path
            .iter()
            .enumerate()
            .all(|(n, at)| at.message.content == n.to_string())
    );
    memory.delete(chat).await.unwrap();
    assert_eq!(memory.purge().await.unwrap(), 1);
}

#[tokio::test]
async fn a_temporary_memory_leaves_nothing_on_disk() {
    let memory = Memory::temporary().await.unwrap();
    let chat = memory
        .create_chat("t", ChatSettings::default())
        .await
        .unwrap()
        .id;
    answered(&memory, chat, None, "q", "a").await;
    assert_eq!(memory.search("a").await.unwrap().len(), 1);
    memory.close().await.unwrap();
    assert!(!std::path::Path::new(":memory:").exists());
}

#[tokio::test]
async fn many_callers_at_once_are_served_in_turn() {
    let (_folder, memory) = fresh().await;
    let chat = memory
        .create_chat("busy", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let memory = memory.clone();
        tasks.spawn(async move {
            memory
                .insert(chat, NewMessage::user(None, format!("{n}")))
                .await
                .unwrap()
                .id
        });
    }
    let ids: std::collections::BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 200);
    assert_eq!(memory.tree(chat).await.unwrap().len(), 200);
}
