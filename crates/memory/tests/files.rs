//! Files as they are found: older, newer, damaged, somebody else's; and crashes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use memory::*;

/// A file of every version, written by that version's code, and the tokens that its last answer has.
const FIXTURES: [(u32, &str, &[u32]); 2] = [
    (1, include_str!("fixtures/v1.sql"), &[]),
    (2, include_str!("fixtures/v2.sql"), &[284, 262, 5491, 30]),
];

async fn written(path: &Path) -> (ChatId, MessageId) {
    let memory = Memory::open(path).await.unwrap();
    let chat = memory
        .create_chat(
            "A trip",
            ChatSettings {
                consented: true,
                ..ChatSettings::default()
            },
        )
        .await
        .unwrap()
        .id;
    let asked = memory
        .insert(chat, NewMessage::user(None, "Where to?"))
        .await
        .unwrap();
    let first = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    memory.append(first.id, "To the sea.", &[]).await.unwrap();
    let spans = vec![Span {
        from_index: 0,
        peer: Some("12D3KooWpeer".into()),
        receipt: Some("ab".into()),
        why: None,
        paid: None,
        cached: None,
    }];
    memory
        .finish(
            first.id,
            Outcome {
                spans: Some(spans),
                ..Outcome::complete()
            },
        )
        .await
        .unwrap();
    let second = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    memory
        .append(second.id, "To the mountains.", &[284, 262, 5491, 30])
        .await
        .unwrap();
    let stats = Stats {
        prompt_tokens: Some(4),
        output_tokens: Some(5),
        first_token_ms: Some(80),
        tokens_per_second: Some(20.5),
        reasoning_ms: None,
    };
    let model = ModelUsed {
        id: "m".into(),
        name: "Model".into(),
        digest: None,
    };
    memory
        .finish(
            second.id,
            Outcome {
                stats,
                model: Some(model),
                ..Outcome::of(MessageState::Length)
            },
        )
        .await
        .unwrap();
    memory.close().await.unwrap();
    (chat, second.id)
}

#[tokio::test]
async fn every_earlier_version_opens_with_all_it_held() {
    assert_eq!(
        FIXTURES.last().unwrap().0,
        SCHEMA_VERSION,
        "a new version needs its own fixture"
    );
    for (version, sql, token_ids) in FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        let memory = Memory::open(&path).await.unwrap();
        let chats = memory.chats().await.unwrap();
        assert_eq!(chats.len(), 1, "version {version}");
        assert!(chats[0].remote && chats[0].chat.settings.consented);
        let open = memory.open_chat(chats[0].chat.id).await.unwrap();
        assert_eq!(open.path[1].message.content, "To the mountains.");
        assert_eq!(open.path[1].siblings.len(), 2);
        let last = open.path[1].message.id;
        assert_eq!(memory.token_ids(last).await.unwrap(), token_ids);
        assert_eq!(memory.search("sea").await.unwrap().len(), 1);
        assert_eq!(memory.search("trip").await.unwrap().len(), 1);
        memory.close().await.unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        let now: u32 = raw
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(now, SCHEMA_VERSION);
        let verdict: String = raw
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// Writes a fixture of the present version to the path in `WRITE_FIXTURE`: run it once, before a version is released.
#[tokio::test]
#[ignore = "writes a file of the source tree"]
async fn write_the_fixture_of_this_version() {
    let Ok(target) = std::env::var("WRITE_FIXTURE") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    written(&path).await;
    let raw = rusqlite::Connection::open(&path).unwrap();
    let mut sql = String::from(
        "-- Written by the code of this version; never edited.\nPRAGMA foreign_keys = OFF;\n",
    );
    let shadow = "name NOT LIKE 'message_text_%' AND name NOT LIKE 'chat_title_%' AND name NOT LIKE 'sqlite_%'";
    let order = "ORDER BY CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 2 WHEN type = 'table' THEN 1 WHEN type = 'index' THEN 3 ELSE 4 END, name";
    let mut statement = raw
        .prepare(&format!(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND {shadow} {order}"
        ))
        .unwrap();
    for line in statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
    {
        sql.push_str(&format!("{};\n", line.unwrap()));
    }
    for table in ["chat", "message"] {
        let mut columns: Vec<String> = Vec::new();
        raw.pragma(None, "table_info", table, |row| {
            columns.push(row.get(1)?);
            Ok(())
        })
        .unwrap();
        let quoted: Vec<String> = columns
            .iter()
            .map(|column| format!("quote({column})"))
            .collect();
        let mut rows = raw
            .prepare(&format!(
                "SELECT {} FROM {table} ORDER BY n",
                quoted.join(" || ', ' || ")
            ))
            .unwrap();
        for row in rows.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            sql.push_str(&format!(
                "INSERT INTO {table} ({}) VALUES ({});\n",
                columns.join(", "),
                row.unwrap()
            ));
        }
    }
    for fts in ["message_text", "chat_title"] {
        sql.push_str(&format!(
            "INSERT INTO {fts} ({fts}, rank) VALUES ('secure-delete', 1);\n"
        ));
    }
    let id: i64 = raw
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .unwrap();
    sql.push_str(&format!(
        "PRAGMA application_id = {id};\nPRAGMA user_version = {SCHEMA_VERSION};\n"
    ));
    std::fs::write(target, sql).unwrap();
}

