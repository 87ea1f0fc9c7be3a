//! A small WebDriver client: the few requests that the desktop test needs, over plain HTTP to WebKitWebDriver.
//!
//! Every failure panics with what was asked and what came back: a test has no better use for it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a request may take: starting the app is one of them, on a machine that also compiles.
const REQUEST: Duration = Duration::from_secs(120);
/// How long [`Session::wait`] looks for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// The key under which WebDriver wraps an element (the specification's own constant).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that are not letters, as WebDriver writes them.
pub(crate) mod keys {
    pub(crate) const ENTER: &str = "\u{e007}";
    pub(crate) const ESCAPE: &str = "\u{e00c}";
    pub(crate) const BACKSPACE: &str = "\u{e003}";
    pub(crate) const TAB: &str = "\u{e004}";
    pub(crate) const CONTROL: &str = "\u{e009}";
}

/// A running WebKitWebDriver.
pub(crate) struct Driver {
    port: u16,
    process: Child,
    log: PathBuf,
}

impl Driver {
    /// Starts the driver with `environment`, which the app inherits; what both say is written to `log`.
    pub(crate) fn start(environment: &[(String, String)], log: &Path) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let said = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let process = Command::new("WebKitWebDriver")
            .args([format!("--port={port}"), "--host=127.0.0.1".to_owned()])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("TAURI_WEBVIEW_AUTOMATION", "true")
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let driver = Self {
            port,
            process,
            log: log.to_owned(),
        };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < REQUEST, "WebKitWebDriver does not listen");
            std::thread::sleep(LOOK);
        }
        driver
    }

    /// Starts `binary` and takes hold of its window.
    pub(crate) fn open(&self, binary: &str, arguments: &[&str]) -> Session<'_> {
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "webkitgtk:browserOptions": { "binary": binary, "args": arguments }
        }}});
        let answer = self
            .request("POST", "/session", Some(&capabilities))
            .expect("the app's window");
        let id = answer["sessionId"]
            .as_str()
            .expect("a session id")
            .to_owned();
        Session { driver: self, id }
    }

    /// The process ids of the programs that the driver started.
    pub(crate) fn children(&self) -> Vec<i32> {
        let id = self.process.id();
        let children =
            std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .collect()
    }

    /// One request; the answer's `value`, or the driver's error as text.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream
            .set_read_timeout(Some(REQUEST))
            .map_err(|error| error.to_string())?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()))
            .map_err(|error| error.to_string())?;
        let answer =
            read_answer(&mut stream).map_err(|error| format!("{method} {path}: {error}"))?;
        let mut answer: Value = serde_json::from_str(&answer)
            .map_err(|error| format!("{method} {path}: {error}: {answer}"))?;
        let value = answer["value"].take();
        match value.get("error") {
            Some(error) => Err(format!("{method} {path}: {error}: {}", value["message"])),
            None => Ok(value),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            println!("the programs said:\n{said}");
        }
    }
}

/// The body of an HTTP answer. The driver keeps its connections open, so the length in the head decides.
fn read_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|length| length.trim().parse().ok())
                .ok_or_else(|| std::io::Error::other("an answer without a length"))?;
            if bytes.len() >= end + 4 + length {
                return String::from_utf8(bytes[end + 4..end + 4 + length].to_vec())
                    .map_err(std::io::Error::other);
            }
        }
        match stream.read(&mut block)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&block[..count]),
        }
    }
}

/// The app's window under the driver's hand.
pub(crate) struct Session<'d> {
    driver: &'d Driver,
    id: String,
}

/// Something on the page.
#[derive(Debug, Clone)]
pub(crate) struct Element(String);

impl Element {
    /// An element that a script returned.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        Some(Self(value.get(ELEMENT)?.as_str()?.to_owned()))
    }
}

