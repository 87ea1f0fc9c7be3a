//! `chat`: one answer, or many in turns.

mod turns;

use std::io::{self, IsTerminal, Read};

use node::{AnswerEvent, ChatPatch, ChatView, Place};

use crate::{
    answer::{self, Answer},
    arguments::{Chat, PlaceArgument},
    core::Core,
    failure::Failure,
    output::Output,
    stop::Stop,
};

/// Text that is read from a pipe: several times what any context holds. More is a file that was meant for something else.
const MAX_PIPE_BYTES: u64 = 4 << 20;

pub(crate) async fn chat(
    core: &Core,
    arguments: Chat,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let question = question(&arguments, output).await?;
    let chat = open(core, &arguments, output, stop).await?;
    match question {
        Some(text) => {
            let below = leaf(&chat);
            let wanted = Wanted::Say { below, text };
            let (answer, _) = ask(core, &chat.id, wanted, arguments.json, output, stop).await?;
            answer.end(output)
        }
        None => turns::talk(core, &arguments, chat, output, stop).await,
    }
}

/// What an answer is wanted for.
enum Wanted {
    /// A new message below another one.
    Say { below: Option<String>, text: String },
    /// Another answer to this message.
    Again(String),
    /// The rest of this answer.
    Rest(String),
}

/// The last message of the chat's active branch: what comes next hangs below it.
fn leaf(chat: &ChatView) -> Option<String> {
    chat.messages.last().map(|message| message.id.clone())
}

/// The prompt and what the pipe brings, or nothing where a person sits at a terminal.
async fn question(arguments: &Chat, output: &Output) -> Result<Option<String>, Failure> {
    let mut text = arguments.prompt.clone().unwrap_or_default();
    if !io::stdin().is_terminal() {
        let piped = tokio::task::spawn_blocking(read_pipe)
            .await
            .unwrap_or_else(|_| Err(nothing_asked()))?;
        if !piped.trim().is_empty() {
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            text.push_str(&piped);
        }
    }
    if !text.trim().is_empty() {
        return Ok(Some(text));
    }
    if io::stdin().is_terminal()
        && output.answer_is_watched
        && !arguments.json
        && arguments.prompt.is_none()
    {
        return Ok(None);
    }
    Err(nothing_asked())
}

fn read_pipe() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(MAX_PIPE_BYTES + 1)
        .read_to_end(&mut bytes);
    if let Err(error) = read {
        return Err(Failure::new(
            "input",
            format!("Standard input cannot be read: {error}."),
            "check the command before the pipe.",
        ));
    }
    if bytes.len() as u64 > MAX_PIPE_BYTES {
        return Err(Failure::new(
            "too_long",
            format!(
                "The pipe brings more than {MAX_PIPE_BYTES} bytes, which no model can read at once."
            ),
            "send a part of it, for example through `head -c 20000`.",
        ));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(
            "input",
            "The pipe brings something that is not text.",
            "send text in UTF-8.",
        )
    })
}

fn nothing_asked() -> Failure {
    Failure::new(
        "nothing_to_send",
        "There is no question.",
        "write it behind `chat`, or send it through a pipe.",
    )
}

/// A new chat as the arguments want it, with the peers connected.
async fn open(
    core: &Core,
    arguments: &Chat,
    output: &mut Output,
    stop: &Stop,
) -> Result<ChatView, Failure> {
    let peers = connect(core, &arguments.peers, output, stop).await?;
    let chat = core.client.chat_create(arguments.temporary).await?;
    let place = match arguments.place {
        Some(PlaceArgument::Local) => Some(Place::Local),
        Some(PlaceArgument::Peer) => Some(Place::Peer),
        Some(PlaceArgument::Automatic) => Some(Place::Automatic),
        None if !arguments.peers.is_empty() => Some(Place::Peer),
        None => None,
    };
    let remote = matches!(place, Some(Place::Peer | Place::Automatic));
    if remote {
        output.news("A stranger's computer will read what you write in this chat.");
    }
    let mut sampling = chat.sampling.clone();
    sampling.max_out = arguments.max_out.unwrap_or(sampling.max_out);
    sampling.temperature = arguments.temperature.unwrap_or(sampling.temperature);
    sampling.seed = arguments
        .seed
        .map(|seed| seed.to_string())
        .or(sampling.seed);
    let patch = ChatPatch {
        model: arguments.model.clone().map(Some),
        place,
        // One peer is the chosen one; of several, whoever is best, and the others when it is lost.
        peer: match peers.as_slice() {
            [] => None,
            [only] => Some(Some(only.clone())),
            _ => Some(None),
        },
        // The flag is the consent: its help says so.
        consented: remote.then_some(true),
        system_prompt: arguments.system.clone().map(Some),
        sampling: Some(sampling),
        on_full: None,
    };
    Ok(core.client.chat_update(&chat.id, patch).await?)
}

/// Connects with every peer that was named. One that does not answer is only told, unless it is the last one.
async fn connect(
    core: &Core,
    addresses: &[String],
    output: &mut Output,
    stop: &Stop,
) -> Result<Vec<String>, Failure> {
    let mut connected = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        output.progress(&format!("connecting to {address}"));
        let connecting = core.client.peers_connect(address);
        let peer = tokio::select! {
            peer = connecting => peer,
            () = stop.asked() => return Err(Failure::Interrupted),
        };
        match peer {
            Ok(peer) => connected.push(peer.id),
            Err(failure) if connected.is_empty() && number + 1 == addresses.len() => {
                return Err(failure.into());
            }
            Err(error) => output.news(&format!("{address}: {}", error.message)),
        }
    }
    output.clear_progress();
    Ok(connected)
}

/// Asks, and shows the answer to its end. The first Ctrl-C stops it where it is; the second one leaves at once. Returns the
/// answer and the id of the message that it answers.
async fn ask(
    core: &Core,
    chat: &str,
    wanted: Wanted,
    json: bool,
    output: &mut Output,
    stop: &Stop,
) -> Result<(Answer, Option<String>), Failure> {
    let client = &core.client;
    let mut events = match wanted {
        Wanted::Say { below, text } => client.chat_send(chat, below.as_deref(), Some(text)).await?,
        Wanted::Again(question) => client.chat_send(chat, Some(&question), None).await?,
        Wanted::Rest(answer) => client.chat_continue(chat, &answer).await?,
    };
    let mut question = None;
    let mut answer = Answer::new(json);
    let before = stop.count();
    let mut stopping = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = stop.asked_after(before), if !stopping => {
                stopping = true;
                // A progress line would take the place of the answer's last one.
                if !answer.has_text() {
                    output.progress("stopping");
                }
                core.client.chat_stop(chat).await?;
                continue;
            }
            () = stop.asked_after(before + 1) => return Err(Failure::Interrupted),
        };
        let Some(event) = event else {
            return Ok((answer, question));
        };
        if let AnswerEvent::Started { answer, .. } = &event {
            question = answer.parent.clone();
        }
        answer.show(&event, output)?;
    }
}

/// Where the next answer is computed, for the prompt of a person.
fn place_of(chat: &ChatView) -> String {
    match chat.place {
        Place::Local => "this computer".to_owned(),
        Place::Peer => chat.peer.as_deref().map_or_else(
            || "a peer's computer".to_owned(),
            |peer| answer::place(Some(peer)),
        ),
        Place::Automatic => "this computer or a peer's".to_owned(),
    }
}