#[tokio::test]
async fn a_newer_file_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    written(&path).await;
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", SCHEMA_VERSION + 7)
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    match Memory::open(&path).await {
        Err(MemoryError::NewerDatabase {
            found, supported, ..
        }) => {
            assert_eq!((found, supported), (SCHEMA_VERSION + 7, SCHEMA_VERSION));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let garbage: Vec<u8> = (0..20_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(&path, &garbage).unwrap();
    assert!(matches!(
        Memory::open(&path).await,
        Err(MemoryError::Corrupt { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_cut_file_is_never_a_panic_and_never_wrong_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (chat, _) = written(&path).await;
    let whole = std::fs::read(&path).unwrap();
    for cut in (1..whole.len()).step_by(1777) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        for beside in ["memory.db-wal", "memory.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(beside));
        }
        match Memory::open(&path).await {
            Ok(memory) => {
                if let Ok(open) = memory.open_chat(chat).await {
                    assert_eq!(open.path[0].message.content, "Where to?");
                }
                let _ = memory.search("sea").await;
                let _ = memory.create_chat("x", ChatSettings::default()).await;
                let _ = memory.close().await;
            }
            Err(
                MemoryError::Corrupt { .. }
                | MemoryError::NotAMemory { .. }
                | MemoryError::Sqlite(_),
            ) => {}
            Err(other) => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE photos (id)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(
        Memory::open(&path).await,
        Err(MemoryError::NotAMemory { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/memory.db");
    match Memory::open(&path).await {
        Err(MemoryError::Access { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_streamed_at_a_crash_is_interrupted_and_keeps_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let memory = Memory::open(&path).await.unwrap();
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
    memory.append(reply.id, "half an ans", &[]).await.unwrap();
    // The last handle goes without a word: what was appended is saved all the same, in the thread's own time.
    drop(memory);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let on_disk = || -> String {
        let sql = "SELECT content FROM message WHERE id = ?1";
        raw.query_row(sql, [reply.id.to_string()], |row| row.get(0))
            .unwrap()
    };
    while on_disk() != "half an ans" {
        tokio::task::yield_now().await;
    }
    let memory = Memory::open(&path).await.unwrap();
    assert_eq!(
        memory.message(reply.id).await.unwrap().state,
        MessageState::Interrupted
    );
    assert_eq!(memory.search("half").await.unwrap().len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let memory = Memory::open(&path).await.unwrap();
    memory
        .create_chat("x", ChatSettings::default())
        .await
        .unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(
            mode & 0o077,
            0,
            "{} has mode {mode:o}",
            entry.path().display()
        );
    }
}
