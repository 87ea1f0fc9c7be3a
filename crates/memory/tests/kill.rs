//! A process that is killed while an answer streams loses at most what was not saved yet, and the tree stays whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/shared/killed.rs"]
mod killed;

use memory::*;

const FILE: &str = "MEMORY_KILL_FILE";
const ROUNDS: u64 = 6;

/// The child: streams for ever, and says after each save how many words are certain.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn child_streams_until_killed() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let memory = Memory::open(path).await.unwrap();
    let chat = memory
        .create_chat("streamed", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let mut parent = None;
    for turn in 0.. {
        let asked = memory
            .insert(chat, NewMessage::user(parent, format!("question {turn}")))
            .await
            .unwrap();
        let reply = memory
            .insert(chat, NewMessage::answer(asked.id, None))
            .await
            .unwrap();
        parent = Some(reply.id);
        for word in 0..200 {
            memory
                .append(reply.id, &format!("w{word} "), &[word])
                .await
                .unwrap();
            if word % 7 == 0 {
                memory.flush().await.unwrap();
                println!("saved {chat} {} {word}", reply.id);
            }
        }
        memory.finish(reply.id, Outcome::complete()).await.unwrap();
        println!("saved {chat} {} 199", reply.id);
    }
}

#[tokio::test]
async fn a_kill_costs_at_most_what_was_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let mut certain: Vec<(ChatId, MessageId, usize)> = Vec::new();
    for round in 0..ROUNDS {
        // Somewhere in the second turn or later, another place each round.
        let stop_after = 20 + (round * 37 + u64::from(std::process::id())) % 60;
        let told = killed::after(
            "child_streams_until_killed",
            &[(FILE, path.as_os_str())],
            "saved ",
            stop_after,
        );
        let words: Vec<&str> = told.last().unwrap().split_whitespace().collect();
        certain.push((
            words[0].parse::<ChatId>().unwrap(),
            words[1].parse::<MessageId>().unwrap(),
            words[2].parse::<usize>().unwrap(),
        ));

        let memory = Memory::open(&path).await.unwrap();
        for (chat, message, word) in &certain {
            let tree = memory.tree(*chat).await.unwrap();
            let at = tree
                .iter()
                .position(|kept| kept.id == *message)
                .expect("a saved message is there");
            let words: Vec<&str> = tree[at].content.split_whitespace().collect();
            assert!(
                words.len() > *word,
                "{} words are there, {word} were certain",
                words.len()
            );
            assert!(
                words
                    .iter()
                    .enumerate()
                    .all(|(n, text)| *text == format!("w{n}")),
                "a gap or a double"
            );
            let ids = memory.token_ids(*message).await.unwrap();
            assert!(
                ids.iter().copied().eq(0..words.len() as u32),
                "the tokens are those of the text"
            );
            assert!(matches!(
                tree[at].state,
                MessageState::Interrupted | MessageState::Complete
            ));
            for kept in &tree {
                assert!(
                    kept.parent
                        .is_none_or(|parent| tree.iter().any(|other| other.id == parent))
                );
                assert_ne!(kept.state, MessageState::Streaming);
            }
            let open = memory.open_chat(*chat).await.unwrap();
            assert_eq!(open.path.len(), tree.len());
        }
        memory.close().await.unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        let verdict: String = raw
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let broken: i64 = raw
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(broken, 0);
    }
}
