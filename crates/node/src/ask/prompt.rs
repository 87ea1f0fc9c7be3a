//! From a branch of messages to the ids of a prompt that fits.

use std::path::Path;

use engine::{ChatMessage, ChatPrompt, EngineError, EngineHandle, Role};
use memory::MessageId;

use super::reasoning;
use crate::{error::NodeError, models::Model};

/// At most this part of the context is kept free for the answer: a long limit of output must not push the conversation
/// out of a small context.
const ANSWER_SHARE: u32 = 4;

/// Ids at the prompt's end that are turned back to text to see whether the template opened a think mark.
const TAIL_IDS: usize = 8;

/// One turn of the conversation as the model sees it.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// The first stored message in it; `None` for one that is not stored yet.
    id: Option<MessageId>,
    role: Role,
    content: String,
}

/// A prompt that fits.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// The first message that is in it, when older ones were left out.
    pub(crate) first_seen: Option<MessageId>,
    /// The template itself opened the think mark.
    pub(crate) inside_reasoning: bool,
}

/// How much a prompt may take, and what to do when it takes more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// The model's context; 0 when it is not known.
    pub(crate) limit: u32,
    /// Tokens of the answer that are there already, when it is gone on with.
    pub(crate) resume: u32,
    /// Most tokens of the answer.
    pub(crate) max_out: u32,
    pub(crate) on_full: memory::OnFull,
}

impl Room {
    fn for_prompt(self) -> u32 {
        if self.limit == 0 {
            return u32::MAX;
        }
        self.limit.saturating_sub(self.for_answer())
    }

    fn for_answer(self) -> u32 {
        self.max_out
            .min(self.limit / ANSWER_SHARE)
            .max(1)
            .saturating_add(self.resume)
    }
}

/// The turns of a branch: reasoning left out, as the models' cards ask; empty answers skipped; two messages of one role
/// in a row joined, because most templates insist on taking turns.
pub(crate) fn turns(branch: Vec<memory::Message>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(branch.len());
    for message in branch {
        let (role, content) = match message.role {
            memory::Role::User => (Role::User, message.content),
            memory::Role::Assistant => (
                Role::Assistant,
                reasoning::split(&message.content).1.trim().to_owned(),
            ),
            memory::Role::System => (Role::System, message.content),
        };
        if content.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some(last) if last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(&content);
            }
            Some(_) | None => turns.push(Turn {
                id: Some(message.id),
                role,
                content,
            }),
        }
    }
    turns
}

/// Adds what the person says now.
pub(crate) fn say(turns: &mut Vec<Turn>, text: String) {
    match turns.last_mut() {
        Some(last) if last.role == Role::User => {
            last.content.push_str("\n\n");
            last.content.push_str(&text);
        }
        Some(_) | None => turns.push(Turn {
            id: None,
            role: Role::User,
            content: text,
        }),
    }
}

