//! The signing window as a person uses it: what it shows is read, and confirmed or not.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Bench,
    page::App,
    processes::{Process, below},
    webdriver::Element,
};

/// A window opens in far less, also beside compilers.
const AGAIN: Duration = Duration::from_secs(10);

/// What the page shows before a signature: names and values, as they are read.
const READ: &str = "
    const text = element => element.innerText.trim();
    const rows = selector => [...document.querySelectorAll(selector)].map(row =>
        [text(row.querySelector('dt')), [...row.querySelectorAll('dd')].map(text)]);
    const digest = document.querySelector('.digest code');
    return digest && {
        title: text(document.querySelector('h1')),
        figures: Object.fromEntries(rows('.figures > div')),
        call: Object.fromEntries(rows('.call > div').map(([name, [value]]) => [name, value])),
        digest: text(digest),
        passes: document.querySelector('p.good') !== null,
    };
";

/// What is about to be signed.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Shown {
    pub title: String,
    /// What leaves, to whom, the fee, and what is left.
    pub figures: BTreeMap<String, Vec<String>>,
    /// The call, decoded.
    pub call: BTreeMap<String, String>,
    pub digest: String,
    /// It was tried beforehand, and went through.
    pub passes: bool,
}

impl Shown {
    pub(crate) fn figure(&self, name: &str) -> &[String] {
        self.figures
            .get(name)
            .unwrap_or_else(|| panic!("no {name:?} in {self:?}"))
    }
}

/// The open window, with the driver's hand in it. The main window has it again afterwards.
pub(crate) struct Signing<'a, 'd> {
    app: &'a App<'d>,
    main: String,
}

impl<'a, 'd> Signing<'a, 'd> {
    /// Waits for the window; the driver is in the main one until then.
    pub(crate) fn of(app: &'a App<'d>) -> Self {
        let main = app.window();
        let opened = app.wait("the signing window", || {
            app.windows().into_iter().find(|window| *window != main)
        });
        app.take(&opened);
        Self { app, main }
    }

    /// Opens the window by a button of the page. A click on a page that is just being drawn anew may go nowhere, and a person
    /// clicks again; while the window opens, the button cannot be pressed.
    pub(crate) fn by(app: &'a App<'d>, button: &str) -> Self {
        let main = app.window();
        let mut clicked: Option<Instant> = None;
        let opened = app.wait(&format!("the signing window by {button:?}"), || {
            let opened = app.windows().into_iter().find(|window| *window != main);
            if opened.is_none() && clicked.is_none_or(|at| at.elapsed() > AGAIN) {
                app.click(&app.find_button(button)?);
                clicked = Some(Instant::now());
            }
            opened
        });
        app.take(&opened);
        Self { app, main }
    }

    /// Types the password of a new wallet, both times.
    pub(crate) fn choose_password(&self, password: &str) {
        let app = self.app;
        let fields = app.wait("two fields for the password", || {
            let fields = elements(app, "input[type=password]");
            (fields.len() == 2).then_some(fields)
        });
        for field in &fields {
            app.type_into(field, password);
        }
    }

    /// The words on the page, in their order.
    pub(crate) fn words(&self) -> Vec<String> {
        self.app.wait_for_text("Your 24 words");
        let words: Vec<String> = serde_json::from_value(self.app.script(
            "return [...document.querySelectorAll('ol.words li')].map(line => line.innerText.trim())",
            json!([]),
        ))
        .unwrap();
        assert_eq!(words.len(), 24, "{words:?}");
        words
    }

    /// Types the words that are asked back.
    pub(crate) fn type_asked(&self, words: &[String]) {
        let app = self.app;
        app.wait_for_text("Which words did you write?");
        let asked: Vec<usize> = serde_json::from_value(app.script(
            "return document.body.innerText.match(/Word \\d+/g).map(label => Number(label.slice(5)))",
            json!([]),
        ))
        .unwrap();
        let fields = elements(app, "input");
        assert_eq!((asked.len(), fields.len()), (3, 3), "{asked:?}");
        for (field, place) in fields.iter().zip(&asked) {
            app.type_into(field, &words[place - 1]);
        }
    }

    /// What is about to be signed, once it is shown.
    pub(crate) fn shown(&self) -> Shown {
        let app = self.app;
        let shown = app.wait("a preview", || {
            Some(app.script(READ, json!([]))).filter(|shown| !shown.is_null())
        });
        serde_json::from_value(shown).unwrap()
    }

