//! Random operations against a slow, obvious model: no operation loses a message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use memory::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Create,
    Insert { chat: usize, parent: usize },
    Answer { chat: usize, parent: usize },
    Append { message: usize },
    Finish { message: usize, state: MessageState },
    Choose { message: usize },
    Rename { chat: usize },
    Delete { chat: usize },
    Restore { chat: usize },
    Purge,
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let ends = prop_oneof![
        Just(MessageState::Complete),
        Just(MessageState::Stopped),
        Just(MessageState::Length),
        Just(MessageState::Failed),
    ];
    prop_oneof![
        2 => Just(Op::Create),
        6 => (any::<usize>(), any::<usize>()).prop_map(|(chat, parent)| Op::Insert { chat, parent }),
        5 => (any::<usize>(), any::<usize>()).prop_map(|(chat, parent)| Op::Answer { chat, parent }),
        8 => any::<usize>().prop_map(|message| Op::Append { message }),
        4 => (any::<usize>(), ends).prop_map(|(message, state)| Op::Finish { message, state }),
        3 => any::<usize>().prop_map(|message| Op::Choose { message }),
        1 => any::<usize>().prop_map(|chat| Op::Rename { chat }),
        1 => any::<usize>().prop_map(|chat| Op::Delete { chat }),
        1 => any::<usize>().prop_map(|chat| Op::Restore { chat }),
        1 => Just(Op::Purge),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    id: MessageId,
    parent: Option<MessageId>,
    content: String,
    state: MessageState,
}

#[derive(Debug, Default)]
struct Known {
    title: String,
    deleted: bool,
    leaf: Option<MessageId>,
    messages: Vec<Kept>,
}

impl Known {
    fn youngest_leaf(&self, from: MessageId) -> MessageId {
        match self
            .messages
            .iter()
            .rev()
            .find(|kept| kept.parent == Some(from))
        {
            Some(child) => self.youngest_leaf(child.id),
            None => from,
        }
    }

    fn path(&self) -> Vec<MessageId> {
        let mut path = Vec::new();
        let mut at = self.leaf;
        while let Some(id) = at {
            path.push(id);
            at = self
                .messages
                .iter()
                .find(|kept| kept.id == id)
                .unwrap()
                .parent;
        }
        path.reverse();
        path
    }
}

fn nth<T: Clone>(list: &[T], n: usize) -> Option<T> {
    if list.is_empty() {
        None
    } else {
        Some(list[n % list.len()].clone())
    }
}

async fn check(memory: &Memory, model: &BTreeMap<ChatId, Known>) {
    let listed: Vec<ChatId> = memory
        .chats()
        .await
        .unwrap()
        .into_iter()
        .map(|chat| chat.chat.id)
        .collect();
    for (id, known) in model {
        assert_eq!(listed.contains(id), !known.deleted);
        if known.deleted {
            continue;
        }
        let tree: Vec<Kept> = memory
            .tree(*id)
            .await
            .unwrap()
            .into_iter()
            .map(|m| Kept {
                id: m.id,
                parent: m.parent,
                content: m.content,
                state: m.state,
            })
            .collect();
        assert_eq!(tree, known.messages);
        let open = memory.open_chat(*id).await.unwrap();
        assert_eq!(open.chat.title, known.title);
        assert_eq!(
            open.path.iter().map(|at| at.message.id).collect::<Vec<_>>(),
            known.path()
        );
        for at in &open.path {
            let siblings: Vec<MessageId> = known
                .messages
                .iter()
                .filter(|kept| kept.parent == at.message.parent)
                .map(|kept| kept.id)
                .collect();
            assert_eq!(at.siblings, siblings);
        }
    }
}

