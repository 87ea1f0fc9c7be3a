//! The real window on a virtual screen, driven as a person drives it: keys, clicks, and what can be read.
//!
//! Everything here runs the programs that people start. Pictures of every place, light and dark, are left in
//! `target/shots` for a person to judge.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod community;
mod desk;
mod links;
mod money;
mod page;
mod processes;
mod signature;
mod signing;
mod voting;
mod webdriver;

use std::path::{Path, PathBuf};

use decentralgpt_tests::{
    Folder, LONG_QUESTION, QUESTION, SYSTEM, Serving, head_len, program, root, run, starter,
};
use desk::Desk;
use page::App;
use webdriver::{Driver, keys};

/// A message that would run, were it ever taken for a part of the page.
const HOSTILE: &str = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>";

#[test]
fn a_first_run_chats_stops_and_finds_its_history_after_a_restart() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();

    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    app.wait_for_text("Starter");
    bench.picture(&app, "first-run-light");

    app.be_greedy();
    app.ask(QUESTION);
    let answer = app.wait_for_answer();
    assert!(answer.text.contains("Paris"), "{answer:?}");
    assert!(answer.footer.contains("This computer"), "{answer:?}");
    assert!(answer.footer.contains("tokens/s"), "{answer:?}");
    bench.picture(&app, "chat-light");

    app.new_chat();
    app.ask(LONG_QUESTION);
    let begun = app.wait_for_words(8);
    bench.picture(&app, "answering-light");
    app.press(keys::ESCAPE);
    let stopped = app.wait_for_answer();
    assert!(stopped.all.contains("Stopped by you."), "{stopped:?}");
    assert!(
        stopped.text.starts_with(&begun),
        "text was lost: {begun:?} and then {:?}",
        stopped.text
    );

    app.new_chat();
    app.ask(HOSTILE);
    app.wait_for_answer();
    app.wait_for_text(HOSTILE);
    assert!(app.is_unharmed(), "a message became a part of the page");
    let titles = app.chats();
    assert_eq!(titles.len(), 3, "{titles:?}");

    // The polite end: what the system sends at log-out.
    app.quit();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    app.wait_for_chats(3);
    assert_eq!(app.chats(), titles);
    app.open_chat(2);
    let again = app.wait_for_answer();
    assert_eq!(again.text, answer.text);
    app.open_chat(1);
    app.wait_for_text("Stopped by you.");

    // The other end: what a power cut does.
    app.new_chat();
    app.ask(LONG_QUESTION);
    let begun = app.wait_for_words(20);
    // Text is on disk within a second of being on screen.
    std::thread::sleep(std::time::Duration::from_secs(2));
    app.kill();
    let app = bench.open(&driver);
    app.wait_for_chats(4);
    app.open_chat(0);
    app.wait_for_text("The app closed before this answer was finished.");
    let kept = app.wait_for_answer();
    assert!(
        kept.text.starts_with(&begun),
        "text was lost: {begun:?} and then {:?}",
        kept.text
    );
    app.quit();
}

#[test]
fn the_switch_serves_a_second_computer_and_off_is_off() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);

    app.go("Node");
    app.wait_for_text("Lend this computer");
    bench.picture(&app, "node-off-light");
    app.switch(true);
    app.wait_for_text("Ready for requests");
    let addresses = app.invite();
    let address = addresses
        .iter()
        .find(|address| address.contains("/tcp/"))
        .expect("an address over TCP");
    assert!(
        addresses
            .iter()
            .all(|address| address.starts_with("/ip4/127.0.0.1/")),
        "{addresses:?}"
    );

    let asker = Folder::new();
    let said = run(asker.decentralgpt().args([
        "chat",
        "--peer",
        address,
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));
    assert!(
        said.status.success() && said.out.contains("Paris"),
        "{said:?}"
    );
    let head = head_len(&bench.starter);
    for file in asker.files("gguf") {
        let length = std::fs::metadata(&file).unwrap().len();
        assert_eq!(length, head, "{} holds weights", file.display());
    }
    app.wait("one answer today", || {
        (app.tile("Answered today")? == "1").then_some(())
    });
    app.wait_for_text("stop");
    bench.picture(&app, "node-on-light");

    app.switch(false);
    app.wait_for_text("Off in ");
    let refused = run(Folder::new()
        .decentralgpt()
        .args(["chat", "--peer", address, QUESTION]));
    assert!(!refused.status.success(), "it still answers: {refused:?}");
    app.quit();
}

#[test]
fn a_strangers_answer_is_asked_for_once_and_marked() {
    let Some(bench) = Bench::new() else { return };
    let peer = Serving::start(&bench.starter);
    let driver = bench.driver();
    let app = bench.open(&driver);

    app.connect(&peer.address);
    app.wait_for_text("Connected to");
    app.wait_for_text("SmolLM2");
    app.go("Chat");
    app.choose_place("peer");
    app.wait_for_text("A stranger's computer will read this.");
    app.be_greedy();
    app.ask(QUESTION);
    app.wait_for_text(
        "Your question and the conversation so far go to a computer that somebody else owns.",
    );
    bench.picture(&app, "consent-light");
    assert_eq!(
        app.chats(),
        [""; 0],
        "something was sent before the consent"
    );
    app.click_button("Send to a peer");
    let answer = app.wait_for_answer();
    assert!(answer.footer.contains("A peer's computer"), "{answer:?}");
    bench.picture(&app, "chat-peer-light");
    app.click_button("Receipt");
    app.wait_for_text("signed by both sides · not checked");
    bench.picture(&app, "receipt-light");
    app.press(keys::ESCAPE);

    // Asked once for each chat.
    app.ask("And of Italy?");
    let second = app.wait_for_answer();
    assert!(second.footer.contains("A peer's computer"), "{second:?}");
    app.quit();
}

