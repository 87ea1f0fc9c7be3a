//! A model that is in no catalogue here, as whole programs: one computer serves it, the other one has no row for it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, time::Duration};

use decentralgpt_tests::{Folder, QUESTION, SYSTEM, Said, Serving, run, starter, wire};
use node::{AnswerEvent, ChatPatch, Node, NodeOptions, Place, Settings};
use serde_json::Value;

/// A provider is found by the first or second look; one that is found by none of these is not there.
const LOOKS: usize = 8;

/// How often it is looked whether an offer is at hand, and how long.
const LOOK: Duration = Duration::from_millis(50);
const HANG: Duration = Duration::from_secs(30);

#[test]
fn a_model_that_no_row_names_is_listed_when_switched_on_looked_at_and_asked_for_by_name() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start_offering(Folder::new(), &starter);
    let (asker, id) = (Folder::without_the_starter(""), id_of(&starter));
    let connected =
        json(
            asker
                .decentralgpt()
                .args(["peers", "--json", "connect", &serving.address]),
        );
    assert_eq!(connected["models"], Value::Array(Vec::new()), "{connected}");
    assert_eq!(connected["unlisted"], 1, "{connected}");

    let off = json(asker.decentralgpt().args(["models", "community", "--json"]));
    assert_eq!(
        (&off["on"], off["rows"].as_array().unwrap().len()),
        (&Value::Bool(false), 0)
    );
    let said = run(asker.decentralgpt().args(["models", "community"]));
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(
        said.err.contains("next: ") && said.out.is_empty(),
        "{}{}",
        said.out,
        said.err
    );
    let look = ["models", "community", "--look", &id, "--json"];
    run(asker.decentralgpt().args(look)).is_a_failure_that_says(&["off"]);

    let on = run(asker.decentralgpt().args(["models", "community", "--on"]));
    assert_eq!(on.code(), Some(0), "{}", on.err);
    let rows = (0..LOOKS).find_map(|_| {
        let listed = json(asker.decentralgpt().args(["models", "community", "--json"]));
        assert_eq!(listed["on"], true);
        let rows = listed["rows"].as_array().unwrap().clone();
        (!rows.is_empty()).then_some(rows)
    });
    let rows = rows.expect("the provider's model was never listed");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["id"], &rows[0]["peers"]),
        (&Value::from(id.clone()), &Value::from(1))
    );
    assert_eq!(
        (&rows[0]["says"], &rows[0]["heads"]),
        (&Value::Null, &Value::from(1))
    );
    let known = json(asker.decentralgpt().args(["models", "list", "--json"]));
    assert!(
        !known.to_string().contains(&id["sha256:".len()..]),
        "it is among the known ones"
    );

    let seen = json(asker.decentralgpt().args(look));
    let name = seen["says"]["name"].as_str().unwrap().to_owned();
    assert!(!name.is_empty() && seen["name"] == name.as_str(), "{seen}");
    assert_eq!(
        (&seen["says"]["architecture"], &seen["says"]["runsHere"]),
        (&Value::from("llama"), &Value::Bool(true))
    );

    let said = ask(
        &asker,
        &["--json", "--peer", &serving.address, "--model", &id],
    );
    assert_eq!(said.code(), Some(0), "{}", said.err);
    let finished: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    let message = &finished["message"];
    assert!(
        message["content"].as_str().unwrap().contains("Paris"),
        "{message}"
    );
    assert_eq!(
        (&message["model"], &message["unlisted"]),
        (&Value::from(name), &Value::Bool(true))
    );
    let job = message["spans"][0]["receipt"].as_str().expect("a receipt");
    let receipt = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::start(NodeOptions::new(asker.path())).await.unwrap();
        let receipt = node.receipt_open(job).await.unwrap();
        node.stop().await;
        receipt
    });
    assert!(receipt.unlisted, "{receipt:?}");
    assert_eq!(receipt.model_digest, id["sha256:".len()..]);
}

#[test]
fn what_no_row_names_is_never_asked_for_by_chance() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start_offering(Folder::new(), &starter);
    for settings in ["", "community_models = true\n"] {
        let asker = Folder::without_the_starter(settings);
        // The chosen peer has nothing else.
        ask(&asker, &["--peer", &serving.address])
            .is_a_failure_that_says(&["not in your catalogue", "community models"]);
        // Nor is it there for who asks whoever is there.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(asks_whoever_is_there(&asker, &serving));
    }
    let status = json(serving.folder().decentralgpt().args(["status", "--json"]));
    assert_eq!(status["answeredToday"], 0, "{status}");
}

#[test]
fn a_chat_that_names_a_digest_is_answered_while_the_list_is_off() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start_offering(Folder::new(), &starter);
    let asker = Folder::without_the_starter("");
    let said = ask(
        &asker,
        &["--peer", &serving.address, "--model", &id_of(&starter)],
    );
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
    assert!(said.err.contains("not in your catalogue"), "{}", said.err);
}

/// Asks with such an offer at hand, in chats that name neither a model nor a peer.
async fn asks_whoever_is_there(asker: &Folder, serving: &Serving) {
    let node = Node::start(NodeOptions::new(asker.path())).await.unwrap();
    let before = node.settings_get();
    let on = Settings {
        community_models: true,
        ..before.clone()
    };
    node.settings_set(on).await.unwrap();
    node.peers_connect(&serving.address).await.unwrap();
    let listed = async {
        while node.community_list().await.rows.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(HANG, listed)
        .await
        .expect("the provider's offer was never at hand");
    node.settings_set(before).await.unwrap();
    for place in [Place::Peer, Place::Automatic] {
        let chat = node.chat_create(true).await.unwrap();
        let patch = ChatPatch {
            place: Some(place),
            consented: Some(true),
            ..ChatPatch::default()
        };
        node.chat_update(&chat.id, patch).await.unwrap();
        let question = Some(QUESTION.to_owned());
        let mut events = node.chat_send(&chat.id, None, question).await.unwrap();
        let mut refused = None;
        while let Some(event) = events.recv().await {
            if let AnswerEvent::Finished { message, .. } = event {
                refused = message.error.map(|error| error.code);
            }
        }
        assert_eq!(refused.as_deref(), Some("no_peer"), "{place:?}");
    }
    node.stop().await;
}

fn id_of(starter: &Path) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let text = wire::Text::new(starter);
        let digest = text.reference().await.digest;
        text.end().await;
        format!("sha256:{digest}")
    })
}

fn json(command: &mut std::process::Command) -> Value {
    let said = run(command);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

fn ask(folder: &Folder, more: &[&str]) -> Said {
    let mut command = folder.decentralgpt();
    command.args(["chat", "--system", SYSTEM, "--temperature", "0"]);
    run(command.args(more).arg(QUESTION))
}
