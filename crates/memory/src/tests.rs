//! What needs the thread's own connection: a disk that is full at a chosen moment.

#[path = "../../../tests/shared/full_disk.rs"]
mod full_disk;

use crate::*;

async fn limit_pages(memory: &Memory, more: Option<i64>) {
    memory
        .call(move |store| {
            full_disk::limit_pages(store.connection(), more);
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(folder.path().join("memory.db")).await.unwrap();
    let chat = memory
        .create_chat("", ChatSettings::default())
        .await
        .unwrap()
        .id;
    let asked = memory
        .insert(chat, NewMessage::user(None, "before"))
        .await
        .unwrap();
    let reply = memory
        .insert(chat, NewMessage::answer(asked.id, None))
        .await
        .unwrap();
    limit_pages(&memory, Some(0)).await;

    let large = "x".repeat(100_000);
    let refused = memory
        .insert(chat, NewMessage::user(Some(asked.id), large.clone()))
        .await;
    assert!(
        matches!(refused, Err(MemoryError::DiskFull { .. })),
        "{refused:?}"
    );

    // The answer that streams meanwhile is held, said to be behind, and not lost.
    assert_eq!(
        memory.append(reply.id, &large, &[]).await.unwrap(),
        Autosave::Behind
    );
    assert_eq!(
        memory.append(reply.id, "end", &[]).await.unwrap(),
        Autosave::Behind
    );
    assert!(matches!(
        memory.flush().await,
        Err(MemoryError::DiskFull { .. })
    ));
    assert!(matches!(
        memory.finish(reply.id, Outcome::complete()).await,
        Err(MemoryError::DiskFull { .. })
    ));
    assert_eq!(
        memory.message(reply.id).await.unwrap().content.len(),
        100_003
    );
    assert_eq!(memory.tree(chat).await.unwrap().len(), 2);

    limit_pages(&memory, None).await;
    let done = memory.finish(reply.id, Outcome::complete()).await.unwrap();
    assert!(done.content.len() == 100_003 && done.content.ends_with("xend"));
    memory.close().await.unwrap();
    let memory = Memory::open(folder.path().join("memory.db")).await.unwrap();
    assert_eq!(
        memory.message(reply.id).await.unwrap().content.len(),
        100_003
    );
}

#[tokio::test]
async fn text_is_saved_by_itself_within_the_second() {
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
    memory.append(reply.id, "by itself", &[]).await.unwrap();
    // Nobody asks for anything more; another connection sees it on disk all the same.
    let raw = rusqlite::Connection::open(&path).unwrap();
    loop {
        let on_disk: String = raw
            .query_row(
                "SELECT content FROM message WHERE id = ?1",
                [reply.id.to_string()],
                |row| row.get(0),
            )
            .unwrap();
        if on_disk == "by itself" {
            break;
        }
        tokio::time::sleep(AUTOSAVE_EVERY / 10).await;
    }
}
