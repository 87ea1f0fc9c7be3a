//! What a person does with the window, in a person's words.

use std::ops::Deref;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::webdriver::{Driver, Element, PATIENCE, Session, keys};

/// Reads the newest answer: the model's text, the footer, everything, and whether it is still being written.
const NEWEST_ANSWER: &str = "
    const article = [...document.querySelectorAll('main article')].at(-1);
    if (!article) return null;
    const read = selector => article.querySelector(selector)?.innerText ?? '';
    return [read('.prose'), read('footer'), article.innerText, article.getAttribute('aria-busy') === 'true'];
";

/// The window, and the process behind it.
pub(crate) struct App<'d> {
    session: Session<'d>,
    process: i32,
}

/// An answer as it is read on the page.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the model wrote.
    pub text: String,
    /// Where it was computed, and how fast.
    pub footer: String,
    /// All of it, with what is said between the two.
    pub all: String,
    busy: bool,
}

impl<'d> Deref for App<'d> {
    type Target = Session<'d>;

    fn deref(&self) -> &Session<'d> {
        &self.session
    }
}

impl<'d> App<'d> {
    pub(crate) fn new(driver: &'d Driver, session: Session<'d>) -> Self {
        let process = *driver
            .children()
            .last()
            .expect("the app is a child of the driver");
        let app = Self { session, process };
        // What the page's own rules refuse is kept, to be read by `complaints`.
        app.script(
            "window.complaints = []; document.addEventListener('securitypolicyviolation', e => \
             window.complaints.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`))",
            json!([]),
        );
        app
    }

    /// The program's process.
    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    /// Waits until the keyboard is in the field with this label.
    pub(crate) fn wait_until_focused(&self, label: &str) {
        self.wait(&format!("the keyboard in {label:?}"), || {
            let focused = self.script(
                "return document.activeElement?.getAttribute('aria-label')",
                json!([]),
            );
            (focused.as_str() == Some(label)).then_some(())
        });
    }

    /// Types a message into the composer and sends it.
    pub(crate) fn ask(&self, message: &str) {
        let composer = self.wait_for("textarea[aria-label='Ask anything']");
        self.type_into(&composer, message);
        self.type_into(&composer, keys::ENTER);
    }

    /// The newest answer, once it is finished.
    pub(crate) fn wait_for_answer(&self) -> Answer {
        self.wait("a finished answer", || {
            self.answer().filter(|answer| !answer.busy)
        })
    }

    /// The text of an answer that is being written, once it has this many words.
    pub(crate) fn wait_for_words(&self, words: usize) -> String {
        self.wait(&format!("{words} words of an answer"), || {
            let text = self.answer()?.text;
            // The last word may still grow.
            let whole: Vec<&str> = text.split(' ').collect();
            (whole.len() > words).then(|| whole[..words].join(" "))
        })
    }

    fn answer(&self) -> Option<Answer> {
        let read = self.script(NEWEST_ANSWER, json!([]));
        let part = |index: usize| Some(read.get(index)?.as_str()?.trim().to_owned());
        Some(Answer {
            text: part(0)?,
            footer: part(1)?,
            all: part(2)?,
            busy: read.get(3)?.as_bool()?,
        })
    }

    pub(crate) fn new_chat(&self) {
        self.click_button("New chat");
        self.wait("an empty chat", || {
            self.find("main article").is_none().then_some(())
        });
        self.wait_until_focused("Ask anything");
    }

