//! The signing window: the only place where words and passwords are, and the only way to a signature.

use decentralgpt_tests::QUESTION;
use serde_json::{Value, json};

use crate::Bench;
use crate::page::App;
use crate::processes::{Process, below};
use crate::webdriver::Element;

/// Typed in this test and found nowhere else.
const PASSWORD: &str = "violet-anvil-97-ostrich";

#[test]
fn a_wallet_is_made_in_a_window_of_its_own_and_no_other_process_hears_of_it() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    // The engine's worker runs from here on.
    app.ask(QUESTION);
    app.wait_for_answer();
    let main = app.window();
    let before = below(app.process());
    let main_pages: Vec<Process> = before.iter().filter(|p| p.draws_pages()).cloned().collect();
    assert!(!main_pages.is_empty(), "{before:?}");

    app.script(
        "window.__TAURI_INTERNALS__.invoke('sign_open', { intent: { kind: 'create' } }) \
            .then(outcome => { window.outcome = outcome; }, error => { window.outcome = JSON.stringify(error); })",
        json!([]),
    );
    let signing = app.wait("the signing window", || {
        app.windows().into_iter().find(|window| *window != main)
    });
    app.take(&signing);
    app.wait_for_text("Create a wallet");
    let fields = app.wait("two fields for the password", || {
        let fields = elements(&app, "input[type=password]");
        (fields.len() == 2).then_some(fields)
    });
    for field in &fields {
        app.type_into(field, PASSWORD);
    }
    let its_page = app.wait("a web process of its own", || {
        below(app.process())
            .into_iter()
            .find(|process| process.draws_pages() && !main_pages.contains(process))
    });
    // A search that cannot find proves nothing.
    assert!(its_page.remembers(PASSWORD), "the search finds nothing");
    nobody_knows(&app, &main_pages, &[PASSWORD.to_owned()]);

    app.click_button("Continue");
    app.wait_for_text("Your 24 words");
    bench.picture(&app, "signing-words-light");
    let words: Vec<String> = serde_json::from_value(app.script(
        "return [...document.querySelectorAll('ol.words li')].map(line => line.innerText.trim())",
        json!([]),
    ))
    .unwrap();
    assert_eq!(words.len(), 24, "{words:?}");
    let secrets = secrets(&words);
    nobody_knows(&app, &main_pages, &secrets);

    app.click_button("I wrote them down");
    app.wait_for_text("Which words did you write?");
    let asked: Vec<usize> = serde_json::from_value(app.script(
        "return document.body.innerText.match(/Word \\d+/g).map(label => Number(label.slice(5)))",
        json!([]),
    ))
    .unwrap();
    let fields = elements(&app, "input");
    assert_eq!((asked.len(), fields.len()), (3, 3), "{asked:?}");
    for (field, place) in fields.iter().zip(&asked) {
        app.type_into(field, &words[place - 1]);
    }
    app.click_button("Check");
    app.wait_for_text("Done");
    app.click_button("Close");
    app.take(&main);
    app.wait("the window to close", || {
        (app.windows().len() == 1).then_some(())
    });
    let outcome = app.wait("the outcome", || {
        let outcome = app.script("return window.outcome ?? null", json!([]));
        outcome.as_str().map(str::to_owned)
    });
    assert_eq!(outcome, "done");
    let file = std::fs::read_to_string(bench.folder.path().join("wallet.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["backed_up"], true);

    nobody_knows(&app, &main_pages, &secrets);
    assert!(
        !on_disk(bench.folder.path(), &secrets),
        "a secret is on the disk"
    );
    app.quit();
}

#[test]
fn the_main_window_signs_nothing_and_sees_no_words() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    let main = app.window();
    refuses_everything(&app);
    assert!(
        !bench.folder.path().join("wallet.json").exists(),
        "the main window made a wallet"
    );

    // Also while the signing window is open, and for what it is open for.
    app.script(
        "window.__TAURI_INTERNALS__.invoke('sign_open', { intent: { kind: 'deposit', amount: '1000' } }) \
            .then(outcome => { window.outcome = outcome; })",
        json!([]),
    );
    let signing = app.wait("the signing window", || {
        app.windows().into_iter().find(|window| *window != main)
    });
    refuses_everything(&app);
    let busy = app.invoke("sign_open", json!({ "intent": { "kind": "unlock" } }));
    assert!(busy.unwrap_err().contains("signing_busy"));

    // The signing window has none of the main window's commands.
    app.take(&signing);
    for command in [
        "chats_list",
        "settings_get",
        "node_status",
        "copy_text",
        "sign_open",
    ] {
        assert!(app.invoke(command, json!({})).is_err(), "{command}");
    }
    // It confirms no digest that it was not shown, and what needs a signature is not done without one.
    let confirmed = app.invoke(
        "sign_confirm",
        json!({ "digest": "0x00", "password": null }),
    );
    assert!(confirmed.unwrap_err().contains("signing_other_preview"));
    let finished = app.invoke("sign_finish", json!({}));
    assert!(finished.unwrap_err().contains("signing_not_done"));
    // The window goes with it, and with the window whoever would hear the answer.
    app.script(
        "setTimeout(() => window.__TAURI_INTERNALS__.invoke('sign_cancel', {}), 100)",
        json!([]),
    );
    app.take(&main);
    let outcome = app.wait("the outcome", || {
        let outcome = app.script("return window.outcome ?? null", json!([]));
        outcome.as_str().map(str::to_owned)
    });
    assert_eq!(outcome, "cancelled");
    app.quit();
}