async fn run(ops: Vec<Op>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let mut memory = Memory::open(&path).await.unwrap();
    let mut model: BTreeMap<ChatId, Known> = BTreeMap::new();
    let mut words = 0u32;
    for op in ops {
        let alive: Vec<ChatId> = model
            .iter()
            .filter(|(_, known)| !known.deleted)
            .map(|(id, _)| *id)
            .collect();
        let all: Vec<ChatId> = model.keys().copied().collect();
        let messages: Vec<(ChatId, MessageId)> = alive
            .iter()
            .flat_map(|id| model[id].messages.iter().map(|kept| (*id, kept.id)))
            .collect();
        words += 1;
        match op {
            Op::Create => {
                let chat = memory
                    .create_chat("new", ChatSettings::default())
                    .await
                    .unwrap();
                model.insert(
                    chat.id,
                    Known {
                        title: "new".into(),
                        ..Known::default()
                    },
                );
            }
            Op::Insert { chat, parent } | Op::Answer { chat, parent } => {
                let Some(chat) = nth(&alive, chat) else {
                    continue;
                };
                let known = model.get_mut(&chat).unwrap();
                let parents: Vec<Option<MessageId>> = std::iter::once(None)
                    .chain(known.messages.iter().map(|kept| Some(kept.id)))
                    .collect();
                let parent = nth(&parents, parent).unwrap();
                let new = match (&op, parent) {
                    (Op::Answer { .. }, Some(parent)) => NewMessage::answer(parent, None),
                    _ => NewMessage::user(parent, format!("word{words}")),
                };
                let message = memory.insert(chat, new).await.unwrap();
                known.leaf = Some(message.id);
                known.messages.push(Kept {
                    id: message.id,
                    parent,
                    content: message.content,
                    state: message.state,
                });
            }
            Op::Append { message } => {
                let Some((chat, id)) = nth(&messages, message) else {
                    continue;
                };
                let kept = model
                    .get_mut(&chat)
                    .unwrap()
                    .messages
                    .iter_mut()
                    .find(|kept| kept.id == id)
                    .unwrap();
                let appended = memory.append(id, &format!("more{words} "), &[]).await;
                if kept.state == MessageState::Streaming {
                    appended.unwrap();
                    kept.content.push_str(&format!("more{words} "));
                } else {
                    assert!(matches!(appended, Err(MemoryError::Finished(_))));
                }
            }
            Op::Finish { message, state } => {
                let Some((chat, id)) = nth(&messages, message) else {
                    continue;
                };
                let kept = model
                    .get_mut(&chat)
                    .unwrap()
                    .messages
                    .iter_mut()
                    .find(|kept| kept.id == id)
                    .unwrap();
                let finished = memory.finish(id, Outcome::of(state)).await;
                if kept.state == MessageState::Streaming {
                    finished.unwrap();
                    kept.state = state;
                } else {
                    assert!(matches!(finished, Err(MemoryError::Finished(_))));
                }
            }
            Op::Choose { message } => {
                let Some((chat, id)) = nth(&messages, message) else {
                    continue;
                };
                memory.choose(chat, id).await.unwrap();
                let known = model.get_mut(&chat).unwrap();
                known.leaf = Some(known.youngest_leaf(id));
            }
            Op::Rename { chat } => {
                let Some(chat) = nth(&alive, chat) else {
                    continue;
                };
                memory.rename(chat, &format!("title{words}")).await.unwrap();
                model.get_mut(&chat).unwrap().title = format!("title{words}");
            }
            Op::Delete { chat } => {
                let Some(chat) = nth(&alive, chat) else {
                    continue;
                };
                memory.delete(chat).await.unwrap();
                model.get_mut(&chat).unwrap().deleted = true;
            }
            Op::Restore { chat } => {
                let Some(chat) = nth(&all, chat) else {
                    continue;
                };
                memory.restore(chat).await.unwrap();
                model.get_mut(&chat).unwrap().deleted = false;
            }
            Op::Purge => {
                memory.purge().await.unwrap();
                model.retain(|_, known| !known.deleted);
            }
            Op::Flush => memory.flush().await.unwrap(),
            Op::Reopen => {
                memory.close().await.unwrap();
                memory = Memory::open(&path).await.unwrap();
                model.retain(|_, known| !known.deleted);
                for kept in model
                    .values_mut()
                    .flat_map(|known| known.messages.iter_mut())
                {
                    if kept.state == MessageState::Streaming {
                        kept.state = MessageState::Interrupted;
                    }
                }
            }
        }
        check(&memory, &model).await;
    }
    // What is finished is found, what is deleted is not.
    for known in model.values() {
        for kept in known
            .messages
            .iter()
            .filter(|kept| kept.content.starts_with("word"))
        {
            let found = memory
                .search(&kept.content)
                .await
                .unwrap()
                .iter()
                .any(|hit| hit.message == Some(kept.id));
            assert_eq!(found, !known.deleted, "{}", kept.content);
        }
    }
    memory.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_operation_loses_a_message(ops in proptest::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(ops));
    }
}