#[test]
fn every_place_stands_in_light_and_dark() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.be_greedy();
    app.ask("List three colours of the rainbow.");
    app.wait_for_answer();
    for theme in ["light", "dark"] {
        app.go("Settings");
        app.choose(theme);
        app.wait(&format!("the {theme} theme"), || {
            (app.is_dark() == (theme == "dark")).then_some(())
        });
        for (place, words) in [
            ("Settings", "Appearance"),
            ("Chat", "This computer"),
            ("Models", "SmolLM2"),
            ("Node", "Lend this computer"),
        ] {
            app.go(place);
            app.wait_for_text(words);
            bench.picture(&app, &format!("{}-{theme}", place.to_lowercase()));
        }
    }
    assert_eq!(app.complaints(), [""; 0], "the page broke its own rules");
    app.quit();
}

#[test]
fn a_folder_that_a_server_holds_is_said_with_the_next_step() {
    let Some(bench) = Bench::new() else { return };
    let server = Serving::start_in(bench.folder(), &bench.starter);
    let driver = bench.driver();
    let app = bench.open_on(&driver, server.folder().path());
    app.wait_for_text("already uses the data folder");
    app.wait_for_text("Use the one that runs");
    bench.picture(&app, "folder-in-use-light");
    app.quit();
}

#[test]
fn a_second_start_ends_and_the_first_window_stays() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    let mut second = bench.command();
    let ended = second.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(app.is_alive());
    app.quit();
}

/// A desk, a data folder on it, and the starter.
struct Bench {
    desk: Desk,
    folder: Folder,
    starter: PathBuf,
}

impl Bench {
    /// Says by name what is missing, and that the test is skipped.
    fn new() -> Option<Self> {
        Self::on(Self::settings())
    }

    /// The same on a folder that was prepared.
    fn on(folder: Folder) -> Option<Self> {
        if let Some(tool) = desk::missing_tool() {
            println!("skipped: the desktop test ({tool} is not installed)");
            return None;
        }
        let starter = starter()?;
        Some(Self {
            desk: Desk::new(),
            folder,
            starter,
        })
    }

    /// The tests drive in light unless they say otherwise, whatever this machine prefers.
    fn settings() -> Folder {
        Folder::with_settings("theme = \"light\"\n")
    }

    fn folder(&self) -> Folder {
        Self::settings()
    }

    fn driver(&self) -> Driver {
        Driver::start(&self.environment(), &self.desk.log())
    }

    /// For windows that find no model but in their own folder.
    fn driver_without_models(&self) -> Driver {
        let mut environment = self.environment();
        environment.push(("DECENTRALGPT_MODELS".to_owned(), String::new()));
        Driver::start(&environment, &self.desk.log())
    }

    fn open<'d>(&self, driver: &'d Driver) -> App<'d> {
        self.open_on(driver, self.folder.path())
    }

    fn open_on<'d>(&self, driver: &'d Driver, folder: &Path) -> App<'d> {
        self.start(driver, folder, &[])
    }

    /// With what the system adds to the command line.
    fn open_with<'d>(&self, driver: &'d Driver, more: &[&str]) -> App<'d> {
        self.start(driver, self.folder.path(), more)
    }

    fn start<'d>(&self, driver: &'d Driver, folder: &Path, more: &[&str]) -> App<'d> {
        let binary = program("decentralgpt-desktop");
        let folder = folder.display().to_string();
        let arguments = [&["--data", &folder], more].concat();
        App::new(
            driver,
            driver.open(&binary.display().to_string(), &arguments),
        )
    }

    /// The window as a person starts it a second time, undriven.
    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(program("decentralgpt-desktop"));
        command
            .arg("--data")
            .arg(self.folder.path())
            .envs(self.environment());
        command
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.desk.environment();
        environment.push((
            "DECENTRALGPT_MODELS".to_owned(),
            self.starter.parent().unwrap().display().to_string(),
        ));
        environment
    }

    /// The page as it stands, light and dark.
    fn pictures(&self, app: &App<'_>, name: &str) {
        let set = app.is_dark();
        for (theme, dark) in [("light", false), ("dark", true)] {
            app.paint(dark);
            self.picture(app, &format!("{name}-{theme}"));
        }
        app.paint(set);
    }

    /// Light and dark, screen by screen down to the end of the place.
    fn pictures_down(&self, app: &App<'_>, name: &str) {
        app.scroll_up();
        self.pictures(app, name);
        let mut screen = 2;
        while app.scroll_on() {
            self.pictures(app, &format!("{name}-{screen}"));
            screen += 1;
        }
        app.scroll_up();
    }

    fn picture(&self, app: &App<'_>, name: &str) {
        app.settle();
        self.desk.picture(
            &root()
                .join("target")
                .join("shots")
                .join(format!("{name}.png")),
        );
    }
}