/// Every command of the signing window, with arguments that it would take there.
fn refuses_everything(app: &App<'_>) {
    for (command, arguments) in [
        ("sign_intent", json!({})),
        ("sign_preview", json!({})),
        (
            "sign_confirm",
            json!({ "digest": "0x00", "password": PASSWORD }),
        ),
        ("sign_cancel", json!({})),
        ("sign_finish", json!({})),
        ("wallet_create", json!({ "password": PASSWORD })),
        (
            "wallet_import",
            json!({ "words": "", "password": PASSWORD }),
        ),
        (
            "wallet_import_v3",
            json!({ "file": "{}", "filePassword": "", "password": PASSWORD }),
        ),
        ("wallet_unlock", json!({ "password": PASSWORD })),
        (
            "wallet_change_password",
            json!({ "old": PASSWORD, "fresh": PASSWORD }),
        ),
        (
            "wallet_export",
            json!({ "password": PASSWORD, "filePassword": PASSWORD }),
        ),
        ("words_show", json!({ "password": PASSWORD })),
        ("words_ask", json!({ "password": PASSWORD })),
        ("words_check", json!({ "words": [] })),
    ] {
        let refused = app.invoke(command, arguments).expect_err(command);
        // Refused before it runs, and not by what it would have said.
        assert!(
            refused.contains("not allowed"),
            "{command} answered: {refused}"
        );
    }
}

/// Nothing outside of the signing window's own process and the program itself holds any of these.
fn nobody_knows(app: &App<'_>, main_pages: &[Process], secrets: &[String]) {
    let all = below(app.process());
    for process in &all {
        for secret in secrets {
            assert!(!process.was_told(secret), "{process:?} was told a secret");
        }
    }
    let workers: Vec<&Process> = all
        .iter()
        // The system cuts names after 15 letters.
        .filter(|process| process.name.starts_with("decentralgpt-wo"))
        .collect();
    assert!(!workers.is_empty(), "the engine's worker runs: {all:?}");
    for process in main_pages.iter().chain(workers) {
        for secret in secrets {
            assert!(!process.remembers(secret), "{process:?} holds a secret");
        }
    }
}

/// What to look for: the password, and three words in a row in the forms in which programs write lists.
fn secrets(words: &[String]) -> Vec<String> {
    let mut secrets = vec![PASSWORD.to_owned()];
    for between in [" ", "\n", "\",\"", ", "] {
        secrets.push(words[..3].join(between));
        secrets.push(words[12..15].join(between));
    }
    secrets
}

fn elements(app: &App<'_>, selector: &str) -> Vec<Element> {
    let found = app.script(
        "return [...document.querySelectorAll(arguments[0])]",
        json!([selector]),
    );
    found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Element::from_value)
        .collect()
}

fn on_disk(folder: &std::path::Path, secrets: &[String]) -> bool {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .any(|path| {
            if path.is_dir() {
                return on_disk(&path, secrets);
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            secrets.iter().any(|secret| {
                bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            })
        })
}
