//! A chat as a text that reads without this program.

use std::fmt::Write as _;

use serde_json::json;

use crate::ask::reasoning;

/// The active branch, for reading.
pub(super) fn markdown(open: &memory::OpenChat) -> String {
    let title = if open.chat.title.is_empty() {
        "Chat"
    } else {
        &open.chat.title
    };
    let mut text = format!("# {}\n", title.replace('\n', " "));
    for step in &open.path {
        let message = &step.message;
        let (who, content) = match message.role {
            memory::Role::User => ("You".to_owned(), message.content.clone()),
            memory::Role::System => ("System".to_owned(), message.content.clone()),
            memory::Role::Assistant => {
                let name = message
                    .model
                    .as_ref()
                    .map_or("Assistant", |model| model.name.as_str());
                let remote = message.spans.iter().any(|span| span.peer.is_some());
                let place = if remote {
                    "a peer's computer"
                } else {
                    "this computer"
                };
                (
                    format!("{name}, {place}"),
                    reasoning::split(&message.content).1,
                )
            }
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {who}\n\n{}\n", content.trim());
    }
    text
}

/// Every branch, for a program: messages name their parents.
pub(super) fn json(open: &memory::OpenChat, tree: &[memory::Message]) -> String {
    let messages: Vec<serde_json::Value> = tree
        .iter()
        .map(|message| {
            let (thought, content) = match message.role {
                memory::Role::Assistant => reasoning::split(&message.content),
                memory::Role::User | memory::Role::System => (None, message.content.clone()),
            };
            json!({
                "id": message.id,
                "parent": message.parent,
                "role": message.role,
                "content": content,
                "reasoning": thought,
                "state": message.state,
                "model": message.model,
                "spans": message.spans,
                "createdMs": message.created_ms,
            })
        })
        .collect();
    let document = json!({
        "format": "decentralgpt-chat-1",
        "id": open.chat.id,
        "title": open.chat.title,
        "createdMs": open.chat.created_ms,
        "leaf": open.chat.leaf,
        "settings": open.chat.settings,
        "messages": messages,
    });
    format!("{document:#}\n")
}
