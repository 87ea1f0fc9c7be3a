//! More people ask one computer than it can answer at once: they wait in line, in the order in which they came.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use decentralgpt_tests::{Folder, LONG_QUESTION, Running, Said, Serving, starter};
use serde_json::Value;

/// Tokens of an answer that holds its place until it is stopped.
const LONG: &str = "6000";
/// Tokens of one that is soon over.
const SHORT: &str = "16";

/// Somebody who asks, with a data folder of his own.
struct Asker {
    chat: Running,
    _folder: Folder,
}

impl Asker {
    fn of(serving: &Serving, max_out: &str) -> Self {
        let folder = Folder::new();
        let chat = Running::start(folder.decentralgpt().args([
            "chat",
            "--json",
            "--peer",
            &serving.address,
            "--temperature",
            "0",
            "--max-out",
            max_out,
            LONG_QUESTION,
        ]));
        Self {
            chat,
            _folder: folder,
        }
    }

    /// Reads on until an event is what is looked for.
    fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        let mut heard = Vec::new();
        while let Some(line) = self.chat.line() {
            let event: Value = serde_json::from_str(&line).unwrap();
            if is(&event) {
                return;
            }
            heard.push(line);
        }
        panic!("it ended before {what}:\n{}", heard.join("\n"));
    }

    /// The answer has begun.
    fn begins(&mut self) {
        self.until("its answer began", |event| event["kind"] == "text");
    }

    /// It waits at this place of the line; 0 is none.
    fn waits_at(&mut self, place: u64) {
        self.until(&format!("place {place}"), |event| {
            event["phase"] == "queued" && event["done"] == place
        });
    }

    /// Stops the answer, as a person does.
    fn stops(self) -> Said {
        self.chat.signal(libc::SIGINT);
        self.chat.wait()
    }

    /// The answer is whole.
    fn ends(self) {
        let said = self.chat.wait();
        assert_eq!(said.code(), Some(0), "{}", said.err);
    }
}

/// Two whose answers are begun, and two in line. All of them sit behind one address: more of them have no place.
fn all_that_fit(serving: &Serving) -> [Asker; 4] {
    let mut computing = [LONG, LONG].map(|max_out| Asker::of(serving, max_out));
    computing.iter_mut().for_each(Asker::begins);
    let [first, second] = computing;
    let mut third = Asker::of(serving, SHORT);
    third.waits_at(1);
    let mut fourth = Asker::of(serving, SHORT);
    fourth.waits_at(2);
    [first, second, third, fourth]
}

#[test]
fn askers_wait_in_line_see_their_place_and_are_answered_in_their_order() {
    let Some(starter) = starter() else { return };
    let folder = Folder::with_settings(&format!("serve_max_out = {LONG}\n"));
    let serving = Serving::start_in(folder, &starter);

    let [first, second, mut third, mut fourth] = all_that_fit(&serving);
    // A fifth is told to come again.
    let mut fifth = Asker::of(&serving, SHORT);
    fifth.waits_at(0);

    // A place is free, and everybody moves up.
    assert_eq!(first.stops().code(), Some(130));
    third.begins();
    third.ends();
    fourth.begins();
    fourth.ends();
    fifth.begins();
    fifth.ends();
    assert_eq!(second.stops().code(), Some(130));
}

#[test]
fn whoever_goes_is_out_of_the_line_at_once() {
    let Some(starter) = starter() else { return };
    let folder = Folder::with_settings(&format!("serve_max_out = {LONG}\n"));
    let serving = Serving::start_in(folder, &starter);
    let [first, second, third, mut fourth] = all_that_fit(&serving);

    // One stops, and one is gone without a word.
    assert_eq!(third.stops().code(), Some(130));
    fourth.waits_at(1);
    fourth.chat.kill();
    let mut fifth = Asker::of(&serving, SHORT);
    fifth.waits_at(1);

    assert_eq!(first.stops().code(), Some(130));
    fifth.begins();
    fifth.ends();
    assert_eq!(second.stops().code(), Some(130));
}