    /// The titles in the sidebar, newest first.
    pub(crate) fn chats(&self) -> Vec<String> {
        let titles = self.script(
            "return [...document.querySelectorAll(\"nav[aria-label='Chats'] li > button\")].map(button => button.innerText.trim())",
            json!([]),
        );
        titles
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|title| title.as_str().map(str::to_owned))
            .collect()
    }

    pub(crate) fn wait_for_chats(&self, count: usize) {
        self.wait(&format!("{count} chats in the sidebar"), || {
            (self.chats().len() == count).then_some(())
        });
    }

    /// Opens a chat by its place in the sidebar.
    pub(crate) fn open_chat(&self, index: usize) {
        let title = self.chats()[index].clone();
        let button = format!(
            "nav[aria-label='Chats'] li:nth-child({}) > button",
            index + 1
        );
        self.click_on(&button);
        self.wait(&format!("the chat {title:?}"), || {
            self.find(&format!("{button}[aria-current='page']"))
        });
    }

    /// Lets the model take the likeliest word each time, so that a small one gives the same answer twice.
    pub(crate) fn be_greedy(&self) {
        self.click_button("More for this chat");
        self.click_by_text("[role=menuitem]", "Chat settings");
        self.click_by_text("[role=dialog] button", "Sampling");
        let temperature = self.wait_for("[role=dialog] input[type=number]");
        self.set_value(&temperature, "0");
        self.press(keys::ESCAPE);
        self.wait("the settings to close", || {
            self.find("[role=dialog]").is_none().then_some(())
        });
    }

    /// Goes to a place by the rail.
    pub(crate) fn go(&self, place: &str) {
        self.click_by_text("nav[aria-label='Places'] button", place);
        self.wait(&format!("the place {place}"), || {
            let here = self.script(
                "return document.querySelector(\"nav[aria-label='Places'] button[aria-current='page']\")?.innerText.trim()",
                json!([]),
            );
            (here.as_str() == Some(place)).then_some(())
        });
    }

    /// Clicks the one switch.
    pub(crate) fn switch(&self, on: bool) {
        self.click_on(&format!(
            "main [role=switch][aria-label='Lend this computer'][aria-checked='{}']",
            !on
        ));
    }

    /// The addresses that the invite shows.
    pub(crate) fn invite(&self) -> Vec<String> {
        self.click_button("Show my invite");
        let addresses = self.wait("addresses in the invite", || {
            let found = self.script("return [...document.querySelectorAll('[role=dialog] li span')].map(line => line.innerText.trim())", json!([]));
            let found: Vec<String> = found.as_array()?.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
            (!found.is_empty()).then_some(found)
        });
        self.press(keys::ESCAPE);
        self.wait("the invite to close", || {
            self.find("[role=dialog]").is_none().then_some(())
        });
        addresses
    }

    /// The figure of a tile on the Node page.
    pub(crate) fn tile(&self, name: &str) -> Option<String> {
        let figure = self.script(
            "const name = [...document.querySelectorAll('main dt')].find(dt => dt.innerText.trim() === arguments[0]); \
             return name?.nextElementSibling?.firstElementChild?.innerText.trim()",
            json!([name]),
        );
        figure.as_str().map(str::to_owned)
    }

    /// Connects to a peer by its address.
    pub(crate) fn connect(&self, address: &str) {
        self.go("Node");
        let field = self.wait_for("main form input");
        self.type_into(&field, address);
        self.type_into(&field, keys::ENTER);
    }

    /// Chooses where this chat's answers are computed.
    pub(crate) fn choose_place(&self, place: &str) {
        self.click_on(&format!("main [role=radiogroup] [data-value='{place}']"));
    }

    /// Clicks a choice by its value.
    pub(crate) fn choose(&self, value: &str) {
        self.click_on(&format!("main [role=radio][data-value='{value}']"));
    }

    /// Clicks a button by what it says, or by its label.
    pub(crate) fn click_button(&self, words: &str) {
        self.click_by_text("button", words);
    }

    /// Clicks a button that closes its window.
    pub(crate) fn click_closing_button(&self, words: &str) {
        self.click_closing(&self.wait_by_text("button", words));
    }

    fn click_by_text(&self, selector: &str, words: &str) {
        self.click(&self.wait_by_text(selector, words));
    }

    fn wait_by_text(&self, selector: &str, words: &str) -> Element {
        self.wait(&format!("a button {words:?}"), || {
            self.find_by_text(selector, words)
        })
    }

    fn find_by_text(&self, selector: &str, words: &str) -> Option<Element> {
        // Menus and rails put more into a button than its words: the first line counts. What cannot be pressed is waited for.
        let found = self.script(
            "return [...document.querySelectorAll(arguments[0])].find(e => !e.disabled && \
             (e.getAttribute('aria-label') === arguments[1] || e.innerText.trim().split('\\n')[0].trim() === arguments[1])) ?? null",
            json!([selector, words]),
        );
        Element::from_value(&found)
    }

    /// Types over what an input holds.
    fn set_value(&self, input: &Element, value: &str) {
        self.click(input);
        self.press_with(keys::CONTROL, "a");
        self.press(keys::BACKSPACE);
        self.type_into(input, value);
        self.press(keys::TAB);
    }

    /// Types into the field with this label, over what it holds.
    pub(crate) fn fill(&self, label: &str, value: &str) {
        let field = self.wait(&format!("a field {label:?}"), || {
            let found = self.script(
                "const label = [...document.querySelectorAll('label')].find(label => label.innerText.trim() === arguments[0]); \
                 return label ? document.getElementById(label.htmlFor) : null",
                json!([label]),
            );
            Element::from_value(&found)
        });
        self.set_value(&field, value);
        // A dialog that still comes in has its buttons elsewhere a moment later.
        self.settle();
    }

    /// What stands beside a name in the open dialog.
    pub(crate) fn value_of(&self, name: &str) -> String {
        self.wait(&format!("a value of {name:?}"), || {
            let found = self.script(
                "const name = [...document.querySelectorAll('[role=dialog] dt')].find(dt => dt.innerText.trim() === arguments[0]); \
                 return name?.nextElementSibling?.innerText.trim() ?? null",
                json!([name]),
            );
            found.as_str().map(str::to_owned)
        })
    }

    /// Closes the dialog that is open.
    pub(crate) fn close_dialog(&self) {
        self.press(keys::ESCAPE);
        self.wait("the dialog to close", || {
            self.find("[role=dialog]").is_none().then_some(())
        });
    }

    /// The button with these words or this label, if there is one now.
    pub(crate) fn find_button(&self, words: &str) -> Option<Element> {
        self.find_by_text("button", words)
    }

    /// Draws the page light or dark, whatever its setting is: both are looked at.
    pub(crate) fn paint(&self, dark: bool) {
        self.script(
            "document.documentElement.classList.toggle('dark', arguments[0])",
            json!([dark]),
        );
    }

    /// Scrolls the place down by a screenful; false at its end.
    pub(crate) fn scroll_on(&self) -> bool {
        self.script(
            "const place = document.querySelector('main > div'); const before = place.scrollTop; \
             place.scrollBy({ top: place.clientHeight * 0.9, behavior: 'instant' }); return place.scrollTop > before",
            json!([]),
        )
        .as_bool()
        .unwrap_or_default()
    }

    /// Scrolls the place to its top.
    pub(crate) fn scroll_up(&self) {
        self.script(
            "document.querySelector('main > div').scrollTo({ top: 0, behavior: 'instant' })",
            json!([]),
        );
    }

    /// Waits until the screen shows what the page is: two frames, and the longest of the look's transitions (180 ms).
    pub(crate) fn settle(&self) {
        self.script_async(
            "const done = arguments[arguments.length - 1]; \
             requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 400)))",
        );
    }

    pub(crate) fn is_dark(&self) -> bool {
        self.script(
            "return document.documentElement.classList.contains('dark')",
            json!([]),
        )
        .as_bool()
        .unwrap_or_default()
    }

    /// Whether a hostile message stayed text: no picture, no script of its own, nothing ran.
    pub(crate) fn is_unharmed(&self) -> bool {
        self.script(
            "return window.owned === undefined && document.querySelector('main img, main script, main iframe') === null",
            json!([]),
        )
        .as_bool()
        .unwrap_or_default()
    }

    /// What the page tried and its own rules refused.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let found = self.script("return window.complaints", json!([]));
        found
            .as_array()
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect()
    }

    /// Asks the program to end, as the system does at log-out, and waits until it has.
    pub(crate) fn quit(self) {
        self.signal(libc::SIGTERM);
        self.wait_until_gone();
    }

    /// Ends the program without asking.
    pub(crate) fn kill(self) {
        self.signal(libc::SIGKILL);
        self.wait_until_gone();
    }

    pub(crate) fn is_alive(&self) -> bool {
        // A process that ended and was not waited for is still listed, as a zombie.
        std::fs::read_to_string(format!("/proc/{}/stat", self.process))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: sends a signal, touches no memory.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(self.process, signal) };
        assert_eq!(sent, 0, "the app is not there any more");
    }

    fn wait_until_gone(&self) {
        let begun = Instant::now();
        while self.is_alive() {
            assert!(begun.elapsed() < PATIENCE, "the app does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