    /// Types the password of a locked wallet.
    pub(crate) fn type_password(&self, password: &str) {
        let field = self.app.wait_for("input[type=password]");
        self.app.type_into(&field, password);
    }

    /// Clicks the button that ends the window, and waits until it is gone.
    pub(crate) fn end_with(self, button: &str) {
        self.app.click_closing_button(button);
        self.app.take(&self.main);
        self.app.wait("the signing window to close", || {
            (self.app.windows().len() == 1).then_some(())
        });
    }

    /// Signs what is shown, as it is shown.
    pub(crate) fn sign(self) {
        self.end_with("Sign and send");
    }
}

/// Makes a wallet where the page offers it, and says its words.
pub(crate) fn make_wallet(bench: &Bench, app: &App<'_>, password: &str) -> Vec<String> {
    let signing = Signing::by(app, "Create a wallet");
    app.wait_for_text("Create a wallet");
    signing.choose_password(password);
    bench.pictures(app, "signing-create");
    app.click_button("Continue");
    let words = signing.words();
    bench.pictures(app, "signing-words");
    app.click_button("I wrote them down");
    signing.type_asked(&words);
    bench.pictures(app, "signing-ask");
    app.click_button("Check");
    app.wait_for_text("Done");
    signing.end_with("Close");
    words
}

/// What to look for: the password, and three words in a row in the forms in which programs write lists.
pub(crate) fn secrets(password: &str, words: &[String]) -> Vec<String> {
    let mut secrets = vec![password.to_owned()];
    for between in [" ", "\n", "\",\"", ", "] {
        secrets.push(words[..3].join(between));
        secrets.push(words[12..15].join(between));
    }
    secrets
}

/// The web processes of the windows that are open now.
pub(crate) fn pages(app: &App<'_>) -> Vec<Process> {
    let mut all = below(app.process());
    all.retain(Process::draws_pages);
    assert!(!all.is_empty(), "no web process");
    all
}

/// Nothing outside of the signing window's own process and the program itself holds any of these.
pub(crate) fn nobody_knows(app: &App<'_>, main_pages: &[Process], secrets: &[String]) {
    let all = below(app.process());
    for process in &all {
        assert_eq!(process.was_told(secrets), None, "{process:?} was told");
    }
    let workers: Vec<&Process> = all
        .iter()
        // The system cuts names after 15 letters.
        .filter(|process| process.name.starts_with("decentralgpt-wo"))
        .collect();
    assert!(!workers.is_empty(), "the engine's worker runs: {all:?}");
    for process in main_pages.iter().chain(workers) {
        assert_eq!(process.remembers(secrets), None, "{process:?} remembers");
    }
}

/// No file of the computer holds any of these: its data, what its web view keeps, and what its programs logged.
pub(crate) fn nothing_is_written(bench: &Bench, secrets: &[String]) {
    for folder in [bench.folder.path(), bench.desk.path()] {
        let found = holder(folder, secrets);
        assert!(found.is_none(), "a secret is in {found:?}");
    }
}

fn holder(folder: &std::path::Path, secrets: &[String]) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|entry| {
            let path = entry.path();
            // A link leads out of what is searched.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                return holder(&path, secrets);
            }
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let bytes = match is_file {
                true => std::fs::read(&path).unwrap_or_default(),
                false => Vec::new(),
            };
            let held = secrets.iter().any(|secret| {
                bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            });
            held.then_some(path)
        })
}

pub(crate) fn elements(app: &App<'_>, selector: &str) -> Vec<Element> {
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

/// What the page heard of the window that it asked for.
pub(crate) fn outcome(app: &App<'_>) -> String {
    app.wait("the outcome", || {
        let outcome = app.script("return window.outcome ?? null", json!([]));
        outcome.as_str().map(str::to_owned)
    })
}

/// Asks for the signing window from the page, as a script of it could.
pub(crate) fn open_by_script(app: &App<'_>, intent: &Value) {
    app.script(
        "window.__TAURI_INTERNALS__.invoke('sign_open', { intent: arguments[0] }) \
            .then(outcome => { window.outcome = outcome; }, error => { window.outcome = JSON.stringify(error); })",
        json!([intent]),
    );
}