/// The system prompt: the chat's (an empty one is none), else the model's own.
pub(crate) fn system(chat: Option<&str>, model: Option<&Model>) -> Option<String> {
    match chat {
        Some(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        None => model.and_then(|model| model.system_prompt.clone()),
    }
}

/// Renders turns with a file's own template.
pub(crate) async fn render(
    engine: &EngineHandle,
    file: &Path,
    system: Option<String>,
    turns: &[Turn],
) -> Result<Vec<u32>, NodeError> {
    let messages = turns
        .iter()
        .map(|turn| ChatMessage::new(turn.role, turn.content.clone()))
        .collect();
    let prompt = ChatPrompt {
        system,
        messages,
        ..ChatPrompt::default()
    };
    // Text work costs nothing: it is done again, once, when the worker died under it or was found dead.
    let rendered = match engine.render(file, &prompt).await {
        Err(EngineError::WorkerDied { .. }) => engine.render(file, &prompt).await,
        rendered => rendered,
    };
    Ok(rendered?)
}

/// Renders turns so that they fit, leaving out the oldest where the chat says so.
///
/// # Errors
/// [`NodeError::ContextFull`] when it does not fit and the person is to be asked, [`NodeError::MessageTooLong`] when the
/// last message alone does not.
pub(crate) async fn build(
    engine: &EngineHandle,
    file: &Path,
    system: Option<String>,
    turns: &[Turn],
    room: Room,
    model: &str,
) -> Result<Prompt, NodeError> {
    let whole = render(engine, file, system.clone(), turns).await?;
    let used = count(&whole);
    if used <= room.for_prompt() {
        return finish(engine, file, whole, None).await;
    }
    // A prompt begins with a question: only there it can be cut.
    let cuts: Vec<usize> = (1..turns.len())
        .filter(|&at| turns[at].role == Role::User)
        .collect();
    let Some((&last, _)) = cuts.split_last() else {
        return Err(too_long(used, room, model));
    };
    let shortest = render(engine, file, system.clone(), &turns[last..]).await?;
    if count(&shortest) > room.for_prompt() {
        return Err(too_long(count(&shortest), room, model));
    }
    match room.on_full {
        memory::OnFull::Ask => Err(NodeError::ContextFull {
            used: used.saturating_add(room.for_answer()),
            limit: room.limit,
            model: model.to_owned(),
        }),
        memory::OnFull::DropOldest => {
            let (mut fits, mut ids) = (cuts.len() - 1, shortest);
            let mut low = 0;
            while low < fits {
                let middle = (low + fits) / 2;
                let tried = render(engine, file, system.clone(), &turns[cuts[middle]..]).await?;
                if count(&tried) <= room.for_prompt() {
                    (fits, ids) = (middle, tried);
                } else {
                    low = middle + 1;
                }
            }
            finish(engine, file, ids, turns[cuts[fits]].id).await
        }
    }
}

async fn finish(
    engine: &EngineHandle,
    file: &Path,
    ids: Vec<u32>,
    first_seen: Option<MessageId>,
) -> Result<Prompt, NodeError> {
    let tail = &ids[ids.len().saturating_sub(TAIL_IDS)..];
    let mut stream = engine.text_stream(file, Vec::new()).await?;
    let mut text = stream.push(tail).await?.text;
    text.push_str(&stream.finish().await?.text);
    Ok(Prompt {
        inside_reasoning: reasoning::ends_inside(&text),
        ids,
        first_seen,
    })
}

fn too_long(used: u32, room: Room, model: &str) -> NodeError {
    NodeError::MessageTooLong {
        used: used.saturating_add(room.for_answer()),
        limit: room.limit,
        model: model.to_owned(),
    }
}

fn count(ids: &[u32]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use engine::EngineOptions;

    use super::*;

    fn turn(role: Role, content: &str) -> Turn {
        Turn {
            id: Some(MessageId::fresh()),
            role,
            content: content.to_owned(),
        }
    }

    /// Renders with the real starter; `None` where it or the worker is not here.
    fn starter() -> Option<(EngineHandle, PathBuf)> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let file = std::env::var_os("DECENTRALGPT_STARTER").map_or_else(
            || models.join("SmolLM2-135M-Instruct.Q4_1.gguf"),
            PathBuf::from,
        );
        let test = std::env::current_exe().ok()?;
        let dirs = vec![test.parent()?.parent()?.to_owned()];
        if !file.is_file() || engine::locate_worker(&dirs).is_err() {
            println!("skipped: the starter or the worker is not here");
            return None;
        }
        let readable = vec![file.parent()?.to_owned()];
        Some((
            EngineHandle::new(EngineOptions {
                worker_dirs: dirs,
                readable,
                ..EngineOptions::default()
            }),
            file,
        ))
    }

    #[tokio::test]
    async fn what_does_not_fit_is_asked_about_or_left_out_from_the_front() {
        let Some((engine, file)) = starter() else {
            return;
        };
        let turns = [
            turn(Role::User, &"one ".repeat(300)),
            turn(Role::Assistant, "Yes."),
            turn(Role::User, &"two ".repeat(200)),
            turn(Role::Assistant, "No."),
            turn(Role::User, "three"),
        ];
        let whole = count(&render(&engine, &file, None, &turns).await.unwrap());
        let room = |limit, on_full| Room {
            limit,
            resume: 0,
            max_out: 50,
            on_full,
        };
        let build = async |room| build(&engine, &file, None, &turns, room, "a model").await;

        let prompt = build(room(whole + 50, memory::OnFull::Ask)).await.unwrap();
        assert_eq!(
            (
                count(&prompt.ids),
                prompt.first_seen,
                prompt.inside_reasoning
            ),
            (whole, None, false)
        );
        let refused = build(room(whole + 49, memory::OnFull::Ask))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, NodeError::ContextFull { .. }),
            "{refused}"
        );
        let prompt = build(room(whole + 49, memory::OnFull::DropOldest))
            .await
            .unwrap();
        assert_eq!(prompt.first_seen, turns[2].id);
        let prompt = build(room(200, memory::OnFull::DropOldest)).await.unwrap();
        assert_eq!(prompt.first_seen, turns[4].id);
        let refused = build(room(20, memory::OnFull::DropOldest))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, NodeError::MessageTooLong { .. }),
            "{refused}"
        );
        engine.shutdown().await;
    }

    #[test]
    fn turns_take_turns() {
        let mut turns = Vec::new();
        say(&mut turns, "one".to_owned());
        say(&mut turns, "two".to_owned());
        assert_eq!(turns.len(), 1);
        assert_eq!(turns[0].content, "one\n\ntwo");
        assert_eq!(system(Some("  "), None), None);
        assert_eq!(system(Some(" x "), None).as_deref(), Some("x"));
    }
}
