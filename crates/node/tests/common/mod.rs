//! What the node's tests share: nodes on loopback with the real worker and, where it is at hand, the real starter.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::path::{Path, PathBuf};

use node::{
    AnswerEvent, ChatPatch, ChatView, Message, MoveReason, Node, NodeOptions, Place, Sampling,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The question that the starter answers rightly, greedy.
pub const QUESTION: &str = "What is the capital of France?";

/// A question with an answer long enough to be cut in the middle.
pub const LONG_QUESTION: &str = "Write a long story about a ship and its crew.";

/// A node and its folder.
pub struct TestNode {
    pub node: Node,
    pub folder: TempDir,
}

/// The folder of the starter, or a note that the test is skipped.
pub fn starter_folder() -> Option<PathBuf> {
    let beside =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let file = std::env::var_os("DECENTRALGPT_STARTER").map_or(beside, PathBuf::from);
    let worker = engine::locate_worker(&[worker_dir()]);
    if !file.is_file() {
        println!("skipped: the starter is not at {}", file.display());
        return None;
    }
    if let Err(error) = worker {
        println!("skipped: {error}");
        return None;
    }
    file.parent().map(Path::to_owned)
}

/// Where cargo puts programs beside tests.
pub fn worker_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().to_owned()
}

/// Settings that keep everything on this computer, then `more`.
pub fn loopback(more: &str) -> String {
    format!(
        "listen = [\"/ip4/127.0.0.1/tcp/0\", \"/ip4/127.0.0.1/udp/0/quic-v1\"]\nmdns = false\nmainline = false\n{more}"
    )
}

/// Options for a node in a folder, with these folders of models.
pub fn options(folder: &Path, models: &[PathBuf]) -> NodeOptions {
    NodeOptions {
        data: folder.to_owned(),
        worker_dirs: vec![worker_dir()],
        model_dirs: models.to_vec(),
        agent: "node-test/0".to_owned(),
    }
}

/// Starts a node on loopback.
pub async fn start(models: &[PathBuf]) -> TestNode {
    start_with(models, "").await
}

/// Starts a node on loopback with more settings.
pub async fn start_with(models: &[PathBuf], more: &str) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), loopback(more)).unwrap();
    let node = Node::start(options(folder.path(), models)).await.unwrap();
    TestNode { node, folder }
}

/// Starts a node that serves, and the address it is dialled at.
pub async fn provider(models: &[PathBuf]) -> (TestNode, String) {
    let provider = start_with(models, "serve_max_out = 2000\nregion = \"fr\"").await;
    let status = provider.node.node_switch(true).await.unwrap();
    assert_eq!(status.offered.len(), 1, "{status:?}");
    let address = status
        .listening
        .iter()
        .find(|address| address.contains("quic"))
        .unwrap();
    (provider, address.clone())
}

/// A greedy chat.
pub async fn greedy_chat(node: &Node, patch: ChatPatch) -> ChatView {
    let chat = node.chat_create(false).await.unwrap();
    let sampling = Sampling {
        max_out: 80,
        temperature: 0.0,
        ..Sampling::default()
    };
    node.chat_update(
        &chat.id,
        ChatPatch {
            sampling: Some(sampling),
            ..patch
        },
    )
    .await
    .unwrap()
}

/// A chat that goes to one peer, consented.
pub fn at_peer(peer: &str) -> ChatPatch {
    ChatPatch {
        place: Some(Place::Peer),
        peer: Some(Some(peer.to_owned())),
        consented: Some(true),
        ..ChatPatch::default()
    }
}

/// Everything that one answer told.
#[derive(Debug, Default)]
pub struct Told {
    pub text: String,
    /// Where it was computed, and from which token on.
    pub placed: Vec<(Option<String>, u32)>,
    /// Why it moved, each time.
    pub moved: Vec<MoveReason>,
    pub finished: Option<Message>,
    pub events: Vec<AnswerEvent>,
}

/// Reads an answer to its end.
pub async fn read(mut events: mpsc::Receiver<AnswerEvent>) -> Told {
    let mut told = Told::default();
    while let Some(event) = events.recv().await {
        note(&mut told, event);
    }
    told
}

/// Reads until the answer has at least so many tokens, and says whether it is still going on.
pub async fn read_tokens(
    events: &mut mpsc::Receiver<AnswerEvent>,
    told: &mut Told,
    least: u32,
) -> bool {
    while let Some(event) = events.recv().await {
        let enough = matches!(&event, AnswerEvent::Text { tokens, .. } if *tokens >= least);
        note(told, event);
        if enough {
            return true;
        }
    }
    false
}

/// Adds one event.
pub fn note(told: &mut Told, event: AnswerEvent) {
    match &event {
        AnswerEvent::Text { append, .. } => told.text.push_str(append),
        AnswerEvent::Placed { peer, index, why } => {
            told.placed.push((peer.clone(), *index));
            told.moved.extend(*why);
        }
        AnswerEvent::Finished { message, .. } => told.finished = Some(message.clone()),
        AnswerEvent::Started { .. } | AnswerEvent::Phase { .. } | AnswerEvent::Titled { .. } => {}
    }
    told.events.push(event);
}
