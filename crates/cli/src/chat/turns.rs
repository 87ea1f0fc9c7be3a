//! Talking in turns at a terminal.

use node::{ChatView, MessageState, ModelState};
use rustyline::{DefaultEditor, error::ReadlineError};

use super::{Wanted, ask, leaf, open, place_of};
use crate::{
    arguments::Chat,
    core::Core,
    failure::{self, Failure},
    output::Output,
    stop::Stop,
};

const HELP: &str = "\
/new       begin a new chat
/retry     answer the last question again
/continue  go on with an answer that was stopped or cut
/help      this
/quit      end; so does Ctrl-D
Ctrl-C stops an answer. A line that ends with \\ goes on in the next one.";

/// What a person typed.
enum Typed {
    Text(String),
    New,
    Retry,
    Continue,
    Help,
    Unknown(String),
    Nothing,
    End,
    Interrupt,
}

pub(super) async fn talk(
    core: &Core,
    arguments: &Chat,
    mut chat: ChatView,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut editor = DefaultEditor::new().map_err(|error| terminal(&error))?;
    greet(core, &chat, output).await?;
    let mut parent = leaf(&chat);
    let mut last_question: Option<String> = None;
    loop {
        let (back, typed) = tokio::task::spawn_blocking(move || {
            let typed = read(&mut editor);
            (editor, typed)
        })
        .await
        .map_err(|_| Failure::Told)?;
        editor = back;
        let wanted = match typed? {
            Typed::Text(text) => Wanted::Say {
                below: parent.clone(),
                text,
            },
            Typed::Retry => match &last_question {
                Some(question) => Wanted::Again(question.clone()),
                None => {
                    output.news("There is no question yet.");
                    continue;
                }
            },
            Typed::Continue => match &parent {
                Some(answer) => Wanted::Rest(answer.clone()),
                None => {
                    output.news("There is no answer yet.");
                    continue;
                }
            },
            Typed::New => {
                chat = open(core, arguments, output, stop).await?;
                (parent, last_question) = (None, None);
                output.news("A new chat.");
                continue;
            }
            Typed::Help => {
                output.news(HELP);
                continue;
            }
            Typed::Unknown(command) => {
                output.news(&format!(
                    "There is no {command}; /help lists what there is."
                ));
                continue;
            }
            Typed::Nothing => continue,
            Typed::End => return Ok(()),
            Typed::Interrupt => return Err(Failure::Interrupted),
        };
        match turn(core, &chat, wanted, output, stop).await {
            Ok((answer, question)) => {
                parent = answer;
                last_question = question;
            }
            // The chat goes on: what was wrong is on the screen, and the person is there.
            Err(Failure::Said(error)) => failure::say(output, &error),
            Err(Failure::Told) => {}
            Err(failure @ (Failure::Interrupted | Failure::OutputClosed)) => return Err(failure),
        }
    }
}

/// One question and its answer: where the next one hangs, and the id of the question.
async fn turn(
    core: &Core,
    chat: &ChatView,
    wanted: Wanted,
    output: &mut Output,
    stop: &Stop,
) -> Result<(Option<String>, Option<String>), Failure> {
    let (answer, question) = ask(core, &chat.id, wanted, false, output, stop).await?;
    let state = answer.state();
    let stopped = state == Some(MessageState::Stopped);
    let id = answer.id();
    let ended = answer.end(output);
    if state == Some(MessageState::Length) {
        output.news("/continue goes on from there.");
    }
    match ended {
        // Stopping an answer is not leaving the chat.
        Err(Failure::Interrupted) if stopped => Ok((id, question)),
        Ok(()) => Ok((id, question)),
        Err(failure) => Err(failure),
    }
}

async fn greet(core: &Core, chat: &ChatView, output: &mut Output) -> Result<(), Failure> {
    let models = core.client.models_list().await?;
    let row = models.rows.iter().find(|row| match &chat.model {
        Some(id) => row.id == *id,
        None => row.is_default,
    });
    let ready = || {
        let rows = models.rows.iter();
        rows.filter(|row| matches!(row.state, ModelState::Ready { .. }))
    };
    let model = row
        .or_else(|| ready().find(|row| row.starter))
        .or_else(|| ready().next());
    let model = model.map_or("no model yet", |row| row.name.as_str());
    output.news(&format!(
        "{model}, on {}. Ctrl-C stops an answer, Ctrl-D ends, /help lists more.",
        place_of(chat)
    ));
    Ok(())
}

/// Reads one message, which may be several lines.
fn read(editor: &mut DefaultEditor) -> Result<Typed, Failure> {
    let mut text = String::new();
    loop {
        let line = match editor.readline(if text.is_empty() { "> " } else { "… " }) {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(Typed::End),
            Err(ReadlineError::Interrupted) if text.is_empty() => return Ok(Typed::Interrupt),
            // A half-written message is given up; the chat is not.
            Err(ReadlineError::Interrupted) => return Ok(Typed::Nothing),
            Err(error) => return Err(terminal(&error)),
        };
        match line.strip_suffix('\\') {
            Some(part) => {
                text.push_str(part);
                text.push('\n');
            }
            None => {
                text.push_str(&line);
                break;
            }
        }
    }
    let typed = match text.trim() {
        "" => Typed::Nothing,
        "/new" => Typed::New,
        "/retry" => Typed::Retry,
        "/continue" => Typed::Continue,
        "/help" => Typed::Help,
        "/quit" | "/exit" => Typed::End,
        other if other.starts_with('/') && !other.contains(char::is_whitespace) => {
            Typed::Unknown(other.to_owned())
        }
        _ => Typed::Text(text),
    };
    if let Typed::Text(text) = &typed {
        // For this run alone: what people ask is not left on the disk beside their chats.
        let _ = editor.add_history_entry(text.as_str());
    }
    Ok(typed)
}

fn terminal(error: &ReadlineError) -> Failure {
    Failure::new(
        "terminal",
        format!("The terminal cannot be read: {error}."),
        "give the question behind `chat`, or through a pipe.",
    )
}