impl Session<'_> {
    /// Runs a function body in the page; `arguments[0]` and so on are `arguments`.
    pub(crate) fn script(&self, body: &str, arguments: Value) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            Some(&json!({ "script": body, "args": arguments })),
        )
    }

    /// Runs a function body in the page until it calls its last argument.
    pub(crate) fn script_async(&self, body: &str) {
        self.ask(
            "POST",
            "/execute/async",
            Some(&json!({ "script": body, "args": [] })),
        );
    }

    /// Calls a command of the program from the page, as a script of the page could: its answer, or its refusal as text.
    pub(crate) fn invoke(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let answer = self.ask(
            "POST",
            "/execute/async",
            Some(&json!({
                "script": "const done = arguments[arguments.length - 1]; \
                    window.__TAURI_INTERNALS__.invoke(arguments[0], arguments[1]).then( \
                        value => done(JSON.stringify({ value: value ?? null })), \
                        error => done(JSON.stringify({ refusal: typeof error === 'string' ? error : JSON.stringify(error) })))",
                "args": [command, arguments],
            })),
        );
        // As text: the driver reads some objects as its own errors.
        let answer = answer.as_str().expect("an answer as text");
        let answer: Value = serde_json::from_str(answer).expect("an answer in JSON");
        match answer["refusal"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["value"].clone()),
        }
    }

    /// The windows of the program.
    pub(crate) fn windows(&self) -> Vec<String> {
        let handles = self.ask("GET", "/window/handles", None);
        serde_json::from_value(handles).unwrap_or_default()
    }

    /// The window that everything else here is done in.
    pub(crate) fn window(&self) -> String {
        let handle = self.ask("GET", "/window", None);
        handle.as_str().expect("a window").to_owned()
    }

    /// Takes hold of another window.
    pub(crate) fn take(&self, window: &str) {
        self.ask("POST", "/window", Some(&json!({ "handle": window })));
    }

    /// The first element that a CSS selector finds, if there is one now.
    pub(crate) fn find(&self, selector: &str) -> Option<Element> {
        let found = self
            .request(
                "POST",
                "/elements",
                Some(&json!({ "using": "css selector", "value": selector })),
            )
            .ok()?;
        Element::from_value(found.get(0)?)
    }

    /// The first element that a CSS selector finds, once there is one.
    pub(crate) fn wait_for(&self, selector: &str) -> Element {
        self.wait(&format!("an element {selector}"), || self.find(selector))
    }

    /// What `look` finds, once it finds something.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if begun.elapsed() >= PATIENCE {
                panic!(
                    "not within {PATIENCE:?}: {what}. The page says:\n{}",
                    self.text()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the page's visible text contains `words`.
    pub(crate) fn wait_for_text(&self, words: &str) {
        self.wait(&format!("the words {words:?}"), || {
            self.text().contains(words).then_some(())
        });
    }

    /// The page's visible text.
    pub(crate) fn text(&self) -> String {
        self.script("return document.body.innerText", json!([]))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Clicks the element, as a person does.
    pub(crate) fn click(&self, element: &Element) {
        self.ask(
            "POST",
            &format!("/element/{}/click", element.0),
            Some(&json!({})),
        );
    }

    /// Clicks what closes its window, which may be gone before the driver answers.
    pub(crate) fn click_closing(&self, element: &Element) {
        let path = format!("/element/{}/click", element.0);
        if let Err(error) = self.request("POST", &path, Some(&json!({}))) {
            assert!(error.contains("no such window"), "{error}");
        }
    }

    /// Waits for the element and clicks it.
    pub(crate) fn click_on(&self, selector: &str) {
        let element = self.wait_for(selector);
        self.click(&element);
    }

    /// Types into the element, as a person does.
    pub(crate) fn type_into(&self, element: &Element, text: &str) {
        self.ask(
            "POST",
            &format!("/element/{}/value", element.0),
            Some(&json!({ "text": text })),
        );
    }

    /// Types wherever the keyboard is.
    pub(crate) fn press(&self, text: &str) {
        let strokes: Vec<Value> = text
            .chars()
            .flat_map(|key| {
                [
                    json!({ "type": "keyDown", "value": key.to_string() }),
                    json!({ "type": "keyUp", "value": key.to_string() }),
                ]
            })
            .collect();
        self.ask(
            "POST",
            "/actions",
            Some(&json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })),
        );
    }

    /// Presses a key while another is held.
    pub(crate) fn press_with(&self, held: &str, key: &str) {
        let strokes = [
            ("keyDown", held),
            ("keyDown", key),
            ("keyUp", key),
            ("keyUp", held),
        ]
        .map(|(kind, key)| json!({ "type": kind, "value": key }));
        self.ask(
            "POST",
            "/actions",
            Some(&json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })),
        );
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.request(method, path, body)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.driver
            .request(method, &format!("/session/{}{path}", self.id), body)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // The app may be gone already, on purpose.
        let _ = self.request("DELETE", "", None);
    }
}
