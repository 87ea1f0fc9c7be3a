//! Two computers, as two data folders with the real programs: one serves, the other one asks.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use decentralgpt_tests::{Folder, QUESTION, Running, SYSTEM, Serving, run, starter};
use serde_json::Value;

#[test]
fn a_computer_without_weights_is_answered_by_a_peer() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start(&starter);
    let asker = Folder::new();

    let said = run(asker.decentralgpt().args([
        "chat",
        "--peer",
        &serving.address,
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));

    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
    assert_eq!(
        said.out.trim_end().lines().count(),
        1,
        "more than the answer is on standard output:\n{}",
        said.out
    );
    // The head is there, since text is made here; none of the weights behind it are.
    let head = decentralgpt_tests::head_len(&starter);
    for file in asker.files("gguf") {
        let length = std::fs::metadata(&file).unwrap().len();
        assert_eq!(
            length,
            head,
            "{} is no head: the asking folder holds weights",
            file.display()
        );
    }
}

#[test]
fn both_sides_keep_the_receipt_that_both_signed() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start(&starter);
    let asker = Folder::new();

    let said = run(asker.decentralgpt().args([
        "chat",
        "--json",
        "--peer",
        &serving.address,
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));

    assert_eq!(said.code(), Some(0), "{}", said.err);
    let events: Vec<Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.first().unwrap()["kind"], "started");
    let finished = events.last().unwrap();
    assert_eq!(finished["kind"], "finished", "{finished}");
    assert_eq!(finished["message"]["state"], "complete");
    let spans = finished["message"]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0]["peer"], serving.peer.as_str());
    assert!(spans[0]["receipt"].is_string(), "no receipt: {}", spans[0]);

    // The provider's own count, asked of the running node through its control socket. Its countersignature is on its way
    // when the asker ends, so it is looked for until it is there; a hang ends the test.
    loop {
        let status = run(serving.folder().decentralgpt().args(["status", "--json"]));
        assert_eq!(status.code(), Some(0), "{}", status.err);
        let status: Value = serde_json::from_str(&status.out).unwrap();
        if status["answeredToday"] == 1 {
            break;
        }
        assert_eq!(status["answeredToday"], 0, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn this_computer_answers_by_itself() {
    let Some(starter) = starter() else { return };
    let folder = Folder::new();

    let said = run(folder.decentralgpt_with(&starter).args([
        "chat",
        "--place",
        "local",
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));

    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
}

#[test]
fn a_command_beside_a_serving_node_is_done_by_that_one() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start(&starter);

    let said = run(serving.folder().decentralgpt().args([
        "chat",
        "--place",
        "local",
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));

    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
}

#[test]
fn ctrl_c_ends_serving_politely() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start(&starter);
    let asker = Folder::new();
    serving.program.signal(libc::SIGINT);

    let Serving {
        program, address, ..
    } = serving;
    let ended = program.wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.err);

    let said = run(asker
        .decentralgpt()
        .args(["chat", "--peer", &address, "--system", SYSTEM, QUESTION]));
    said.is_a_failure_that_says(&[]);
}

#[test]
fn ctrl_c_stops_an_answer_and_keeps_what_is_there() {
    let Some(starter) = starter() else { return };
    let folder = Folder::new();
    let mut chat = Running::start(folder.decentralgpt_with(&starter).args([
        "chat",
        "--json",
        "--place",
        "local",
        "--temperature",
        "0",
        "--max-out",
        "1000",
        decentralgpt_tests::LONG_QUESTION,
    ]));
    let mut last = Value::Null;
    while let Some(line) = chat.line() {
        last = serde_json::from_str(&line).unwrap();
        if last["kind"] == "text" {
            chat.signal(libc::SIGINT);
            break;
        }
    }
    assert_eq!(last["kind"], "text", "no text before the end: {last}");
    while let Some(line) = chat.line() {
        last = serde_json::from_str(&line).unwrap();
    }
    let said = chat.wait();
    assert_eq!(said.code(), Some(130), "{}", said.err);
    assert_eq!(last["kind"], "finished", "{last}");
    assert_eq!(last["message"]["state"], "stopped");
    assert!(!last["message"]["content"].as_str().unwrap().is_empty());
}
